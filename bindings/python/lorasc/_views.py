"""The library's memory as numpy arrays, for the time of a callback."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import StateError, Status


class _Memory:
    """What an array over foreign memory has as its base, and with it every view of that array."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any, writable: bool) -> None:
        self.__array_interface__ = {
            "version": 3,
            "typestr": np.dtype(dtype).str,
            "shape": shape,
            "data": (address, not writable),
        }


class Views:
    """Arrays over memory that is the library's again when the callback returns.

    numpy can't take an array back: one that was kept would read what is no longer there. So
    ``end()`` looks whether there is any.
    """

    def __init__(self) -> None:
        self._lent: list[weakref.ref[_Memory]] = []

    def array(
        self, address: int | None, shape: tuple[int, ...], dtype: Any, *, writable: bool = False
    ) -> npt.NDArray[Any] | None:
        """An array without a copy; None for NULL."""
        if address is None or math.prod(shape) == 0:
            return None
        memory = _Memory(address, shape, dtype, writable)
        self._lent.append(weakref.ref(memory))
        return np.asarray(memory)

    def end(self) -> None:
        """Raises StateError if an array is still in use."""
        if self._kept():
            gc.collect()  # arrays in reference cycles are not kept
        if self._kept():
            raise StateError(
                Status.STATE,
                "arrays of a callback are valid during its call only: keep copies of them",
                "arrays",
            )

    def _kept(self) -> bool:
        return any(memory() is not None for memory in self._lent)
