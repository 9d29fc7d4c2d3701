"""Batches: rows of token ids, packed one after another without padding, or images."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from .errors import DataError, Status

IGNORED = -100
"""The label of a row without a loss."""


class Batch:
    """Rows of token ids with their labels; images by Batch.images().

    Args:
        rows: a list of token ids for each row, at least one id in each.
        labels: (rows,) classes; -100: the row has no loss.
        targets: (rows, num_labels) numbers for regression, or 0 to 1 for several labels at once;
            (rows,) for one label.
        row_weights: (rows,) weights >= 0 in the loss; all 1 where absent.
        token_types: segment ids, lists as long as those of ``rows``; all 0 where absent.
        token_labels: lists as long as those of ``rows``, -100: no loss. For the head "token"
            classes; for "lm" what should stand at each place, the rows themselves where absent.
        token_weights: weights >= 0 of the tokens' losses, lists as long as those of ``rows``.

    Attributes:
        tokens: (tokens,) int32.
        offsets: (rows + 1,) int64; row i is ``tokens[offsets[i]:offsets[i + 1]]``.
        token_types: (tokens,) int32 or None.
        labels: (rows,) int32 or None.
        targets: (rows, num_labels) float32 or None.
        row_weights: (rows,) float32 or None.
        token_labels: (tokens,) int32 or None.
        token_weights: (tokens,) float32 or None.
        pixels: (rows, channels, height, width) float32 or uint8, or None.
        pixel_mean, pixel_std: (channels,) float32 for uint8 pixels, or None.

    Raises:
        DataError: arrays whose sizes do not fit together.
    """

    __slots__ = (
        "labels",
        "offsets",
        "pixel_mean",
        "pixel_std",
        "pixels",
        "row_weights",
        "targets",
        "token_labels",
        "token_types",
        "token_weights",
        "tokens",
    )

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    token_types: npt.NDArray[np.int32] | None
    labels: npt.NDArray[np.int32] | None
    targets: npt.NDArray[np.float32] | None
    row_weights: npt.NDArray[np.float32] | None
    token_labels: npt.NDArray[np.int32] | None
    token_weights: npt.NDArray[np.float32] | None
    pixels: npt.NDArray[np.float32] | npt.NDArray[np.uint8] | None
    pixel_mean: npt.NDArray[np.float32] | None
    pixel_std: npt.NDArray[np.float32] | None

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        *,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
        token_types: Sequence[Sequence[int]] | None = None,
        token_labels: Sequence[Sequence[int]] | None = None,
        token_weights: Sequence[Sequence[float]] | None = None,
    ) -> None:
        lengths = [len(row) for row in rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])

        def beside(name: str, lists: Sequence[Sequence[Any]] | None) -> npt.NDArray[Any] | None:
            if lists is None:
                return None
            if [len(row) for row in lists] != lengths:
                raise DataError(Status.SHAPE, f"{name} and rows differ in length", name)
            return _join(lists)

        self._set(
            _join(rows),
            offsets,
            labels=labels,
            targets=targets,
            row_weights=row_weights,
            token_types=beside("token_types", token_types),
            token_labels=beside("token_labels", token_labels),
            token_weights=beside("token_weights", token_weights),
        )

    @classmethod
    def packed(
        cls,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        *,
        token_types: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
        token_labels: npt.ArrayLike | None = None,
        token_weights: npt.ArrayLike | None = None,
    ) -> Batch:
        """A batch over packed arrays, not copied where type and layout are right.

        Args:
            tokens: (tokens,) ids, int32 for no copy.
            offsets: (rows + 1,) starts of the rows and the end, int64 for no copy.
            token_types: (tokens,), int32 for no copy.
            labels: (rows,), int32 for no copy.
            targets: (rows, num_labels), float32 for no copy.
            row_weights: (rows,), float32 for no copy.
            token_labels: (tokens,), int32 for no copy.
            token_weights: (tokens,), float32 for no copy.
        """
        batch = cls.__new__(cls)
        batch._set(
            tokens,
            offsets,
            labels=labels,
            targets=targets,
            row_weights=row_weights,
            token_types=token_types,
            token_labels=token_labels,
            token_weights=token_weights,
        )
        return batch

    @classmethod
    def images(
        cls,
        pixels: npt.ArrayLike,
        *,
        mean: npt.ArrayLike | None = None,
        std: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
    ) -> Batch:
        """A batch of images.

        Args:
            pixels: (rows, channels, height, width); uint8, taken as (pixel / 255 - mean) / std by
                channel, or float32 as the model takes them; not copied where the layout is right.
            mean: (channels,), for uint8.
            std: (channels,), for uint8.
            labels: see Batch.
            targets: see Batch.
            row_weights: see Batch.
        """
        values = np.asarray(pixels)
        if values.ndim != 4:
            raise DataError(
                Status.SHAPE,
                f"pixels must be (rows, channels, height, width), not {values.shape}",
                "pixels",
            )
        is_bytes = values.dtype == np.uint8
        if not is_bytes and not np.issubdtype(values.dtype, np.floating):
            raise DataError(
                Status.SHAPE, f"pixels must be uint8 or floats, not {values.dtype}", "pixels"
            )
        if (mean is not None) != is_bytes or (std is not None) != is_bytes:
            raise DataError(
                Status.SHAPE, "uint8 pixels need mean and std, floats take none", "pixels"
            )
        batch = cls.__new__(cls)
        batch._set(
            np.zeros(0, np.int32),
            np.zeros(len(values) + 1, np.int64),
            labels=labels,
            targets=targets,
            row_weights=row_weights,
        )
        kind: Any = np.uint8 if is_bytes else np.float32
        batch.pixels = np.ascontiguousarray(values, kind)
        if is_bytes:
            channels = values.shape[1]
            batch.pixel_mean = _optional("mean", mean, np.float32, channels)
            batch.pixel_std = _optional("std", std, np.float32, channels)
        return batch

    def _set(
        self,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        *,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
        token_types: npt.ArrayLike | None = None,
        token_labels: npt.ArrayLike | None = None,
        token_weights: npt.ArrayLike | None = None,
    ) -> None:
        self.tokens = as_array("tokens", tokens, np.int32)
        self.offsets = as_array("offsets", offsets, np.int64)
        if len(self.offsets) == 0:
            raise DataError(Status.SHAPE, "offsets need one element more than rows", "offsets")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens):
            raise DataError(
                Status.SHAPE,
                f"offsets must go from 0 to {len(self.tokens)}, the number of tokens",
                "offsets",
            )
        rows = len(self.offsets) - 1
        count = len(self.tokens)
        self.token_types = _optional("token_types", token_types, np.int32, count)
        self.token_labels = _optional("token_labels", token_labels, np.int32, count)
        self.token_weights = _optional("token_weights", token_weights, np.float32, count)
        self.pixels = self.pixel_mean = self.pixel_std = None
        self.labels = _optional("labels", labels, np.int32, rows)
        self.row_weights = _optional("row_weights", row_weights, np.float32, rows)
        self.targets = None
        if targets is not None:
            values = np.ascontiguousarray(targets, np.float32)
            if values.ndim == 1:
                values = values[:, None]
            if values.ndim != 2 or len(values) != rows:
                raise DataError(
                    Status.SHAPE,
                    f"targets must be ({rows}, num_labels), not {values.shape}",
                    "targets",
                )
            self.targets = values

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """The token ids of one row, a view."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def __getitem__(self, rows: slice) -> Batch:
        """A run of rows without a step; tokens and labels are views, offsets are new."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("a slice of a batch has no step: use select()")
        stop = max(start, stop)
        tokens = slice(self.offsets[start], self.offsets[stop])
        part = slice(start, stop)
        return self._part(tokens, part, self.offsets[start : stop + 1] - self.offsets[start])

    def select(self, rows: npt.ArrayLike) -> Batch:
        """The rows of these indices in this order, copied."""
        chosen = np.asarray(rows, np.int64)
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        tokens = (
            np.concatenate(
                [np.arange(self.offsets[row], self.offsets[row + 1]) for row in chosen]
            ).astype(np.int64)
            if len(chosen)
            else np.zeros(0, np.int64)
        )
        return self._part(tokens, chosen, offsets)

    def _part(self, tokens: Any, rows: Any, offsets: npt.NDArray[np.int64]) -> Batch:
        """Some rows: indices of their tokens and of themselves, and their new offsets."""

        def of(values: Any, where: Any) -> Any:
            return None if values is None else values[where]

        part = Batch.__new__(Batch)
        part._set(
            self.tokens[tokens],
            offsets,
            labels=of(self.labels, rows),
            targets=of(self.targets, rows),
            row_weights=of(self.row_weights, rows),
            token_types=of(self.token_types, tokens),
            token_labels=of(self.token_labels, tokens),
            token_weights=of(self.token_weights, tokens),
        )
        part.pixels = of(self.pixels, rows)
        part.pixel_mean, part.pixel_std = self.pixel_mean, self.pixel_std
        return part

    def __repr__(self) -> str:
        names = ("labels", "targets", "row_weights", "token_labels", "token_weights")
        kinds = [name for name in names if getattr(self, name) is not None]
        if self.pixels is not None:
            size = " x ".join(str(side) for side in self.pixels.shape[1:])
            return f"Batch({len(self)} images of {size}{''.join(', ' + k for k in kinds)})"
        return (
            f"Batch({len(self)} rows, {len(self.tokens)} tokens{''.join(', ' + k for k in kinds)})"
        )

    def _struct(self, num_labels: int | None = None) -> structs.Batch:
        """The C struct: pointers into this batch's arrays, which must outlive it.

        ``num_labels`` is checked against the targets' width, which C cannot see.
        """
        if (
            self.targets is not None
            and num_labels is not None
            and self.targets.shape[1] != num_labels
        ):
            raise DataError(
                Status.SHAPE,
                f"targets have {self.targets.shape[1]} columns for {num_labels} labels",
                "targets",
            )
        struct = structs.Batch(
            struct_size=ctypes.sizeof(structs.Batch),
            rows=len(self),
            labels=_address(self.labels),
            targets=_address(self.targets),
            row_weights=_address(self.row_weights),
        )
        if self.pixels is None:
            struct.tokens = _address(self.tokens)
            struct.offsets = _address(self.offsets)
            struct.token_types = _address(self.token_types)
            struct.token_labels = _address(self.token_labels)
            struct.token_weights = _address(self.token_weights)
        else:
            struct.pixels = _address(self.pixels)
            struct.pixel_type = 1 if self.pixels.dtype == np.uint8 else 0
            _, struct.channels, struct.height, struct.width = self.pixels.shape
            struct.pixel_mean = _address(self.pixel_mean)
            struct.pixel_std = _address(self.pixel_std)
        return struct


def _join(rows: Iterable[Sequence[int]]) -> npt.NDArray[np.int32]:
    # An empty list would make an array of floats; the library says which row is empty
    arrays = [np.asarray(row) if len(row) else np.zeros(0, np.int32) for row in rows]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)


def as_array(name: str, values: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """Values in one dimension as the library takes them.

    Raises:
        DataError: values of another kind, or too large for the type.
    """
    array = np.asarray(values)
    if array.dtype != dtype:
        given = array
        if given.size and np.issubdtype(dtype, np.integer):
            if not np.issubdtype(given.dtype, np.integer):
                raise DataError(Status.SHAPE, f"{name} must be integers, not {given.dtype}", name)
            limits = np.iinfo(dtype)
            if given.min() < limits.min or given.max() > limits.max:
                raise DataError(Status.SHAPE, f"{name} do not fit into {limits.bits} bits", name)
        array = given.astype(dtype)
    if array.ndim != 1:
        raise DataError(Status.SHAPE, f"{name} must have one dimension, not {array.ndim}", name)
    return np.ascontiguousarray(array)


def _optional(
    name: str, values: npt.ArrayLike | None, dtype: Any, size: int
) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    array = as_array(name, values, dtype)
    if len(array) != size:
        raise DataError(Status.SHAPE, f"{name} must have {size} elements, not {len(array)}", name)
    return array


def _address(array: npt.NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
