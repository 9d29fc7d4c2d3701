"""Steps of PyTorch's optimizers, which the engine doesn't see."""

from __future__ import annotations

from typing import Any

from ..errors import StateError, Status
from ..trainer import Trainer

PER_STEP = {"noise_lifetime": "per_step"}


def is_per_step(options: dict[str, Any]) -> bool:
    """Whether each optimizer step has noise of its own."""
    return PER_STEP.items() <= options.items()


def require_steps(trainer: Trainer, per_step: bool) -> None:
    """Refuses to end a cascade whose steps were not told, so that all had the same noise.

    Raises:
        StateError: noise is made per step, and none was counted.
    """
    if per_step and trainer.info.cascade_step == 0:
        raise StateError(
            Status.STATE,
            "noise_lifetime=per_step: call end_step() after each step of the optimizer",
            "noise_lifetime",
        )
