"""Corruptions of small grey images, after Hendrycks and Dietterich 2019 (ImageNet-C).

    corrupt(images, "blur", severity=2)

Images are (rows, channels, height, width) bytes, and so is what comes out. The same arguments give
the same images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Images = npt.NDArray[np.uint8]


def blur(images: Images, level: float, random: np.random.Generator) -> Images:
    """Gaussian blur; beyond an edge everything is as the edge."""
    sigma = (0, 0, level, level)
    return _to_bytes(ndimage.gaussian_filter(images.astype(np.float32), sigma, mode="nearest"))


def noise(images: Images, level: float, random: np.random.Generator) -> Images:
    """Gaussian noise on each pixel for itself."""
    return _to_bytes(images + 255 * level * random.standard_normal(images.shape, np.float32))


def contrast(images: Images, level: float, random: np.random.Generator) -> Images:
    """Each pixel's distance from its image's mean is multiplied by the level."""
    mean = images.mean(axis=(2, 3), keepdims=True)
    return _to_bytes((images - mean) * level + mean)


def shift(images: Images, level: int, random: np.random.Generator) -> Images:
    """Each image moves by the level in one of eight directions; what comes in is black."""
    directions = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    chosen = random.integers(len(directions), size=len(images))
    moved = np.empty_like(images)
    for number, (y, x) in enumerate(directions):
        rows = chosen == number
        moved[rows] = ndimage.shift(images[rows], (0, 0, y * level, x * level), order=0)
    return moved


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        apply: images, level and a source of random numbers to images.
        levels: at each severity, from 1.
        unit: what a level is.
    """

    apply: Callable[[Images, float, np.random.Generator], Images]
    levels: tuple[float, ...]
    unit: str


CORRUPTIONS = {
    "blur": Corruption(blur, (0.5, 1.0, 2.0), "deviation in pixels"),
    "noise": Corruption(noise, (0.1, 0.2, 0.4), "deviation, 1 is white"),
    "contrast": Corruption(contrast, (0.6, 0.3, 0.15), "factor"),
    "shift": Corruption(shift, (1, 2, 4), "pixels"),
}


def corrupt(images: Images, name: str, severity: int, seed: int = 0) -> Images:
    """The images under one of CORRUPTIONS.

    Args:
        images: (rows, channels, height, width) uint8; they stay as they are.
        name: the kind.
        severity: from 1; it chooses the level.
        seed: of noise and directions.

    Raises:
        ValueError: no such kind or severity, or images of another form.
    """
    kind = CORRUPTIONS.get(name)
    if kind is None or not 1 <= severity <= len(kind.levels):
        known = ", ".join(f"{each} 1 to {len(c.levels)}" for each, c in CORRUPTIONS.items())
        raise ValueError(f"no corruption {name!r} of severity {severity}; there are {known}")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            "images must be (rows, channels, height, width) uint8, not "
            f"{images.shape} {images.dtype}"
        )
    return kind.apply(images, kind.levels[severity - 1], np.random.default_rng(seed))


def _to_bytes(values: npt.NDArray[np.floating]) -> Images:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
