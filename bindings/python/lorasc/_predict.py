"""Predictions of a model, with or without an adapter."""

from __future__ import annotations

import ctypes
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._library import library
from ._tensors import fill_floats
from .batch import Batch

What = Literal["logits", "embedding", "token_embedding", "token_logits"]

_CODES: dict[str, int] = {"logits": 0, "embedding": 1, "token_embedding": 2, "token_logits": 3}
_FAST = 256


def predict(
    model: int,
    adapter: int | None,
    batch: Batch,
    what: What,
    columns: int,
    fast: bool = False,
) -> npt.NDArray[np.float32]:
    """Runs the model; see Model.predict and Adapter.predict. The result has ``columns``."""
    if what not in _CODES:
        raise ValueError(f"what must be one of {', '.join(_CODES)}, not {what!r}")
    code = _CODES[what] | (_FAST if fast else 0)
    struct = batch._struct()
    values = fill_floats(
        lambda *buffer: library().lorasc_predict(
            model, adapter, ctypes.byref(struct), code, *buffer
        )
    )
    return values.reshape(-1, columns) if len(values) else values.reshape(0, 0)
