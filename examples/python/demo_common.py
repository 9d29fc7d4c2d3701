"""What the demos share: three methods from the same start, their figures, and what is written."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curves import draw_curves

import lorasc

METHODS = ("lora", "cola", "lorasc")
TITLES = {"lora": "LoRA", "cola": "COLA", "lorasc": "LoRASC"}

CLASSIFIER_COLUMNS = (
    "train_loss",
    "dev_accuracy",
    "test_accuracy",
    "test_loss",
    "seconds",
    "tokens_per_second",
)
"""Figures of measure() in the table of a classifier."""

Batches = dict[str, lorasc.Batch]
"""The parts "train", "dev" and "test"."""


def make_parser(output: str, epochs: int) -> argparse.ArgumentParser:
    """The options that every demo has, with their defaults."""
    parser = argparse.ArgumentParser(description="Fine-tune a model by LoRA, COLA and LoRASC.")
    parser.add_argument("--output", type=Path, default=Path(output), help="folder to write")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the training rows")
    return parser


def introduce(model: lorasc.Model, task: str, batches: Batches) -> None:
    """Says what is about to be done."""
    sizes = ", ".join(f"{len(batch)} {name}" for name, batch in batches.items())
    print(lorasc.build_info())
    print(f"Model  {model.path}: {model.info.layers} layers, {model.info.parameters:,} parameters")
    print(f"Task   {task}")
    print(f"Rows   {sizes}\n", flush=True)


def nearest_mean(
    model: lorasc.Model, train: lorasc.Batch, classes: int
) -> Callable[[lorasc.Batch], float]:
    """What the frozen model knows shows in its embeddings: a classifier that needs no training.

    Each row goes to the class whose mean of training embeddings is nearest by angle. The function
    that is returned gives the accuracy of that on a batch.
    """
    vectors = _normalized(model.predict(train, "embedding"))
    means = [vectors[train.labels == label].mean(0) for label in range(classes)]
    directions = _normalized(np.stack(means)).T

    def accuracy(batch: lorasc.Batch) -> float:
        found = (model.predict(batch, "embedding") @ directions).argmax(1)
        return float((found == batch.labels).mean())

    return accuracy


def _normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure_before(
    accuracy: Callable[[lorasc.Batch], float], batches: Batches, classes: int
) -> dict[str, Any]:
    """The part "before" of a classifier's report, with the accuracy by nearest_mean()."""
    chance = 1 / classes
    dev, test = accuracy(batches["dev"]), accuracy(batches["test"])
    name = "nearest class mean of frozen embeddings"
    print(f"Before: an untrained head guesses, accuracy {chance:.3f}.")
    print(f"Before: {name}, accuracy dev {dev:.3f}, test {test:.3f}.\n", flush=True)
    return {"name": name, "chance": chance, "dev_accuracy": dev, "test_accuracy": test}


def compare(
    model: lorasc.Model,
    batches: Batches,
    adapter: dict[str, Any],
    trainer: dict[str, Any],
    measured: Callable[[lorasc.Trainer, Batches], dict[str, Any]],
) -> tuple[dict[str, Any], lorasc.Trainer]:
    """Fine-tunes by each method with the same options.

    Returns:
        What ``measured`` said of each, and the last one's trainer; the others are closed.
    """
    rows = {}
    for method in METHODS:
        fitted = train(lorasc.Adapter(model, method=method, **adapter), method, batches, **trainer)
        rows[method] = measured(fitted, batches)
        if method != METHODS[-1]:
            fitted.close()
            fitted.adapter.close()
    return rows, fitted


def train(adapter: lorasc.Adapter, method: str, batches: Batches, **options: Any) -> lorasc.Trainer:
    """Fine-tunes by one method, showing progress."""
    trainer = lorasc.Trainer(adapter.model, adapter, **options)
    bar = lorasc.ProgressBar(TITLES[method].ljust(6))
    try:
        trainer.run(batches["train"], batches["dev"], bar)
    finally:
        bar.close()
    return trainer


