"""A real task from Debian's Fashion-MNIST: half of its classes for a backbone, half to adapt it to.

Images are 28 x 28 greys of clothes. Both halves have tops, shoes and something else, so that
what a backbone learns from one is of use for the other.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
BACKBONE = ("T-shirt/top", "Trouser", "Coat", "Sandal", "Bag")
"""Classes that the backbone is trained on."""

ADAPTED = ("Pullover", "Dress", "Shirt", "Sneaker", "Ankle boot")
"""Classes that it is adapted to."""


@dataclass(frozen=True)
class Part:
    """Images and the numbers of their classes, in the order of the files, which mixes classes.

    Attributes:
        images: (rows, 1, 28, 28) uint8.
        labels: (rows,) int32, places in the classes that were asked for.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)


def load(
    classes: tuple[str, ...], *, train: int, dev: int, test: int, folder: Path = FOLDER
) -> dict[str, Part]:
    """The parts "train" and "dev" from the 60,000 training images, "test" from the 10,000 others.

    Args:
        classes: out of CLASSES.
        train: images of each class, the first ones of the file.
        dev: the ones after these.
        test: the first ones of the test file.
        folder: where the four files are.

    Raises:
        FileNotFoundError: a file is missing; `apt install dataset-fashion-mnist` has them.
        ValueError: a file is not what it should be or has fewer images of a class; a count below 0.
    """
    if min(train, dev, test) < 0:
        raise ValueError(f"images of each class: {train}, {dev} and {test}, none can be below 0")
    fitted, held_out = _read(folder, "train"), _read(folder, "t10k")
    return {
        "train": _choose(*fitted, classes, slice(0, train)),
        "dev": _choose(*fitted, classes, slice(train, train + dev)),
        "test": _choose(*held_out, classes, slice(0, test)),
    }


def _choose(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    classes: tuple[str, ...],
    part: slice,
) -> Part:
    """A run of each class's images."""
    found = [np.flatnonzero(labels == CLASSES.index(name)) for name in classes]
    for name, rows in zip(classes, found, strict=True):
        if len(rows) < part.stop:
            raise ValueError(f"{part.stop} images of {name!r} asked for, {len(rows)} are there")
    rows = np.concatenate([each[part] for each in found])
    own = np.repeat(np.arange(len(classes), dtype=np.int32), part.stop - part.start)
    order = np.argsort(rows)
    return Part(images[rows[order]][:, None], own[order])


def _read(folder: Path, name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images and labels of one pair of files."""
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: {name} has images {images.shape} and labels {labels.shape}")
    return images, labels


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """A compressed IDX file of bytes: 0, 0, 8 for bytes, rank, sizes as big-endian 32 bits, bytes.

    Raises:
        FileNotFoundError, ValueError: as load() says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `apt install dataset-fashion-mnist` has it")
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error
    rank = content[3] if content[:3] == b"\0\0\x08" else None
    if rank is None or len(content) < 4 + 4 * rank:
        raise ValueError(f"{path}: not an IDX file of bytes")
    shape = np.frombuffer(content, ">u4", count=rank, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if shape.prod() != len(values):
        raise ValueError(f"{path}: {len(values)} bytes for {shape.tolist()} elements")
    return values.reshape(shape)
