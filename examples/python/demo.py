"""The demo: one real encoder, one real task, three ways to fine-tune it.

    python examples/python/demo.py [--model minilm] [--output build/demo] [--epochs 6]

Tells from its text which of ten of Debian's fortune files a quotation is from. Fine-tunes
with LoRA, COLA and LoRASC from the same start, in the same order of rows, for the same
number of steps, and writes report.json, curves.png and the model that LoRASC made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from curves import draw_curves
from models import find_model

import lorasc

import fortunes

METHODS = ("lora", "cola", "lorasc")
TITLES = {"lora": "LoRA", "cola": "COLA", "lorasc": "LoRASC"}

ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": "query,value", "adapter_seed": 1}
TRAINER = {
    "batch_size": 16,
    "learning_rate": 3e-3,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "seed": 1,
}
"""One cascade an epoch for COLA and LoRASC; everything else is the library's default."""


def main() -> int:
    """Runs the demo; the exit status is 1 if the written model predicts otherwise."""
    arguments = parse_arguments()
    parts = fortunes.load()
    model = lorasc.Model(find_model(arguments.model))
    batches = {
        name: model.encode(part.texts, fortunes.MAX_LENGTH, labels=part.labels)
        for name, part in parts.items()
    }
    describe(model, batches)
    before = measure_before(model, batches)

    report: dict[str, Any] = {
        "model": arguments.model,
        "task": "fortunes: which of ten topic files a quotation is from",
        "topics": list(fortunes.TOPICS),
        "rows": {name: len(batch) for name, batch in batches.items()},
        "steps": 0,
        "epochs": arguments.epochs,
        "options": ADAPTER | TRAINER,
        "before": before,
        "library": lorasc.build_info(),
        "methods": {},
    }
    for method in METHODS:
        adapter = lorasc.Adapter(
            model,
            method=method,
            num_labels=len(fortunes.TOPICS),
            id2label=fortunes.TOPICS,
            **ADAPTER,
        )
        trainer = train(adapter, method, batches, epochs=arguments.epochs, **TRAINER)
        report["methods"][method] = measure(trainer, batches)
        report["steps"] = trainer.info.step
        if method != METHODS[-1]:
            trainer.close()
            trainer.adapter.close()
    show_table(before, report["methods"])

    output = arguments.output
    merged = output / "merged"
    output.mkdir(parents=True, exist_ok=True)
    report["merged"], same = merge_and_check(
        trainer.adapter, merged, parts["test"], batches["test"]
    )
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    baseline = ("before: nearest topic mean", before["nearest_mean_dev_accuracy"])
    draw_curves(report, output / "curves.png", TITLES, baseline)
    print(f"\nWritten: {output}/report.json, {output}/curves.png and {merged}/")
    if not same:
        print("The written model does not predict what the trained one does.", file=sys.stderr)
        return 1
    say_what_next(merged)
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fine-tune a model by LoRA, COLA and LoRASC.")
    parser.add_argument("--model", default="minilm", help="a known name, or a model's folder")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder to write")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training texts")
    return parser.parse_args()


def describe(model: lorasc.Model, batches: dict[str, lorasc.Batch]) -> None:
    """Says what is about to be done."""
    sizes = ", ".join(f"{len(batch)} {name}" for name, batch in batches.items())
    print(lorasc.build_info())
    print(f"Model  {model.path}: {model.info.layers} layers, {model.info.parameters:,} parameters")
    print(f"Task   which of {len(fortunes.TOPICS)} topics is it from: {', '.join(fortunes.TOPICS)}")
    print(f"Texts  {sizes}\n", flush=True)


