"""The host's own model: its matrices, and layers that run them on its activations."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from ._handle import Handle
from ._library import library
from ._options import Options, refuse_foreign
from ._signatures import ScalarFunction
from ._tensors import fill_floats
from .adapter import Adapter
from .errors import ArgumentError, Status, check, encode_text
from .model import Model
from .reports import ModelInfo, from_struct
from .trainer import Trainer

Floats = npt.NDArray[np.float32]

ELEMENT_TYPES = {"float32": 0, "bfloat16": 1, "float16": 2}
WEIGHTS = {"training": 0, "merged": 1, "fast": 2}


@dataclass(frozen=True)
class HostMatrix:
    """A weight matrix in memory of the program's own, which it keeps and doesn't change.

    Attributes:
        address: of the first value.
        dtype: "float32", "bfloat16" or "float16".
        out_features: of the module; rows of the matrix unless ``transposed``.
        in_features: columns of the matrix unless ``transposed``.
        row_stride: elements from one row to the next.
        bias: address of out_features float32 values, or 0.
        transposed: the memory holds (in, out), as GPT-2's Conv1D does.
        owner: what keeps the memory.
    """

    address: int
    dtype: str
    out_features: int
    in_features: int
    row_stride: int
    bias: int = 0
    transposed: bool = False
    owner: Any = None

    @classmethod
    def of_array(cls, array: npt.NDArray[Any], bias: Floats | None = None) -> HostMatrix:
        """Of a numpy array (out, in), float32 or float16, whose rows may have gaps.

        Raises:
            ArgumentError: another type, shape or layout.
        """
        name = str(array.dtype)
        size = array.itemsize
        if array.ndim != 2 or name not in ELEMENT_TYPES:
            raise _refuse("matrices", f"(out, in) float32 or float16 is due, not {name}")
        if array.size and (array.strides[1] != size or array.strides[0] % size):
            raise _refuse("matrices", "the values of a row lie side by side")
        out, into = array.shape
        if bias is not None and (
            bias.shape != (out,) or bias.dtype != np.float32 or not bias.flags.c_contiguous
        ):
            raise _refuse("bias", f"({out},) float32 is due")
        return cls(
            address=array.ctypes.data,
            dtype=name,
            out_features=out,
            in_features=into,
            row_stride=array.strides[0] // size,
            bias=0 if bias is None else bias.ctypes.data,
            owner=(array, bias),
        )


class HostModel(Model):
    """A model that is matrices of the program's own and nothing else.

    Adapters and trainers are made on it as on any other; Layer runs one adapted matrix on the
    program's activations. What needs a forward pass of the whole model raises StateError.

    Args:
        matrices: by module name: arrays (out, in), or HostMatrix.
        biases: by module name: (out,) float32.
        options: of scope "model": ``threads``, ``kernels``.

    Raises:
        ArgumentError, DataError, NonFiniteError, OutOfMemoryError, OptionError.
    """

    def __init__(
        self,
        matrices: Mapping[str, npt.NDArray[Any] | HostMatrix],
        biases: Mapping[str, Floats] | None = None,
        **options: Any,
    ) -> None:
        refuse_foreign(options, ("model",), "model")
        self.path = Path()
        self._options = options
        given = biases or {}
        own = {
            name: item
            if isinstance(item, HostMatrix)
            else HostMatrix.of_array(item, given.get(name))
            for name, item in matrices.items()
        }
        array = (structs.Matrix * len(own))(*(_matrix(name, item) for name, item in own.items()))
        pointer = ctypes.c_void_p()
        with Options(options) as values:
            check(
                library().lorasc_model_from_host(
                    array, len(own), values._handle, ctypes.byref(pointer)
                )
            )
        self._own(pointer, library().lorasc_model_free, own)
        info = structs.sized(structs.ModelDescription)
        check(library().lorasc_model_info(self._handle, ctypes.byref(info)))
        self.info: ModelInfo = from_struct(ModelInfo, info)
        self.matrices = own

    def merge(self, adapter: Adapter) -> None:
        """Writes the adapter's merged weights over the program's own memory.

        Afterwards the adapter, its trainers and layers refuse every call.

        Raises:
            NonFiniteError: nothing was written; StateError: merged before.
        """
        check(library().lorasc_adapter_merge_into_host(self._handle, adapter._handle))


class Layer(Handle):
    """One adapted linear module of a trainer, run on activations of the program's own.

    Nothing is kept between a forward and its backward: X is handed in again, and dropout's mask
    comes from ``key``. One call on a trainer's layers at a time (BusyError).

    Args:
        trainer: of a HostModel, or of any other model.
        module: its name.

    Raises:
        NotFoundError: the module has no adapter.
    """

    def __init__(self, trainer: Trainer, module: str) -> None:
        pointer = ctypes.c_void_p()
        check(
            library().lorasc_layer_create(
                trainer._handle, encode_text(module), ctypes.byref(pointer)
            )
        )
        self._own(pointer, library().lorasc_layer_free, trainer)
        self.trainer = trainer
        self.module = module
        found = next(item for item in trainer.adapter.modules if item.module == module)
        self.in_features, self.out_features = found.in_features, found.out_features

    def forward(
        self,
        x: Floats,
        out: Floats | None = None,
        *,
        weights: Literal["training", "merged", "fast"] = "training",
        share: bool = False,
        key: int = 0,
    ) -> Floats:
        """Y = X Wᵀ + b.

        Args:
            x: (tokens, in) or (batch, tokens, in) float32, features side by side.
            out: written; None: a new array. With ``share`` added to.
            weights: noisy as in training, merged, or W + the current expert in full.
            share: only what the adapter changes, added to ``out``, which holds the program's own
                product with W.
            key: tells the dropout masks of calls apart.

        Raises:
            ArgumentError, DataError, BusyError, StateError.
        """
        if out is None:
            if share:
                raise _refuse("out", "a share is added to something")
            out = np.empty((*x.shape[:-1], self.out_features), np.float32)
        check(
            library().lorasc_layer_forward(
                self._handle,
                _activations(x, self.in_features, "x"),
                _activations(out, self.out_features, "out"),
                layer_call(weights, share, key),
            )
        )
        return out

    def backward(
        self,
        x: Floats,
        dy: Floats,
        dx: Floats | None = None,
        *,
        needs_dx: bool = True,
        share: bool = False,
        key: int = 0,
    ) -> Floats | None:
        """From dY = d loss / d Y dX; gradients of the factors are added to the trainer's.

        Args:
            x: as the forward had it.
            dy: (..., out) float32.
            dx: written, with ``share`` added to; None: a new array.
            needs_dx: False: only the factors' gradients.
            share: only the part of what the adapter changes.
            key: as the forward had it.

        Raises:
            ArgumentError, DataError, BusyError, StateError.
        """
        if needs_dx and dx is None:
            dx = np.zeros(x.shape, np.float32) if share else np.empty(x.shape, np.float32)
        check(
            library().lorasc_layer_backward(
                self._handle,
                _activations(x, self.in_features, "x"),
                _activations(dy, self.out_features, "dy"),
                None if dx is None else _activations(dx, self.in_features, "dx"),
                layer_call("training", share, key),
                None,
            )
        )
        return dx

    def weight(self) -> Floats:
        """The weight beside which training sees the current expert: W with this step's noise.

        Returns:
            (out, in), a copy.
        """
        values = fill_floats(lambda *buffer: library().lorasc_layer_weight(self._handle, *buffer))
        return values.reshape(self.out_features, self.in_features)

    def scalar(self) -> Any:
        """The merged weight as it is now as a plain C function ``double (*)(int n, double *x)``.

        It is w x + b of a module of one output and n inputs, summed in float64, and calls no
        Python: ``scipy.integrate.quad(scipy.LowLevelCallable(layer.scalar()), 0, 1)``. A copy:
        later training doesn't change it, and it may outlive the layer. Any number of threads may
        call it; for another n it is NaN.

        Returns:
            A ctypes function, which gives the C function back when it is collected; a
            LowLevelCallable keeps it.

        Raises:
            DataError: more outputs than one; FormatError: no executable memory (UNSUPPORTED).
        """
        address = ctypes.c_void_p()
        check(library().lorasc_bind_scalar(self._handle, ctypes.byref(address)))
        function = ScalarFunction(address.value or 0)
        # Not at the interpreter's end: another thread may still be inside the function.
        weakref.finalize(function, library().lorasc_unbind, address.value).atexit = False
        return function


def activations(address: int, batch: int, tokens: int, batch_stride: int, token_stride: int) -> Any:
    """A reference to lorasc_activations over memory of the program's own."""
    own = structs.sized(structs.Activations)
    own.values, own.batch, own.tokens = address, batch, tokens
    own.batch_stride, own.token_stride = batch_stride, token_stride
    return ctypes.byref(own)


