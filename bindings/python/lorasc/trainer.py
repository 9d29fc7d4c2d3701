"""Trainers: the whole loop, or the host's own."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from ._callback import Trampoline, progress_trampoline
from ._handle import Handle
from ._library import library
from ._options import Options, refuse_foreign
from ._signatures import LossFunction
from ._tensors import copy_tensor
from .adapter import Adapter
from .batch import Batch
from .dataset import Dataset, as_dataset
from .errors import Status, check, encode_text
from .history import History
from .loss import Loss, loss_trampoline
from .model import Model
from .progress import Callback, ProgressBar
from .reports import Evaluation, Stats, TrainerInfo, from_struct


class Trainer(Handle):
    """Trains one adapter: run() does it all, or accumulate(), apply() and cascade() step by step.

    Args:
        model: the frozen backbone.
        adapter: of that model; while the trainer lives, no other may train it.
        options: of scope "trainer": ``epochs``, ``batch_size``, ``learning_rate``,
            ``cascade_unit``, ``slow_rate``, ``noise``, ... (see lorasc.options()), and
            ``threads``. The model's and the adapter's own hold here too.

    Attributes:
        model: the model.
        adapter: the adapter.
        history: what run() reported, of all calls.

    Raises:
        OptionError: a bad option, or options that contradict.
        BusyError: another trainer holds the adapter.
        OutOfMemoryError: no room for the plan's buffers.
    """

    def __init__(self, model: Model, adapter: Adapter, **options: Any) -> None:
        refuse_foreign(options, ("trainer", "model"), "trainer")
        self.model = model
        self.adapter = adapter
        self.history = History()
        pointer = ctypes.c_void_p()
        with Options(model._options | adapter._options | options) as values:
            check(
                library().lorasc_trainer_create(
                    model._handle, adapter._handle, values._handle, ctypes.byref(pointer)
                )
            )
        self._own(pointer, library().lorasc_trainer_free)
        self._loss: Trampoline | None = None

    def run(
        self,
        dataset: Dataset | Batch,
        eval: Dataset | Batch | None = None,
        progress: Callback | bool | None = None,
    ) -> History:
        """Trains to the end: epochs of shuffled batches, cascades, evaluations.

        Ctrl-C stops within a step and raises KeyboardInterrupt. After that, after an
        exception or an interrupt(), the next run() goes on where this one stopped.

        Args:
            dataset: rows with labels or targets, or Dataset.from_function().
            eval: rows for an evaluation at each epoch's end.
            progress: True for a bar, or a function that gets a Progress at every event. What
                it returns is ignored; what it raises ends the run and is raised here.

        Returns:
            The trainer's history.

        Raises:
            Interrupted: interrupt() was called.
            NonFiniteError: NaN or infinity in a loss, gradient or weight.
            DataError: bad rows.
        """
        is_language = self.adapter.info.head == "lm"
        bar = ProgressBar(is_language=is_language) if progress is True else None
        callbacks: list[Callback] = [self.history.add]
        if bar is not None:
            callbacks.append(bar)
        elif callable(progress):
            callbacks.append(progress)
        told = progress_trampoline(callbacks)
        with contextlib.ExitStack() as stack:
            if bar is not None:
                stack.callback(bar.close)
            data, asked = stack.enter_context(self._data(dataset))
            held_out, asked_too = (
                (None, None) if eval is None else stack.enter_context(self._data(eval))
            )
            status = library().lorasc_trainer_run(self._handle, data, held_out, told.function, None)
        self._check(status, told, asked, asked_too)
        return self.history

    def accumulate(self, batch: Batch) -> Stats:
        """Forward and backward of one batch; gradients are added up.

        Raises:
            DataError: bad rows, or more tokens than ``max_batch_tokens``; nothing was added.
            OptionError: a schedule other than constant needs ``max_steps``.
            NonFiniteError: nothing was added.
        """
        stats = structs.sized(structs.Stats)
        struct = batch._struct(self._width(batch))
        self._check(
            library().lorasc_trainer_accumulate(
                self._handle, ctypes.byref(struct), ctypes.byref(stats)
            )
        )
        return from_struct(Stats, stats)

    def apply(self) -> Stats:
        """One optimizer step with what was accumulated, divided by its total weight.

        Raises:
            StateError: nothing was accumulated.
            NonFiniteError: the weights are unchanged, the gradient is dropped.
        """
        stats = structs.sized(structs.Stats)
        check(library().lorasc_trainer_apply(self._handle, ctypes.byref(stats)))
        return from_struct(Stats, stats)

    def discard_gradients(self) -> None:
        """Forgets what was accumulated."""
        check(library().lorasc_trainer_discard_gradients(self._handle))

    def gradient(self, name: str) -> npt.NDArray[np.float32]:
        """The accumulated gradient of a trainable tensor in its shape, before apply().

        Raises:
            StateError: nothing was accumulated.
            NotFoundError: no trainable tensor of this name.
        """
        found = self.adapter.tensors().get(name)
        shape = found.shape if found else None
        return copy_tensor(library().lorasc_trainer_gradient, self._handle, name, shape)

    def cascade(self) -> Stats:
        """Ends the cascade: slow update, merge, fresh expert, optimizer reset.

        Not after the last one, whose share is in the merged view anyway.

        Raises:
            StateError: gradients are accumulated.
        """
        stats = structs.sized(structs.Stats)
        check(library().lorasc_trainer_cascade(self._handle, ctypes.byref(stats)))
        return from_struct(Stats, stats)

    def count_step(self) -> None:
        """Tells that an optimizer of the program's own, not ``apply``, has stepped the factors.

        What goes by steps goes on: noise per step, and the position that is saved.

        Raises:
            StateError: gradients are accumulated.
        """
        check(library().lorasc_trainer_count_step(self._handle))

    def evaluate(self, dataset: Dataset | Batch, *, fast: bool = False) -> Evaluation:
        """Loss and accuracy without dropout, noise or label smoothing.

        Args:
            dataset: rows with labels or targets, or Dataset.from_function().
            fast: with the current expert in full, in place of the merged view.
        """
        evaluation = structs.sized(structs.Evaluation)
        with self._data(dataset) as (data, asked):
            status = library().lorasc_trainer_evaluate(
                self._handle, data, int(fast), ctypes.byref(evaluation)
            )
        self._check(status, asked)
        return from_struct(Evaluation, evaluation)

    def set_loss(self, loss: Loss | None) -> None:
        """Puts a loss of the program's own in place of the built-in one; None gives that back.

        >>> def squared(outputs):
        ...     error = outputs.logits - outputs.targets
        ...     if outputs.gradient is not None:
        ...         outputs.gradient[:] = error * outputs.weights[:, None]
        ...     return 0.5 * float((error**2).sum(axis=1) @ outputs.weights)
        >>> trainer.set_loss(squared)

        It holds in run(), accumulate() and evaluate(), on their thread. Labels or targets are
        needed as without it. A saved state says that there was a loss of the program's: set one
        before resume().

        Args:
            loss: gets LossOutputs, fills their ``gradient`` unless it is None, and returns the
                weighted sum of the losses, or that and another ``loss_weight``. What it raises is
                raised by the call that it runs in.

        Raises:
            OptionError: ``label_smoothing`` or ``class_weights`` are set.
            StateError: gradients are accumulated.
            BusyError: a call is at work.
        """
        trampoline = None if loss is None else loss_trampoline(loss)
        function = LossFunction() if trampoline is None else trampoline.function
        check(library().lorasc_trainer_set_loss(self._handle, function, None))
        self._loss = trampoline

    def merged(self, tensor: str) -> npt.NDArray[np.float32]:
        """The merged view of one matrix, "<module>.weight" or a head's tensor.

        Raises:
            NotFoundError: no matrix of the model or head.
        """
        found = self.model.tensors().get(tensor) or self.adapter.tensors().get(tensor)
        shape = found.shape if found else None
        return copy_tensor(library().lorasc_trainer_merged, self._handle, tensor, shape)

    @property
    def learning_rate(self) -> float:
        """The base learning rate, before schedule and re-warm-up."""
        rate = ctypes.c_double()
        check(library().lorasc_trainer_get_learning_rate(self._handle, ctypes.byref(rate)))
        return rate.value

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        check(library().lorasc_trainer_set_learning_rate(self._handle, rate))

    @property
    def info(self) -> TrainerInfo:
        """Where the trainer stands."""
        info = structs.sized(structs.TrainerDescription)
        check(library().lorasc_trainer_info(self._handle, ctypes.byref(info)))
        return from_struct(TrainerInfo, info)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all that a bit-for-bit continuation needs into one file, atomically.

        Raises:
            StateError: gradients are accumulated.
            FileAccessError: the system refused.
        """
        check(library().lorasc_trainer_save(self._handle, encode_text(os.fspath(path))))

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Takes over a saved state; the trainer must have the same model and options.

        Raises:
            FormatError: damaged, or of another model or options (MISMATCH; the subject is
                what differs). The trainer is unchanged.
        """
        check(library().lorasc_trainer_resume(self._handle, encode_text(os.fspath(path))))

    def interrupt(self) -> None:
        """Stops the current or else the next run, from any thread."""
        check(library().lorasc_trainer_interrupt(self._handle))

    def _width(self, batch: Batch | None) -> int | None:
        """The width of targets; None where the batch has none."""
        is_without = batch is not None and batch.targets is None
        return None if is_without else self.adapter.num_labels

    @contextlib.contextmanager
    def _data(self, data: Dataset | Batch) -> Iterator[tuple[int, Trampoline | None]]:
        dataset = as_dataset(data)
        with dataset._in_call(self._width(dataset.batch)) as call:
            yield call

    def _check(self, status: int, *trampolines: Trampoline | None) -> None:
        """Raises what a callback raised, else the status as an error."""
        for trampoline in trampolines:
            if trampoline is not None and trampoline.error is not None:
                raise trampoline.error
        # The loss outlives the call: another status means that it ran in another thread's.
        if status == Status.CANCELLED and self._loss is not None:
            error = self._loss.take()
            if error is not None:
                raise error
        check(status)

    def __repr__(self) -> str:
        return f"Trainer({self.adapter!r})"
