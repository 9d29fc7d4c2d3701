"""Progress of a run: the report of an event, and a bar that shows it."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from . import _structs as structs
from .reports import number_or_none, perplexity

if TYPE_CHECKING:
    from tqdm import tqdm


class Event(enum.IntEnum):
    """lorasc_event: what a progress report is about."""

    STEP = 1
    """An optimizer step is done."""
    EVALUATION = 2
    """The merged view was evaluated at an epoch's end."""
    CASCADE = 3
    """A cascade has ended."""
    EVALUATING = 4
    """A batch of an evaluation is done."""
    END = 5
    """The run is complete."""


@dataclass(frozen=True)
class Progress:
    """One report of a run.

    Attributes:
        event: what happened; a plain int if the library is newer than this package.
        step: optimizer steps done.
        epoch: from 1.
        cascade: from 1.
        loss: of this step.
        tokens: trained on by this call so far.
        seconds: spent by this call so far.
        train_seconds: of these, in training steps.
        tokens_per_second: tokens over train_seconds.
        seconds_left: an estimate.
        eval_loss: of the merged view at EVALUATION and CASCADE, else None.
        eval_accuracy: likewise.
        fast_loss: of the fast view at CASCADE, else None.
        fast_accuracy: likewise.
    """

    event: Event | int
    step: int
    total_steps: int
    epoch: int
    total_epochs: int
    cascade: int
    total_cascades: int
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    train_seconds: float
    tokens_per_second: float
    seconds_left: float
    eval_loss: float | None
    eval_accuracy: float | None
    fast_loss: float | None
    fast_accuracy: float | None


Callback = Callable[[Progress], object]
"""Called on the thread of run(). What it returns is ignored; what it raises ends the run."""


def _event(number: int) -> Event | int:
    try:
        return Event(number)
    except ValueError:
        return number


def read_progress(struct: structs.Progress) -> Progress:
    """The struct, which is valid during the callback only, as a record."""
    return Progress(
        event=_event(struct.event),
        step=struct.step,
        total_steps=struct.total_steps,
        epoch=struct.epoch,
        total_epochs=struct.total_epochs,
        cascade=struct.cascade,
        total_cascades=struct.total_cascades,
        loss=struct.loss,
        gradient_norm=struct.gradient_norm,
        learning_rate=struct.learning_rate,
        tokens=struct.tokens,
        seconds=struct.seconds,
        train_seconds=struct.train_seconds,
        tokens_per_second=struct.tokens_per_second,
        seconds_left=struct.seconds_left,
        eval_loss=number_or_none(struct.eval_loss),
        eval_accuracy=number_or_none(struct.eval_accuracy),
        fast_loss=number_or_none(struct.fast_loss),
        fast_accuracy=number_or_none(struct.fast_accuracy),
    )


class ProgressBar:
    """Shows a run: loss, tokens/s, cascade and time left.

    A bar by tqdm on a terminal; elsewhere a line every few seconds and at each
    evaluation, so that logs stay readable.

    Args:
        title: shown in front.
        file: where to, stderr by default.
        interval: seconds between lines where there is no terminal.
        is_language: show perplexity in place of the accuracy of evaluations.
    """

    def __init__(
        self,
        title: str = "",
        file: TextIO | None = None,
        interval: float = 5.0,
        is_language: bool = False,
    ) -> None:
        self._title = title
        self._is_language = is_language
        self._file = file or sys.stderr
        self._interval = interval
        self._terminal = self._file.isatty()
        self._bar: tqdm | None = None
        self._last_line = time.monotonic()
        self._evaluation = ""

    def __call__(self, progress: Progress) -> None:
        """Takes one report."""
        if self._is_language and progress.eval_loss is not None:
            self._evaluation = f"perplexity {perplexity(progress.eval_loss):.2f}"
        elif progress.eval_accuracy is not None:
            self._evaluation = f"accuracy {progress.eval_accuracy:.3f}"
        if self._terminal:
            self._draw(progress)
        else:
            self._write_line(progress)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, progress: Progress) -> None:
        from tqdm import tqdm  # here, so that a program without a bar starts sooner

        if self._bar is None:
            self._bar = tqdm(
                desc=self._title or None,
                total=progress.total_steps,
                initial=max(progress.step - 1, 0),
                file=self._file,
                dynamic_ncols=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
            )
        self._bar.set_postfix_str(self._describe(progress), refresh=False)
        self._bar.update(progress.step - self._bar.n)
        if progress.event is not Event.STEP:
            self._bar.refresh()

    def _write_line(self, progress: Progress) -> None:
        now = time.monotonic()
        milestone = progress.event in (Event.EVALUATION, Event.CASCADE, Event.END)
        if not milestone and (
            progress.event is Event.EVALUATING or now - self._last_line < self._interval
        ):
            return
        self._last_line = now
        step = f"step {progress.step}/{progress.total_steps}"
        print(
            f"{self._title} {step}, {self._describe(progress)}".lstrip(),
            file=self._file,
            flush=True,
        )

    def _describe(self, progress: Progress) -> str:
        from tqdm import tqdm

        parts = [
            f"loss {progress.loss:.3f}",
            f"{progress.tokens_per_second:,.0f} tokens/s",
            f"cascade {progress.cascade}/{progress.total_cascades}",
        ]
        if self._evaluation:
            parts.append(self._evaluation)
        if progress.event is not Event.END:
            parts.append(f"{tqdm.format_interval(max(progress.seconds_left, 0))} left")
        return ", ".join(parts)