def layer_call(weights: str, share: bool, key: int) -> Any:
    """A reference to lorasc_layer_call."""
    own = structs.sized(structs.LayerCall)
    own.weights, own.share, own.key = WEIGHTS[weights], share, key
    return ctypes.byref(own)


def _activations(array: Floats, features: int, what: str) -> Any:
    if array.dtype != np.float32 or array.ndim not in (2, 3) or array.shape[-1] != features:
        raise _refuse(what, f"(..., {features}) float32 is due, not {array.shape} {array.dtype}")
    strides = [stride // 4 for stride in array.strides]
    if any(stride % 4 or stride < 0 for stride in array.strides) or strides[-1] != 1:
        raise _refuse(what, "features lie side by side")
    rows = (1, *array.shape[:-1]) if array.ndim == 2 else array.shape[:-1]
    batch_stride = strides[0] if array.ndim == 3 else rows[1] * strides[-2]
    return activations(array.ctypes.data, rows[0], rows[1], batch_stride, strides[-2])


def _matrix(name: str, item: HostMatrix) -> structs.Matrix:
    return structs.Matrix(
        struct_size=ctypes.sizeof(structs.Matrix),
        type=ELEMENT_TYPES[item.dtype],
        name=encode_text(name),
        values=item.address,
        out_features=item.out_features,
        in_features=item.in_features,
        row_stride=item.row_stride,
        bias=item.bias or None,
        transposed=item.transposed,
    )


def _refuse(subject: str, why: str) -> ArgumentError:
    return ArgumentError(Status.ARGUMENT, f"{subject}: {why}", subject)
