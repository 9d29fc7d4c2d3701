"""One linear layer of a PyTorch model, run by the engine."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import _structs as structs
from .._library import library
from ..adapter import Adapter
from ..errors import ArgumentError, DataError, StateError, Status, check, encode_text
from ..host import ELEMENT_TYPES, HostMatrix, Layer, activations, layer_call

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def is_linear(module: nn.Module) -> bool:
    """Whether an adapter can stand in for this module."""
    return type(module) is nn.Linear or is_conv1d(module)


def is_conv1d(module: nn.Module) -> bool:
    """Transformers' Conv1D holds its weight as (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def host_matrix(name: str, module: nn.Module) -> HostMatrix:
    """The memory of a linear module's weight and bias.

    Raises:
        ArgumentError: on another device than the CPU, of another type, or with gaps in its rows.
    """
    weight, bias = module.weight.data, module.bias
    if weight.device.type != "cpu":
        raise ArgumentError(Status.ARGUMENT, f"{name} is on {weight.device}, not the CPU", name)
    if weight.dtype not in DTYPES or weight.stride(1) != 1:
        raise ArgumentError(
            Status.ARGUMENT, f"{name}: {weight.dtype} with strides {weight.stride()}", name
        )
    transposed = is_conv1d(module)
    rows, columns = weight.shape
    vector = None if bias is None else bias.data.float().contiguous()
    return HostMatrix(
        address=weight.data_ptr(),
        dtype=DTYPES[weight.dtype],
        out_features=columns if transposed else rows,
        in_features=rows if transposed else columns,
        row_stride=weight.stride(0),
        bias=0 if vector is None else vector.data_ptr(),
        transposed=transposed,
        owner=(weight, vector),
    )


def parameter(adapter: Adapter, name: str, shape: tuple[int, ...]) -> nn.Parameter:
    """A trainable tensor as a parameter whose memory is the engine's."""
    address = ctypes.c_void_p()
    check(
        library().lorasc_adapter_tensor_data(
            adapter._handle, encode_text(name), ctypes.byref(address)
        )
    )
    memory = (ctypes.c_float * math.prod(shape)).from_address(address.value or 0)
    memory._keep = adapter  # type: ignore[attr-defined]
    return nn.Parameter(torch.frombuffer(memory, dtype=torch.float32).view(shape))


class AdaptedLinear(nn.Module):
    """A linear layer and its adapter.

    In training the engine computes the layer with the cascade's noise and the current expert; in
    evaluation with the merged weights. ``base_layer`` is what it stands in for, frozen.

    Attributes:
        lora_A, lora_B, lora_magnitude_vector: the current expert's, trained in place; the last is
            None without DoRA.
    """

    def __init__(self, base_layer: nn.Module, adapter: Adapter, layer: Layer) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._layer = layer
        self._calls = 0
        shapes = {name: info.shape for name, info in adapter.tensors().items()}
        of = {
            kind: f"{layer.module}.{kind}"
            for kind in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
        }
        self.lora_A = parameter(adapter, of["lora_A.weight"], shapes[of["lora_A.weight"]])
        self.lora_B = parameter(adapter, of["lora_B.weight"], shapes[of["lora_B.weight"]])
        magnitude = of["lora_magnitude_vector"]
        self.lora_magnitude_vector = (
            parameter(adapter, magnitude, shapes[magnitude]) if magnitude in shapes else None
        )

    @property
    def in_features(self) -> int:
        """Columns of the layer's weight."""
        return self._layer.in_features

    @property
    def out_features(self) -> int:
        """Rows of the layer's weight."""
        return self._layer.out_features

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Y = X Wᵀ + b with the adapted W, (..., in) to (..., out), in float32, of x's type.

        Raises:
            ArgumentError: x on another device than the CPU, or of no real floating type.
            DataError: x with another number of features.
        """
        if x.device.type != "cpu":
            raise ArgumentError(Status.ARGUMENT, f"x is on {x.device}, not the CPU", "x")
        if not x.is_floating_point():
            raise ArgumentError(Status.ARGUMENT, f"x is {x.dtype}, which is no floating type", "x")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise DataError(
                Status.SHAPE, f"x is {tuple(x.shape)}: {self.in_features} features are due", "x"
            )
        self._calls += 1
        dtype = x.dtype
        y: Tensor = _Product.apply(
            x.float(),
            self.lora_A,
            self.lora_B,
            self.lora_magnitude_vector,
            self._layer,
            self._calls,
            self.training,
        )
        return y.to(dtype)

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _Product(torch.autograd.Function):
    """The engine's forward and backward; X is handed in again, so that nothing else is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        magnitude: Tensor | None,
        layer: Layer,
        key: int,
        training: bool,
    ) -> Tensor:
        x = _rows(x)
        y = torch.empty(*x.shape[:-1], layer.out_features)
        ctx.save_for_backward(x, a, b, magnitude)
        ctx.layer, ctx.key, ctx.training = layer, key, training
        if x.numel() == 0:  # no memory either
            return y
        check(
            library().lorasc_layer_forward(
                layer._handle,
                _activations(x),
                _activations(y),
                layer_call("training" if training else "merged", False, key),
            )
        )
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.training:
            raise StateError(
                Status.STATE,
                f"{ctx.layer.module} ran in evaluation mode, which has no gradients: call "
                "model.train() first",
                ctx.layer.module,
            )
        # Saved, so that a step between forward and backward is an error of autograd's.
        x, a, b, magnitude = ctx.saved_tensors
        dy = _rows(dy)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gradients = [
            None if tensor is None else torch.zeros_like(tensor) for tensor in (a, b, magnitude)
        ]
        if x.numel() == 0:
            return dx, *gradients, None, None, None
        own = structs.sized(structs.LayerGradients)
        own.a, own.b, own.magnitude = (
            None if tensor is None else tensor.data_ptr() for tensor in gradients
        )
        check(
            library().lorasc_layer_backward(
                ctx.layer._handle,
                _activations(x),
                _activations(dy),
                None if dx is None else _activations(dx),
                layer_call("training", False, ctx.key),
                ctypes.byref(own),
            )
        )
        return dx, *gradients, None, None, None


def _rows(x: Tensor) -> Tensor:
    """Features side by side, and rows at one distance."""
    return x if x.is_contiguous() else x.contiguous()


def _activations(x: Tensor) -> Any:
    features = x.shape[-1]
    rows = x.numel() // features
    return activations(x.data_ptr(), 1, rows, rows * features, features)


assert set(DTYPES.values()) == set(ELEMENT_TYPES)
