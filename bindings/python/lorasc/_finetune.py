"""Fine-tuning in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._generate import TextGenerator
from ._options import options as option_table
from .adapter import Adapter
from .batch import Batch
from .history import History
from .model import Model, Text, name_answers
from .progress import Callback
from .reports import MergeReport
from .trainer import Trainer

Labels = Sequence[str] | Sequence[int] | Sequence[float] | npt.NDArray[Any]


class Result(TextGenerator):
    """What finetune() made.

    Attributes:
        model: the backbone, as it was opened.
        adapter: what was trained.
        trainer: still able to evaluate, save and merge.
        history: figures of every step.
        label_names: the classes' names in order, or None.
    """

    def __init__(
        self, trainer: Trainer, label_names: list[str] | None, max_length: int | None
    ) -> None:
        self.trainer = trainer
        self.model = trainer.model
        self.adapter = trainer.adapter
        self.label_names = label_names
        self._max_length = max_length

    @property
    def history(self) -> History:
        """Figures of every step, and evaluations."""
        return self.trainer.history

    def predict(self, texts: Sequence[Text]) -> list[str] | npt.NDArray[Any]:
        """Texts to label names, class numbers, or numbers for regression.

        Texts are cut as in training.
        """
        logits = self.adapter.predict(self.model.encode(texts, self._max_length))
        return name_answers(logits, self.label_names)

    def _generating(self) -> tuple[Model, int | None]:
        return self.adapter._generating()

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
    texts: Sequence[Text],
    labels: Labels,
    method: str = "lorasc",
    *,
    eval_texts: Sequence[Text] | None = None,
    eval_labels: Labels | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    max_length: int | None = None,
    progress: Callback | bool | None = True,
    **options: Any,
) -> Result:
    """Fine-tunes a model on labelled texts.

    Args:
        model_dir: a Hugging Face folder with a tokenizer.json.
        texts: one row each; a pair for tasks on two texts.
        labels: one each: names or class numbers for classification, floats for regression.
        method: "lora", "dora", "cola", "lorasc", "lorasc+dora", ...: the choices of the option
            ``method`` in lorasc.options().
        eval_texts: rows for an evaluation at each epoch's end.
        eval_labels: theirs, of the same kind.
        output_dir: where to write the merged model, if anywhere.
        max_length: cut texts to this many tokens; without it a text longer than the model's
            positions is an error.
        progress: True for a bar, or a function that gets a Progress.
        options: any of lorasc.options(): ``r``, ``epochs``, ``learning_rate``, ...

    Raises:
        ValueError: numbers of texts and labels differ, or an unknown name in eval_labels.
        OptionError: a bad option.
    """
    if (eval_texts is None) != (eval_labels is None):
        raise ValueError("eval_texts and eval_labels come together")
    scopes = _by_scope({"method": method, **options})
    names, kind = _read_labels(labels)
    adapter_options = {**kind, **scopes["adapter"]}
    if names is not None:
        adapter_options.setdefault("id2label", names)
    model = Model(model_dir, **scopes["model"])
    train = _encode(model, texts, labels, names, max_length)
    held_out = None
    if eval_texts is not None and eval_labels is not None:
        held_out = _encode(model, eval_texts, eval_labels, names, max_length)
    adapter = Adapter(model, **adapter_options)
    trainer = Trainer(model, adapter, **scopes["trainer"])
    trainer.run(train, held_out, progress)
    result = Result(trainer, names, max_length)
    if output_dir is not None:
        result.save(output_dir)
    return result


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


def _encode(
    model: Model,
    texts: Sequence[Text],
    labels: Labels,
    names: list[str] | None,
    max_length: int | None,
) -> Batch:
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts, but {len(labels)} labels")
    if names is not None:
        numbers = {name: number for number, name in enumerate(names)}
        unknown = {str(label) for label in labels} - numbers.keys()
        if unknown:
            raise ValueError(f"labels without training texts: {', '.join(sorted(unknown))}")
        return model.encode(texts, max_length, labels=[numbers[str(label)] for label in labels])
    array = np.asarray(labels)
    if array.dtype.kind == "f":
        return model.encode(texts, max_length, targets=array)
    return model.encode(texts, max_length, labels=array)
