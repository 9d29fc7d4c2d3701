"""Losses of the program's own, as functions over the model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._callback import Trampoline
from ._signatures import LossFunction
from ._views import Views


@dataclass(frozen=True, eq=False)
class LossOutputs:
    """Outputs of rows that are computed together; arrays are valid during the call only.

    Items are rows; with the head "token" tokens, "lm" tokens that carry a loss (in chunks),
    "embedding" anchors, whose outputs are similarities to the candidates.

    Attributes:
        logits: (items, width) float32, read-only.
        gradient: (items, width) float32, zero at first: to be filled with the derivative of the
            loss by the logits. None where only the loss is asked for.
        labels: (items,) int32: classes, token ids, candidates; -100: the item has no loss. None
            where there are targets.
        targets: (items, width) float32 or None.
        weights: (items,) float32: row weight times token weight.
        rows: (items,) rows of the dataset, or of accumulate()'s batch, from 0.
        places: (items,) places of the labels in their rows where items are tokens, else None.
        loss_weight: the sum of the weights of items with a label, by which loss and gradient are
            divided when the step is applied.
    """

    logits: npt.NDArray[np.float32]
    gradient: npt.NDArray[np.float32] | None
    labels: npt.NDArray[np.int32] | None
    targets: npt.NDArray[np.float32] | None
    weights: npt.NDArray[np.float32]
    rows: npt.NDArray[np.uintp]
    places: npt.NDArray[np.uintp] | None
    loss_weight: float


Loss = Callable[[LossOutputs], "float | tuple[float, float]"]
"""Returns the weighted sum of the items' losses, or that and another loss_weight."""


def loss_trampoline(loss: Loss) -> Trampoline:
    """For lorasc_trainer_set_loss."""

    def receive(pointer: Any) -> None:
        struct = pointer.contents
        views = Views()
        answer = loss(_outputs(struct, views))
        total, weight = answer if isinstance(answer, tuple) else (answer, struct.loss_weight)
        struct.loss, struct.loss_weight = float(total), float(weight)
        views.end()

    return Trampoline(LossFunction, receive)


def _outputs(struct: Any, views: Views) -> LossOutputs:
    items = (struct.count,)
    matrix = (struct.count, struct.width)
    arrays: dict[str, Any] = {
        "logits": views.array(struct.logits, matrix, np.float32),
        "gradient": views.array(struct.gradient, matrix, np.float32, writable=True),
        "labels": views.array(struct.labels, items, np.int32),
        "targets": views.array(struct.targets, matrix, np.float32),
        "weights": views.array(struct.weights, items, np.float32),
        "rows": views.array(struct.rows, items, np.uintp),
        "places": views.array(struct.places, items, np.uintp),
    }
    return LossOutputs(**arrays, loss_weight=struct.loss_weight)
