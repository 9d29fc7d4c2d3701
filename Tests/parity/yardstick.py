"""The yardstick: float32 errors against float64, norm-wise."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = dict[str, npt.NDArray[np.floating]]

JOINT_FACTOR = 2.0
JOINT_SLACK = 1e-6
SINGLE = 1e-4
EXACT = 1e-6
ZERO = 1e-12
"""A tensor below this share of the joint norm is mathematically zero."""


@dataclass(frozen=True)
class Finding:
    """What one kind of comparison gave.

    Attributes:
        ours: the engine's error.
        pytorch: PyTorch's own in float32; None where it has none.
        holds: whether ours is within the limit.
        note: the tensor that is worst, or what went wrong.
    """

    ours: float | None
    pytorch: float | None
    holds: bool
    note: str = ""

    def described(self) -> dict[str, Any]:
        """For the report."""
        return {"ours": self.ours, "pytorch": self.pytorch, "holds": self.holds, "note": self.note}


def failure(error: BaseException) -> Finding:
    """A comparison that could not be made."""
    text = " ".join(str(error).split())
    return Finding(None, None, False, f"{type(error).__name__}: {text[:400]}")


def norm(values: Values) -> float:
    """The joint norm of all tensors."""
    return float(np.sqrt(sum(np.sum(np.square(v, dtype=np.float64)) for v in values.values())))


def differences(values: Values, truth: Values) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Tensor by tensor, in float64; both must have the same tensors."""
    if values.keys() != truth.keys():
        strangers = sorted(values.keys() ^ truth.keys())
        raise AssertionError(f"only one of both has {', '.join(strangers)}")
    for name, expected in truth.items():
        yield name, np.asarray(values[name], np.float64) - np.asarray(expected, np.float64)


def zeros(gradients: Values) -> set[str]:
    """The tensors whose gradients are zero in exact arithmetic."""
    limit = ZERO * norm(gradients)
    return {name for name, gradient in gradients.items() if norm({name: gradient}) <= limit}


def compare_jointly(
    ours: Values, theirs: Values, truth: Values, joint_only: Collection[str] = ()
) -> Finding:
    """The joint error against PyTorch's own, and every single tensor's against the joint norm.

    ``joint_only`` are tensors that count in the joint error alone.
    """
    whole = norm(truth)
    errors = dict(differences(ours, truth))
    our_error = norm(errors) / whole
    their_error = norm(dict(differences(theirs, truth))) / whole
    single = {
        name: norm({name: error}) / whole
        for name, error in errors.items()
        if name not in joint_only
    }
    worst = max(single, key=lambda name: single[name], default="")
    holds = our_error <= JOINT_FACTOR * their_error + JOINT_SLACK and all(
        error <= SINGLE for error in single.values()
    )
    note = f"worst tensor {worst}: {single[worst]:.1e}" if worst else ""
    return Finding(our_error, their_error, holds, note)


def compare_exactly(ours: Values, theirs: Values, truth: Values) -> Finding:
    """Every tensor's own relative error, at most 1e-6."""

    def largest(values: Values) -> tuple[float, str]:
        relative = {
            name: norm({name: error}) / max(norm({name: truth[name]}), 1e-30)
            for name, error in differences(values, truth)
        }
        worst = max(relative, key=lambda name: relative[name])
        return relative[worst], worst

    error, worst = largest(ours)
    return Finding(error, largest(theirs)[0], error <= EXACT, f"worst tensor {worst}")
