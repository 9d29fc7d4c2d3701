"""The corruptions of the vision demo, and its data."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import fashion
import numpy as np
import pytest
from corruptions import CORRUPTIONS, corrupt

SEVERITIES = (1, 2, 3)
KINDS = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion.load(fashion.ADAPTED, train=1, dev=0, test=40)["test"].images


def level(name: str, severity: int) -> float:
    return CORRUPTIONS[name].levels[severity - 1]


@pytest.mark.parametrize(("name", "severity"), KINDS)
def test_the_same_arguments_give_the_same_images(
    images: np.ndarray, name: str, severity: int
) -> None:
    before = images.copy()
    found = corrupt(images, name, severity, seed=3)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(corrupt(images, name, severity, seed=3), found)
    np.testing.assert_array_equal(images, before)
    draws = name in ("noise", "shift")
    assert (corrupt(images, name, severity, seed=4) != found).any() == draws


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_rise(images: np.ndarray, name: str) -> None:
    distances = [np.abs(corrupt(images, name, s) - images.astype(float)).mean() for s in SEVERITIES]
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_spreads_a_point_as_a_gaussian(severity: int) -> None:
    point = np.zeros((1, 1, 29, 29), np.uint8)
    point[0, 0, 14, 14] = 255
    distance = np.arange(-14, 15)
    weights = np.exp(-(distance**2) / (2 * level("blur", severity) ** 2))
    expected = 255 * np.outer(weights, weights) / weights.sum() ** 2
    # The filter ends at four deviations, and bytes are rounded
    np.testing.assert_allclose(corrupt(point, "blur", severity)[0, 0], expected, atol=0.6)
    flat = np.full((1, 1, 28, 28), 77, np.uint8)
    np.testing.assert_array_equal(corrupt(flat, "blur", severity), flat)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_deviation(severity: int) -> None:
    gray = np.full((50, 1, 28, 28), 128, np.uint8)
    difference = (corrupt(gray, "noise", severity) - 128.0) / 255
    # Values beyond black and white are cut off, so the quartiles say what the deviation was
    quartiles = np.quantile(difference, (0.25, 0.75))
    assert np.diff(quartiles) == pytest.approx(1.349 * level("noise", severity), rel=0.03)
    assert quartiles.sum() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_keeps_the_mean(images: np.ndarray, severity: int) -> None:
    found = corrupt(images, "contrast", severity).astype(float)
    axes = (1, 2, 3)
    np.testing.assert_allclose(found.mean(axes), images.mean(axes), atol=0.5)
    # Rounding to bytes moves each pixel by up to a half
    expected = level("contrast", severity) * images.std(axes)
    np.testing.assert_allclose(found.std(axes), expected, atol=0.5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shift_moves_each_image_in_one_of_eight_directions(
    images: np.ndarray, severity: int
) -> None:
    pixels = int(level("shift", severity))
    wide = np.pad(images[:, 0], ((0, 0), (pixels, pixels), (pixels, pixels)))
    steps = (-1, 0, 1)
    candidates = np.stack(
        [
            wide[:, (1 - y) * pixels :, (1 - x) * pixels :][:, :28, :28]
            for y in steps
            for x in steps
            if (y, x) != (0, 0)
        ]
    )
    same = (candidates == corrupt(images, "shift", severity)[:, 0]).all(axis=(2, 3))
    assert same.any(axis=0).all()
    assert same.any(axis=1).all()


def test_mistakes(images: np.ndarray) -> None:
    for name, severity in (("rain", 1), ("blur", 0), ("blur", 4)):
        with pytest.raises(ValueError, match=f"no corruption '{name}' of severity {severity}"):
            corrupt(images, name, severity)
    for wrong in (images / 255, images[0]):
        with pytest.raises(ValueError, match="images must be"):
            corrupt(wrong, "blur", 1)


# ---- Data ---------------------------------------------------------------------------


def test_halves_and_parts() -> None:
    assert sorted(fashion.BACKBONE + fashion.ADAPTED) == sorted(fashion.CLASSES)
    parts = fashion.load(fashion.ADAPTED, train=30, dev=20, test=10)
    assert {name: part.images.shape for name, part in parts.items()} == {
        "train": (150, 1, 28, 28),
        "dev": (100, 1, 28, 28),
        "test": (50, 1, 28, 28),
    }
    for part in parts.values():
        counts = np.bincount(part.labels)
        assert (counts == len(part) // 5).all()
        assert (np.diff(part.labels) != 0).sum() > len(part) // 2
    seen = [image.tobytes() for part in parts.values() for image in part.images]
    assert len(set(seen)) == len(seen)


def test_labels_are_those_of_the_files() -> None:
    images = fashion.read_idx(fashion.FOLDER / "t10k-images-idx3-ubyte.gz")
    labels = fashion.read_idx(fashion.FOLDER / "t10k-labels-idx1-ubyte.gz")
    assert images.shape == (10000, 28, 28)
    names = {image.tobytes(): fashion.CLASSES[n] for image, n in zip(images, labels, strict=True)}
    for half in (fashion.BACKBONE, fashion.ADAPTED):
        test = fashion.load(half, train=1, dev=0, test=5)["test"]
        for image, label in zip(test.images, test.labels, strict=True):
            assert names[image.tobytes()] == half[label]


def test_counts_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="none can be below 0"):
        fashion.load(fashion.ADAPTED, train=1, dev=-1, test=1)
    with pytest.raises(ValueError, match="1001 images of 'Pullover' asked for, 1000 are there"):
        fashion.load(fashion.ADAPTED, train=1, dev=0, test=1001)


# Without the time of day: parallel runs must collect the same names.
zipped = functools.partial(gzip.compress, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not compressed", "Not a gzipped file"),
        (zipped(b"\0\0\x08\x01\0\0\0\x05four" * 3)[:-9], "ended before"),
        (zipped(b"\0\0\x08")[:10] + b"\xff" * 20, "invalid block type"),
        (zipped(b""), "not an IDX file"),
        (zipped(b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"), "not an IDX file"),
        (zipped(b"\0\0\x08\x03\0\0\0\x05"), "not an IDX file"),
        (zipped(b"\0\0\x08\x01\0\0\0\x05four"), r"4 bytes for \[5\] elements"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "file.gz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fashion.read_idx(file)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        fashion.load(fashion.ADAPTED, train=1, dev=1, test=1, folder=tmp_path)
