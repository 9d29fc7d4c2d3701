"""Layers of lorasc.torch beside the same ones in float64 autograd, and in PEFT.

What the tests look at on a few draws, `make own-model` does on many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import peft
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import lorasc.torch

OPTIONS = {"r": 4, "lora_alpha": 8, "noise": 0, "adapter_seed": 3, "seed": 3}
GRADIENT_METHODS = ("lora", "rslora", "lora+", "dora", "lorasc", "lorasc+dora")
GRADIENT_LIMIT = 1e-5
PEFT_METHODS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
LOSS_LIMIT = 1e-5


def largest(errors: Iterable[float]) -> float:
    """NaN where one is: Python's max() may pass over it."""
    return float(np.max(list(errors)))


# ---- One layer and autograd ----------------------------------------------------------


@dataclass(frozen=True)
class LayerCase:
    """A layer with random sizes."""

    method: str
    dropout: float
    rows: tuple[int, ...]
    inputs: int
    outputs: int
    rank: int
    is_conv1d: bool
    has_bias: bool
    dtype: torch.dtype
    block: int
    seed: int


def draw_case(method: str, dropout: float, seed: int) -> LayerCase:
    """Sizes of up to 64, with one row too, and blocks of rows that are smaller than the batch."""
    random = np.random.default_rng(seed)
    inputs, outputs = (int(size) for size in random.integers(2, 65, 2))
    rows = tuple(int(count) for count in random.integers(1, 9, random.integers(1, 4)))
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    return LayerCase(
        method=method,
        dropout=dropout,
        rows=rows,
        inputs=inputs,
        outputs=outputs,
        rank=int(random.integers(1, min(8, inputs, outputs) + 1)),
        is_conv1d=bool(random.integers(3) == 0),
        has_bias=bool(random.integers(2)),
        dtype=dtypes[random.integers(3)],
        block=int(random.choice((8, 4096))),
        seed=seed,
    )


class Holder(nn.Module):
    """A model that is one layer."""

    def __init__(self, case: LayerCase) -> None:
        super().__init__()
        if case.is_conv1d:
            self.layer = Conv1D(case.outputs, case.inputs)
        else:
            self.layer = nn.Linear(case.inputs, case.outputs, bias=case.has_bias)


def gradient_errors(case: LayerCase) -> dict[str, float]:
    """‖found - autograd's‖ / ‖autograd's‖ of Y and the gradients of X, A, B and DoRA's m."""
    torch.manual_seed(case.seed)
    holder = Holder(case).to(case.dtype)
    attached = lorasc.torch.attach(
        holder,
        method=case.method,
        r=case.rank,
        lora_alpha=1 + case.seed % 16,
        lora_dropout=case.dropout,
        max_batch_tokens=case.block,
        seed=case.seed,
    )
    layer = attached.layers["layer"]
    scale = attached.adapter.modules[0].scale
    weight = torch.from_numpy(layer._layer.weight()).double()
    mask = dropout_mask(layer, weight, scale, math.prod(case.rows), case.dropout, key=1)
    with torch.no_grad():
        layer.lora_B.normal_(0, 0.2)
        if layer.lora_magnitude_vector is not None:
            layer.lora_magnitude_vector.mul_(torch.rand(case.outputs) + 0.5)
    # Of every other seed features do not lie side by side.
    x = torch.randn(case.inputs, *case.rows).movedim(0, -1)
    x = x.contiguous() if case.seed % 2 else x
    upstream = torch.randn(*case.rows, case.outputs)
    x = x.detach().requires_grad_(True)
    layer._calls = 0
    y = layer(x)
    (y * upstream).sum().backward()

    factors = (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector)
    leaves = [
        None if one is None else one.detach().double().requires_grad_(True) for one in (x, *factors)
    ]
    bias = None if layer.bias is None else layer.bias.detach().double()
    expected = adapted_product(*leaves, weight, bias, scale, mask)
    (expected * upstream.double()).sum().backward()
    pairs = {"Y": (y.detach(), expected.detach())}
    for name, found, leaf in zip("XABm", (x, *factors), leaves, strict=True):
        if found is not None and leaf is not None:
            pairs[name] = (found.grad, leaf.grad)
    return {
        name: float((found.double() - right).norm() / right.norm())
        for name, (found, right) in pairs.items()
    }


