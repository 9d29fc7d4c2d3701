"""Datasets: batches that the library reads from where they are."""

from __future__ import annotations

import ctypes

from ._handle import Handle
from ._library import library
from .batch import Batch
from .errors import check


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
        self._batch = batch

    @property
    def batch(self) -> Batch:
        """The rows."""
        return self._batch

    def __len__(self) -> int:
        """The number of rows."""
        return int(library().lorasc_dataset_rows(self._handle))


def as_dataset(data: Dataset | Batch) -> Dataset:
    """A dataset as it is, or one made from a batch."""
    return data if isinstance(data, Dataset) else Dataset(data)
