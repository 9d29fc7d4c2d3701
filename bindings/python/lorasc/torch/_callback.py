"""LoRASC's cascades inside the Hugging Face Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ._attach import Attached
from ._cascade import Cascade

STATE = "lorasc_state.safetensors"
"""Beside each checkpoint: where the cascades stand."""


class CascadeCallback(TrainerCallback):
    """Ends a cascade at each epoch's end, or every ``steps`` optimizer steps, but not at the last.

    After a boundary the learning rate rises from 0 to the schedule's over ``rewarmup_ratio`` of
    the cascade's steps. Each checkpoint of the Trainer's gets the cascades' state beside it, and
    resuming from one takes it.

    Args:
        attached: of ``attach``, or a ``Cascade`` over a PEFT model.
        steps: of a cascade; None: an epoch.
        rewarmup_ratio: 0: the schedule as it is.
    """

    def __init__(
        self, attached: Attached | Cascade, steps: int | None = None, rewarmup_ratio: float = 0.1
    ) -> None:
        self.attached = attached
        self.steps = steps
        self.rewarmup_ratio = rewarmup_ratio
        self._began = 0
        self._rates: list[float] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """Takes the state beside the checkpoint that the Trainer resumes from."""
        self._began = 0
        if state.global_step == 0:
            return
        length = self._length(args, state)
        self._began = state.global_step // length * length
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE
        self.attached.load_state(path)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """The re-warm-up's factor on this step's learning rate."""
        warm = max(1, round(self.rewarmup_ratio * self._length(args, state)))
        done = state.global_step - self._began
        if self._began == 0 or self.rewarmup_ratio <= 0 or done >= warm:
            return
        groups = of["optimizer"].param_groups
        self._rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] *= (done + 1) / (warm + 1)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """The schedule's learning rate again."""
        if self._rates is None:
            return
        for group, rate in zip(of["optimizer"].param_groups, self._rates, strict=True):
            group["lr"] = rate
        self._rates = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """Ends the step, and the cascade after its steps."""
        self.attached.end_step()
        if state.global_step >= state.max_steps:
            return
        if state.global_step - self._began >= self._length(args, state):
            self.attached.end_cascade(of["optimizer"])
            self._began = state.global_step

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **of: Any
    ) -> None:
        """Writes the cascades' state into the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            self.attached.save_state(folder / STATE)

    def _length(self, args: TrainingArguments, state: TrainerState) -> int:
        """Optimizer steps of a cascade."""
        if self.steps is not None:
            return self.steps
        epochs = max(1, round(state.num_train_epochs or args.num_train_epochs))
        return max(1, -(-state.max_steps // epochs))
