"""What a cascade's boundary does to a PyTorch optimizer's state."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..errors import OptionError, Status


def reset_state(
    optimizer: torch.optim.Optimizer, factors: Iterable[nn.Parameter], how: str, ratio: float
) -> None:
    """Treats the state of these parameters as option ``boundary_optimizer`` says.

    Args:
        optimizer: any of PyTorch's.
        factors: A, B and m of the experts; all other parameters train through.
        how: "reset" forgets it all, moments and step counts; "prune" zeroes the ``ratio`` of each
            moment that is smallest by magnitude (ReLoRA); "keep" leaves it.
        ratio: for "prune".

    Raises:
        OptionError: another word.
    """
    if how not in ("reset", "prune", "keep"):
        raise OptionError(
            Status.OPTION, f"option boundary_optimizer: '{how}'", "boundary_optimizer"
        )
    for factor in factors:
        state = optimizer.state.get(factor)
        if state is None or how == "keep":
            continue
        if how == "reset":
            del optimizer.state[factor]
            continue
        for values in state.values():
            if isinstance(values, torch.Tensor) and values.shape == factor.shape:
                _prune(values, ratio)


def _prune(values: torch.Tensor, ratio: float) -> None:
    count = int(ratio * values.numel())
    if count == 0:
        return
    smallest = values.abs().flatten().topk(count, largest=False).indices
    values.view(-1)[smallest] = 0
