"""Datasets: batches that the library reads from where they are, or asks for."""

from __future__ import annotations

import contextlib
import ctypes
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ._callback import Trampoline
from ._handle import Handle
from ._library import library
from ._signatures import RowsFunction
from .batch import Batch
from .errors import check

Reader = Callable[[npt.NDArray[np.intp]], Batch]
"""Gets row numbers, and returns a Batch of these rows in this order."""


class Dataset(Handle):
    """Rows for a run or an evaluation, used in place.

    The batch's arrays stay alive as long as the library needs them; do not change their
    contents meanwhile.

    Args:
        batch: the rows, with labels or targets.

    Raises:
        DataError: offsets that fall, or an empty row.
    """

    def __init__(self, batch: Batch) -> None:
        pointer = ctypes.c_void_p()
        check(library().lorasc_dataset_create(ctypes.byref(batch._struct()), ctypes.byref(pointer)))
        self._own(pointer, library().lorasc_dataset_free, batch)
        self._batch: Batch | None = batch
        self._reader: Reader | None = None

    @classmethod
    def from_function(cls, rows: int, function: Reader) -> Dataset:
        """A dataset whose rows a function gives while they are used.

        It is asked for at most ``batch_size`` examples at once, in the order of training, and its
        arrays are read without copies where Batch makes none. The same rows give the same bits as
        in memory; but a bad row is met only when its turn comes: the trainer is then as after its
        last whole step.

        Args:
            rows: how many there are.
            function: gets an array of row numbers, and returns a Batch of exactly these rows in
                this order. What it raises ends the call that asks, and is raised there.

        Raises:
            DataError: fewer than one row, or 2**31 and more.
        """
        return cls._asking(operator.index(rows), function, _rows_trampoline(function, None))

    @classmethod
    def _asking(cls, rows: int, function: Reader, trampoline: Trampoline) -> Dataset:
        dataset = cls.__new__(cls)
        pointer = ctypes.c_void_p()
        check(
            library().lorasc_dataset_from_callback(
                min(max(rows, 0), 2**31), trampoline.function, None, ctypes.byref(pointer)
            )
        )
        dataset._own(pointer, library().lorasc_dataset_free, trampoline)
        dataset._batch = None
        dataset._reader = function
        return dataset

    @property
    def batch(self) -> Batch | None:
        """The rows; None where a function gives them."""
        return self._batch

    @contextlib.contextmanager
    def _in_call(self, num_labels: int | None) -> Iterator[tuple[int, Trampoline | None]]:
        """A handle for one call of the library, and what may have raised in it.

        Several calls may ask at once, from threads or callbacks, and each has to raise its own
        errors.
        """
        if self._reader is None:
            if self._batch is not None:
                self._batch._struct(num_labels)
            yield self._handle, None
            return
        trampoline = _rows_trampoline(self._reader, num_labels)
        with Dataset._asking(len(self), self._reader, trampoline) as own:
            yield own._handle, trampoline

    def __len__(self) -> int:
        """The number of rows."""
        return int(library().lorasc_dataset_rows(self._handle))


def _rows_trampoline(function: Reader, num_labels: int | None) -> Trampoline:
    """For lorasc_dataset_from_callback."""
    kept: list[Any] = []  # what the library reads until it asks again

    def receive(pointer: Any) -> None:
        request = pointer.contents
        numbers = (ctypes.c_size_t * request.count).from_address(request.numbers)
        batch = function(np.array(numbers, np.intp))
        if not isinstance(batch, Batch):
            raise TypeError(f"a dataset's function must return a Batch, not {type(batch).__name__}")
        struct = batch._struct(num_labels)
        kept[:] = [batch, struct]
        request.batch = ctypes.addressof(struct)

    return Trampoline(RowsFunction, receive)


def as_dataset(data: Dataset | Batch) -> Dataset:
    """A dataset as it is, or one made from a batch."""
    return data if isinstance(data, Dataset) else Dataset(data)
