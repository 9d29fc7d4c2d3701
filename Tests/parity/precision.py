"""PyTorch in float64 all through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Float64(TorchFunctionMode):
    """Turns what asks for float32 by name into float64.

    transformers computes RMSNorm, the softmax of attention and rotary angles in float32 whatever
    the type of the model, which would leave their rounding in the truth.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls a function of PyTorch's."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        named = {key: _wide(value) for key, value in (kwargs or {}).items()}
        return func(*(_wide(value) for value in args), **named)


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def arithmetic(dtype: torch.dtype) -> Any:
    """The context in which a model of this type computes in it all through."""
    return Float64() if dtype == torch.float64 else nullcontext()


def convert(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model in this type, frequencies of rotary positions made anew in it."""
    model.to(dtype)
    with arithmetic(dtype):
        for module in list(model.modules()):
            for name, child in module.named_children():
                if hasattr(child, "inv_freq"):
                    setattr(module, name, type(child)(child.config))
    return model
