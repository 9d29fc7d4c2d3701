"""Named tensors and texts of a handle: listing them and copying them out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from .errors import check, encode_text
from .reports import TensorInfo


def list_tensors(
    handle: int, count: Callable[[int], int], info: Callable[..., int]
) -> dict[str, TensorInfo]:
    """Every tensor's name and shape, in the library's order."""
    tensors = {}
    for index in range(count(handle)):
        row = structs.sized(structs.TensorInfo)
        check(info(handle, index, ctypes.byref(row)))
        name = row.name.decode()
        tensors[name] = TensorInfo(name, tuple(row.shape[: row.rank]))
    return tensors


def copy_tensor(
    call: Callable[..., int], handle: int, name: str, shape: tuple[int, ...] | None
) -> npt.NDArray[np.float32]:
    """A tensor as a new float32 array; flat where its shape is not known."""
    key = encode_text(name)
    values = fill_floats(lambda *buffer: call(handle, key, *buffer))
    return values if shape is None else values.reshape(shape)


def fill_floats(call: Callable[[Any, int, Any], int]) -> npt.NDArray[np.float32]:
    """Asks a call how many floats it has, then for them."""
    need = ctypes.c_size_t()
    check(call(None, 0, ctypes.byref(need)))
    values = np.empty(need.value, np.float32)
    check(call(values.ctypes.data, values.size, ctypes.byref(need)))
    return values


def fill_text(call: Callable[[Any, int, Any], int]) -> str:
    """Asks a call how many bytes its text has, then for them."""
    need = ctypes.c_size_t()
    check(call(None, 0, ctypes.byref(need)))
    buffer = ctypes.create_string_buffer(need.value)
    check(call(buffer, need.value, ctypes.byref(need)))
    return buffer.value.decode("utf-8")
