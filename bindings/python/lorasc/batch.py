"""Batches: rows of token ids, packed one after another without padding."""

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
    """Rows of token ids, with labels or regression targets.

    Args:
        rows: a list of token ids for each row, at least one id in each.
        labels: (rows,) classes; -100: the row has no loss.
        targets: (rows, num_labels) numbers for regression; (rows,) for one label.
        row_weights: (rows,) weights >= 0 in the loss; all 1 where absent.
        token_types: segment ids, lists as long as those of ``rows``; all 0 where absent.

    Attributes:
        tokens: (tokens,) int32.
        offsets: (rows + 1,) int64; row i is ``tokens[offsets[i]:offsets[i + 1]]``.
        token_types: (tokens,) int32 or None.
        labels: (rows,) int32 or None.
        targets: (rows, num_labels) float32 or None.
        row_weights: (rows,) float32 or None.

    Raises:
        DataError: arrays whose sizes do not fit together.
    """

    __slots__ = ("labels", "offsets", "row_weights", "targets", "token_types", "tokens")

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    token_types: npt.NDArray[np.int32] | None
    labels: npt.NDArray[np.int32] | None
    targets: npt.NDArray[np.float32] | None
    row_weights: npt.NDArray[np.float32] | None

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        *,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
        token_types: Sequence[Sequence[int]] | None = None,
    ) -> None:
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        types = None
        if token_types is not None:
            if [len(row) for row in token_types] != [len(row) for row in rows]:
                raise DataError(
                    Status.SHAPE, "token_types and rows differ in length", "token_types"
                )
            types = _join(token_types)
        self._set(_join(rows), offsets, types, labels, targets, row_weights)

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
    ) -> Batch:
        """A batch over packed arrays, not copied where type and layout are right.

        Args:
            tokens: (tokens,) ids, int32 for no copy.
            offsets: (rows + 1,) starts of the rows and the end, int64 for no copy.
            token_types: (tokens,), int32 for no copy.
            labels: (rows,), int32 for no copy.
            targets: (rows, num_labels), float32 for no copy.
            row_weights: (rows,), float32 for no copy.
        """
        batch = cls.__new__(cls)
        batch._set(tokens, offsets, token_types, labels, targets, row_weights)
        return batch

    def _set(
        self,
        tokens: npt.ArrayLike,
        offsets: npt.ArrayLike,
        token_types: npt.ArrayLike | None,
        labels: npt.ArrayLike | None,
        targets: npt.ArrayLike | None,
        row_weights: npt.ArrayLike | None,
    ) -> None:
        self.tokens = _array("tokens", tokens, np.int32)
        self.offsets = _array("offsets", offsets, np.int64)
        if len(self.offsets) == 0:
            raise DataError(Status.SHAPE, "offsets need one element more than rows", "offsets")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens):
            raise DataError(
                Status.SHAPE,
                f"offsets must go from 0 to {len(self.tokens)}, the number of tokens",
                "offsets",
            )
        rows = len(self.offsets) - 1
        self.token_types = _optional("token_types", token_types, np.int32, len(self.tokens))
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
        return Batch.packed(
            self.tokens[tokens],
            self.offsets[start : stop + 1] - self.offsets[start],
            token_types=None if self.token_types is None else self.token_types[tokens],
            labels=None if self.labels is None else self.labels[part],
            targets=None if self.targets is None else self.targets[part],
            row_weights=None if self.row_weights is None else self.row_weights[part],
        )

    def select(self, rows: npt.ArrayLike) -> Batch:
        """The rows of these indices in this order, copied."""
        chosen = np.asarray(rows, np.int64)
        spans = [slice(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        types = self.token_types
        return Batch(
            [self.tokens[span] for span in spans],  # type: ignore[misc]
            token_types=None if types is None else [types[span] for span in spans],  # type: ignore[misc]
            labels=None if self.labels is None else self.labels[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            row_weights=None if self.row_weights is None else self.row_weights[chosen],
        )

    def __repr__(self) -> str:
        kinds = [
            name for name in ("labels", "targets", "row_weights") if getattr(self, name) is not None
        ]
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
        return structs.Batch(
            struct_size=ctypes.sizeof(structs.Batch),
            rows=len(self),
            tokens=_address(self.tokens),
            offsets=_address(self.offsets),
            token_types=_address(self.token_types),
            labels=_address(self.labels),
            targets=_address(self.targets),
            row_weights=_address(self.row_weights),
        )


def _join(rows: Iterable[Sequence[int]]) -> npt.NDArray[np.int32]:
    # An empty list would make an array of floats; the library says which row is empty
    arrays = [np.asarray(row) if len(row) else np.zeros(0, np.int32) for row in rows]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)


def _array(name: str, values: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
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
    array = _array(name, values, dtype)
    if len(array) != size:
        raise DataError(Status.SHAPE, f"{name} must have {size} elements, not {len(array)}", name)
    return array


def _address(array: npt.NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