def adapted_product(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    magnitude: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    mask: Tensor | None,
) -> Tensor:
    """Y as PEFT has it: LoRA, and DoRA whose norm counts as a constant."""
    dropped = x if mask is None else x * mask.view(x.shape)
    expert = scale * dropped @ a.T @ b.T
    if magnitude is None:
        return nn.functional.linear(x, weight, bias) + expert
    factors = magnitude / (weight + scale * b @ a).norm(dim=1).detach()
    whole = nn.functional.linear(x, weight, bias)
    return whole + (factors - 1) * (dropped @ weight.T) + factors * expert


@torch.no_grad()
def dropout_mask(
    layer: lorasc.torch.AdaptedLinear,
    weight: Tensor,
    scale: float,
    rows: int,
    dropout: float,
    key: int,
) -> Tensor | None:
    """What a call drops, (rows, in), 0 or 1 / (1 - p), as the layer itself lets it through.

    Its factors are chosen so that some of its inputs, all 1, come out as they are.
    """
    if dropout == 0:
        return None
    factors = list(layer.parameters(recurse=False))
    kept = [one.clone() for one in factors]
    rank, inputs = layer.lora_A.shape
    width = min(rank, layer.out_features)
    mask = torch.zeros(rows, inputs, dtype=torch.float64)

    def outputs(strength: float) -> Tensor:
        layer.lora_B.zero_()
        layer.lora_B[:width, :width] = strength * torch.eye(width)
        if layer.lora_magnitude_vector is not None:
            whole = weight + scale * layer.lora_B.double() @ layer.lora_A.double()
            layer.lora_magnitude_vector.copy_(whole.norm(dim=1))
        layer._calls = key - 1
        return layer(torch.ones(rows, inputs)).double()

    for start in range(0, inputs, width):
        columns = range(start, min(start + width, inputs))
        layer.lora_A.zero_()
        for index, column in enumerate(columns):
            layer.lora_A[index, column] = 1
        share = (outputs(1.0) - outputs(0.0)) / scale
        mask[:, start : columns.stop] = (share[:, : len(columns)] > 0.5).double()
    for one, values in zip(factors, kept, strict=True):
        one.copy_(values)
    return mask / (1 - dropout)


# ---- A network and PEFT --------------------------------------------------------------


class Network(nn.Module):
    """Two linear layers and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3, padding=1)
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.conv(x)).transpose(1, 2)
        return self.fc2(torch.tanh(self.fc1(hidden)))


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(4, 3, 7), torch.randn(4, 7, 5)


def train(
    model: nn.Module,
    parameters: list[nn.Parameter],
    steps: int,
    after: Callable[[], object] = lambda: None,
) -> list[float]:
    """The losses of so many steps of AdamW; ``after`` is called after each."""
    x, target = data()
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((model(x) - target) ** 2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        after()
        losses.append(loss.item())
    return losses


def peft_twin(
    attached: lorasc.torch.Attached, seed: int = 0, **changes: bool
) -> tuple[nn.Module, list[nn.Parameter]]:
    """PEFT on the same network from the same A, and what it trains."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["fc1", "fc2"], **changes)
    other = peft.get_peft_model(network(seed), config)
    for name, layer in attached.layers.items():
        twin = getattr(other.base_model.model, name)
        twin.lora_A["default"].weight.data.copy_(layer.lora_A)
    return other, [item for item in other.parameters() if item.requires_grad]


def peft_difference(method: str, seed: int) -> float:
    """The largest difference of a loss over ten steps beside PEFT's."""
    model = network(seed)
    attached = lorasc.torch.attach(model, method=method, **OPTIONS)
    other, parameters = peft_twin(attached, seed, **PEFT_METHODS[method])
    losses = train(model, list(attached.parameters()), 10)
    return float(np.abs(np.array(losses) - train(other, parameters, 10)).max())