def measure_before(model: lorasc.Model, batches: dict[str, lorasc.Batch]) -> dict[str, float]:
    """Accuracy without fine-tuning.

    An untrained head guesses. What the frozen model knows shows in its embeddings: each text
    goes to the topic whose mean of training embeddings is nearest by angle.
    """
    vectors = {name: normalized(model.predict(b, "embedding")) for name, b in batches.items()}
    labels = {name: batch.labels for name, batch in batches.items()}
    means = [vectors["train"][labels["train"] == i].mean(0) for i in range(len(fortunes.TOPICS))]
    directions = normalized(np.stack(means)).T
    nearest = {
        name: float(((vectors[name] @ directions).argmax(1) == labels[name]).mean())
        for name in ("dev", "test")
    }
    chance = 1 / len(fortunes.TOPICS)
    print(f"Before: an untrained head guesses, accuracy {chance:.3f}.")
    print(
        "Before: nearest topic mean of frozen embeddings, accuracy "
        f"dev {nearest['dev']:.3f}, test {nearest['test']:.3f}.\n",
        flush=True,
    )
    return {
        "chance": chance,
        "nearest_mean_dev_accuracy": nearest["dev"],
        "nearest_mean_test_accuracy": nearest["test"],
    }


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def train(
    adapter: lorasc.Adapter, method: str, batches: dict[str, lorasc.Batch], **options: Any
) -> lorasc.Trainer:
    """Fine-tunes by one method, showing progress."""
    trainer = lorasc.Trainer(adapter.model, adapter, **options)
    bar = lorasc.ProgressBar(TITLES[method].ljust(6))
    try:
        trainer.run(batches["train"], batches["dev"], bar)
    finally:
        bar.close()
    return trainer


def measure(trainer: lorasc.Trainer, batches: dict[str, lorasc.Batch]) -> dict[str, Any]:
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


def show_table(before: dict[str, float], methods: dict[str, dict[str, Any]]) -> None:
    """The results side by side."""
    columns = ("train loss", "dev accuracy", "test accuracy", "test loss", "seconds", "tokens/s")
    print("\n" + "method".ljust(10) + "".join(column.rjust(15) for column in columns))
    dev, test = before["nearest_mean_dev_accuracy"], before["nearest_mean_test_accuracy"]
    print("before".ljust(10) + "".rjust(15) + f"{dev:15.3f}{test:15.3f}")
    for method, row in methods.items():
        print(
            TITLES[method].ljust(10)
            + f"{row['train_loss']:15.3f}{row['dev_accuracy']:15.3f}{row['test_accuracy']:15.3f}"
            + f"{row['test_loss']:15.3f}{row['seconds']:15.1f}{row['tokens_per_second']:15,.0f}"
        )


def merge_and_check(
    adapter: lorasc.Adapter, directory: Path, part: fortunes.Part, batch: lorasc.Batch
) -> tuple[dict[str, Any], bool]:
    """Writes the merged model, opens it again, and compares what both predict."""
    expected = adapter.predict(batch)
    written = adapter.merge(directory)
    with lorasc.Model(directory) as model:
        again = model.predict(model.encode(part.texts, fortunes.MAX_LENGTH))
        difference = float(np.abs(again - expected).max())
        same = bool((again.argmax(1) == expected.argmax(1)).all())
        print(
            f"\nMerged and opened again: {len(part)} test predictions "
            f"{'are the same' if same else 'DIFFER'}, largest difference of a logit "
            f"{difference:.1e}."
        )
        samples = part.texts[:3]
        answers = model.classify(samples, fortunes.MAX_LENGTH)
        for text, answer in zip(samples, answers, strict=True):
            line = " ".join(text.split())
            print(f"  {answer:<12} {line[:80]}{'...' if len(line) > 80 else ''}")
    figures = {
        "tensors": written.tensors,
        "changed": written.changed,
        "same_predictions": same,
        "max_logit_difference": difference if math.isfinite(difference) else None,
    }
    return figures, same


def say_what_next(merged: Path) -> None:
    """The next thing to try."""
    print(
        '\nNext, with texts of your own, one JSON object with "text" and "label" a line:\n'
        "  .venv/bin/python examples/python/finetune.py --data yours.jsonl --output my-model\n"
        "or ask the model that was just made:\n"
        f"  .venv/bin/python -c \"import lorasc; print(lorasc.Model('{merged}')"
        ".classify(['Real programmers count from zero.']))\""
    )


if __name__ == "__main__":
    sys.exit(main())