def measure(trainer: lorasc.Trainer, batches: Batches) -> dict[str, Any]:
    """Figures of a finished run, for the report."""
    history = trainer.history
    last = history.evaluations[-1]
    on = {name: trainer.evaluate(batches[name]) for name in ("train", "test")}
    return {
        "train_loss": on["train"].loss,
        "train_accuracy": on["train"].accuracy,
        "dev_loss": last.eval_loss,
        "dev_accuracy": last.eval_accuracy,
        "test_loss": on["test"].loss,
        "test_accuracy": on["test"].accuracy,
        "seconds": history.last.train_seconds,
        "tokens_per_second": history.last.tokens_per_second,
        "trainable_parameters": trainer.adapter.matched.trainable_parameters,
        "curve": {"step": history.step.tolist(), "loss": history.loss.tolist()},
        "evaluations": [
            {"step": at.step, "dev_loss": at.eval_loss, "dev_accuracy": at.eval_accuracy}
            for at in history.evaluations
        ],
        "boundaries": [
            {"step": at.step, "cascade": at.cascade, "fast_dev_accuracy": at.fast_accuracy}
            for at in history.cascades
        ],
    }


def make_report(
    name: str,
    task: str,
    batches: Batches,
    trainer: lorasc.Trainer,
    options: dict[str, Any],
    **found: Any,
) -> dict[str, Any]:
    """What report.json holds: how it was done, and what was ``found``."""
    return {
        "model": name,
        "task": task,
        "rows": {part: len(batch) for part, batch in batches.items()},
        "steps": trainer.info.step,
        "options": options,
        "library": lorasc.build_info(),
        **found,
    }


def show_table(
    before: Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
) -> None:
    """Figures side by side: a line before training and one for each method.

    Args:
        before: figures, of as many columns as there are.
        methods: figures of each method.
        columns: their keys.
    """
    formats = {"seconds": ".1f", "tokens_per_second": ",.0f", "test_perplexity": ".2f"}
    titles = [key.replace("_per_second", "/s").replace("_", " ") for key in columns]
    print("\n" + "method".ljust(10) + "".join(title.rjust(17) for title in titles))
    for name, row in {"before": before, **methods}.items():
        cells = [f"{row[key]:{formats.get(key, '.3f')}}" if key in row else "" for key in columns]
        print(TITLES.get(name, name).ljust(10) + "".join(cell.rjust(17) for cell in cells))
    print()


def merge_and_check(
    adapter: lorasc.Adapter,
    directory: Path,
    batch: lorasc.Batch,
    encode: Callable[[lorasc.Model], lorasc.Batch] | None = None,
) -> dict[str, Any]:
    """Writes the merged model, opens it again, and compares what both predict.

    Args:
        adapter: what was trained.
        directory: to write.
        batch: rows to predict.
        encode: makes the same rows with the written model; absent: ``batch`` serves both.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    written = adapter.merge(directory)
    with lorasc.Model(directory) as model:
        again = model.predict(encode(model) if encode else batch)
    checked = check_same("Merged", adapter.predict(batch), again)
    return {"tensors": written.tensors, "changed": written.changed, **checked}


def check_same(what: str, expected: np.ndarray, again: np.ndarray) -> dict[str, Any]:
    """Compares the logits of what was trained with those of what was written."""
    difference = float(np.abs(again - expected).max())
    same = difference < 1e-3 and bool((again.argmax(1) == expected.argmax(1)).all())
    print(
        f"{what} and opened again: {len(expected)} test predictions "
        f"{'are the same' if same else 'DIFFER'}, largest difference of a logit {difference:.1e}."
    )
    if not same:
        print("The written model does not predict what the trained one does.", file=sys.stderr)
    return {
        "same_predictions": same,
        "max_logit_difference": difference if math.isfinite(difference) else None,
    }


def write_report(report: dict[str, Any], output: Path) -> None:
    """Writes report.json and curves.png beside the merged model."""
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_curves(report, output / "curves.png", TITLES)
    print(f"\nWritten: {output}/report.json, {output}/curves.png, {output}/merged/")
