"""The record of a run."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from .progress import Event, Progress


class History:
    """Figures of every optimizer step, and the reports at evaluations and boundaries.

    Attributes:
        evaluations: reports with eval_loss and eval_accuracy: at ends of epochs and cascades.
        cascades: reports at the ends of cascades, with fast_loss and fast_accuracy too where
            there are rows to evaluate.
        last: the latest step's or evaluation's report, None before the first.
    """

    def __init__(self) -> None:
        self.evaluations: list[Progress] = []
        self.cascades: list[Progress] = []
        self.last: Progress | None = None
        self._steps = array("q")
        self._cascades = array("q")
        self._figures = {name: array("d") for name in ("loss", "learning_rate", "gradient_norm")}

    def add(self, progress: Progress) -> None:
        """Takes one report."""
        if progress.event is Event.EVALUATING:
            return
        self.last = progress
        if progress.event is Event.STEP:
            self._steps.append(progress.step)
            self._cascades.append(progress.cascade)
            for name, values in self._figures.items():
                values.append(getattr(progress, name))
        elif progress.event is Event.CASCADE:
            self.cascades.append(progress)
        if progress.eval_loss is not None:
            self.evaluations.append(progress)

    @property
    def step(self) -> npt.NDArray[np.int64]:
        """(steps,) the number of each step, from 1."""
        return np.array(self._steps, np.int64)

    @property
    def cascade(self) -> npt.NDArray[np.int64]:
        """(steps,) the cascade of each step, from 1."""
        return np.array(self._cascades, np.int64)

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """(steps,) the loss of each step."""
        return np.array(self._figures["loss"])

    @property
    def learning_rate(self) -> npt.NDArray[np.float64]:
        """(steps,) the rate that each step used."""
        return np.array(self._figures["learning_rate"])

    @property
    def gradient_norm(self) -> npt.NDArray[np.float64]:
        """(steps,) the gradient's norm before clipping."""
        return np.array(self._figures["gradient_norm"])

    def __len__(self) -> int:
        """The number of steps."""
        return len(self._steps)
