"""Fine-tuning in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._encoding import Text
from ._options import options as option_table
from .adapter import Adapter
from .batch import Batch
from .errors import StateError, Status
from .history import History
from .model import Model, name_answers
from .progress import Callback
from .reports import Evaluation, MergeReport, perplexity
from .trainer import Trainer

if TYPE_CHECKING:
    from .instructions import Row

Labels = Sequence[str] | Sequence[int] | Sequence[float] | npt.NDArray[Any]


class Result:
    """What finetune() made.

    Attributes:
        model: the backbone, as it was opened.
        adapter: what was trained.
        trainer: still able to evaluate, save and merge.
        history: figures of every step.
        label_names: the classes' names in order, or None.
        before: of instructions held out: their evaluation before training, else None.
    """

    def __init__(self, trainer: Trainer, task: _Task, before: Evaluation | None) -> None:
        self.trainer = trainer
        self.model = trainer.model
        self.adapter = trainer.adapter
        self.label_names = task.names
        self.before = before
        self._task = task

    @property
    def history(self) -> History:
        """Figures of every step, and evaluations."""
        return self.trainer.history

    @property
    def perplexity(self) -> float:
        """Of the instructions held out, after training; NaN without, and for labelled texts."""
        evaluations = self.history.evaluations
        if not self._task.is_language or not evaluations:
            return math.nan
        return perplexity(evaluations[-1].eval_loss)

    def predict(self, texts: Sequence[Text]) -> list[str] | npt.NDArray[Any]:
        """Texts to label names, class numbers, or numbers for regression.

        Texts are cut as in training.

        Raises:
            StateError: the model was trained on instructions: it has no labels, and is to be
                saved and opened where text is generated.
        """
        if self._task.is_language:
            raise StateError(Status.STATE, "a model of instructions has no labels to predict")
        logits = self.adapter.predict(self.model.encode(texts, self._task.max_length))
        return name_answers(logits, self.label_names)

    def evaluate(
        self, texts: Sequence[Text] | Iterable[Row], labels: Labels | None = None
    ) -> Evaluation:
        """Loss, accuracy and perplexity on more rows of the kind that was trained on."""
        return self.trainer.evaluate(self._task.encode(self.model, texts, labels))

    def save(self, directory: str | os.PathLike[str]) -> MergeReport:
        """Writes the merged model as a Hugging Face folder."""
        return self.adapter.merge(directory)

    def close(self) -> None:
        """Gives everything back."""
        for part in (self.trainer, self.adapter, self.model):
            part.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def finetune(
    model_dir: str | os.PathLike[str],
    texts: Sequence[Text] | Iterable[Row],
    labels: Labels | None = None,
    method: str = "lorasc",
    *,
    eval_texts: Sequence[Text] | Iterable[Row] | None = None,
    eval_labels: Labels | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    max_length: int | None = None,
    as_chat: bool = False,
    separator: str = "",
    add_eos: bool = True,
    progress: Callback | bool | None = True,
    **options: Any,
) -> Result:
    """Fine-tunes a model on labelled texts, or a decoder on instructions.

    Args:
        model_dir: a Hugging Face folder with a tokenizer.json.
        texts: one row each; a pair for tasks on two texts. Without labels instructions:
            {"prompt", "completion"} or {"messages"}, see Model.encode_instructions().
        labels: one each: names or class numbers for classification, floats for regression.
        method: "lora", "dora", "cola", "lorasc", "lorasc+dora", ...: the choices of the option
            ``method`` in lorasc.options().
        eval_texts: rows for an evaluation at each epoch's end; of instructions also before.
        eval_labels: theirs, of the same kind.
        output_dir: where to write the merged model, if anywhere.
        max_length: cut rows to this many tokens; without it a row longer than the model's
            positions is an error.
        as_chat: put instructions that are texts through the model's chat template too.
        separator: between prompts and completions that are texts.
        add_eos: end completions that are texts with the end-of-sequence token.
        progress: True for a bar, or a function that gets a Progress.
        options: any of lorasc.options(): ``r``, ``epochs``, ``learning_rate``, ...

    Raises:
        ValueError: numbers of texts and labels differ, or an unknown name in eval_labels.
        OptionError: a bad option.
        DataError: a bad row.
    """
    if (eval_labels is None) != (labels is None or eval_texts is None):
        raise ValueError("eval_texts and eval_labels come together, the latter where labels do")
    scopes = _by_scope({"method": method, **options})
    names, implied = _read_labels(labels) if labels is not None else (None, {"head": "lm"})
    encoding = {"as_chat": as_chat, "separator": separator, "add_eos": add_eos}
    task = _Task(labels is None, names, max_length, encoding)
    adapter_options = {**implied, **scopes["adapter"]}
    if names is not None:
        adapter_options.setdefault("id2label", names)
    model = Model(model_dir, **scopes["model"])
    adapter = Adapter(model, **adapter_options)
    train = task.encode(model, texts, labels)
    held_out = None if eval_texts is None else task.encode(model, eval_texts, eval_labels)
    trainer = Trainer(model, adapter, **scopes["trainer"])
    before = trainer.evaluate(held_out) if held_out is not None and task.is_language else None
    trainer.run(train, held_out, progress)
    result = Result(trainer, task, before)
    if output_dir is not None:
        result.save(output_dir)
    return result


@dataclass(frozen=True)
class _Task:
    """How rows become batches.

    Attributes:
        is_language: rows are instructions, else texts with labels.
        names: of the classes, where labels are names.
        max_length: what rows are cut to.
        encoding: of instructions, see Model.encode_instructions().
    """

    is_language: bool
    names: list[str] | None
    max_length: int | None
    encoding: dict[str, Any]

    def encode(
        self, model: Model, texts: Sequence[Text] | Iterable[Row], labels: Labels | None
    ) -> Batch:
        if self.is_language:
            rows: Iterable[Row] = texts  # type: ignore[assignment]
            return model.encode_instructions(rows, self.max_length, **self.encoding)
        if labels is None or len(texts) != len(labels):  # type: ignore[arg-type]
            count = 0 if labels is None else len(labels)
            raise ValueError(f"{len(texts)} texts, but {count} labels")  # type: ignore[arg-type]
        return self._label(model, texts, labels)  # type: ignore[arg-type]

    def _label(self, model: Model, texts: Sequence[Text], labels: Labels) -> Batch:
        if self.names is not None:
            numbers = {name: number for number, name in enumerate(self.names)}
            unknown = {str(label) for label in labels} - numbers.keys()
            if unknown:
                raise ValueError(f"labels without training texts: {', '.join(sorted(unknown))}")
            labels = [numbers[str(label)] for label in labels]
        array = np.asarray(labels)
        if array.dtype.kind == "f":
            return model.encode(texts, self.max_length, targets=array)
        return model.encode(texts, self.max_length, labels=array)


def _by_scope(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    scopes: dict[str, dict[str, Any]] = {"model": {}, "adapter": {}, "trainer": {}}
    table = option_table()
    for key, value in values.items():
        scopes[table.find(key).scope][key] = value
    return scopes


def _read_labels(labels: Labels) -> tuple[list[str] | None, dict[str, Any]]:
    """Class names, if labels are names, and the adapter's options that labels imply."""
    array = np.asarray(labels)
    if array.dtype.kind in "UO":
        names = sorted({str(label) for label in labels})
        return names, {"num_labels": len(names), "problem_type": "single_label_classification"}
    if array.dtype.kind == "f":
        width = 1 if array.ndim == 1 else array.shape[1]
        return None, {"num_labels": width, "problem_type": "regression"}
    count = int(array.max(initial=0)) + 1
    return None, {"num_labels": count, "problem_type": "single_label_classification"}
