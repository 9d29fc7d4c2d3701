"""Figures of the PyTorch path beside autograd, PEFT and the engine's own trainer."""

from __future__ import annotations

from collections.abc import Iterator

from checks import Check
from minilm_curves import CURVE_LIMIT, minilm_curves
from models import find_model
from torch_twins import (
    GRADIENT_LIMIT,
    GRADIENT_METHODS,
    LOSS_LIMIT,
    PEFT_METHODS,
    draw_case,
    gradient_errors,
    largest,
    peft_difference,
)

DROPOUTS = (0.0, 0.3)


def gradients(count: int) -> Iterator[Check]:
    """The largest error of Y, dX and the factors' gradients over ``count`` draws of a layer."""
    for method in GRADIENT_METHODS:
        for dropout in DROPOUTS:
            worst = largest(
                error
                for seed in range(count)
                for error in gradient_errors(draw_case(method, dropout, seed)).values()
            )
            name = f"{method}, dropout {dropout:g}, {count} layers: error"
            yield Check("gradients", name, worst, GRADIENT_LIMIT)


def peft_steps(count: int) -> Iterator[Check]:
    """Ten steps of ``count`` networks."""
    for method in PEFT_METHODS:
        worst = largest(peft_difference(method, seed) for seed in range(count))
        yield Check("peft", f"{method}, ten steps, {count} networks: loss", worst, LOSS_LIMIT)


def curve(steps: int = 20) -> Iterator[Check]:
    """MiniLM in two cascades."""
    found = minilm_curves(find_model("minilm"), steps)
    name = f"MiniLM, {len(found.torch)} steps beside the engine's trainer: loss"
    yield Check("curve", name, found.difference, CURVE_LIMIT)
