"""The demo on a decoder: SmolLM2 learns the manner of Debian's fortunes, in three ways.

    python examples/python/demo_language.py [--output build/demo-smollm2] [--epochs 3]

Next-token training on quotations of one topic, held-out perplexity before and after; LoRA, COLA
and LoRASC from the same start, in the same order of rows, for the same number of steps. Writes
report.json, curves.png and the model that LoRASC made.
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
from demo import METHODS, TITLES, train
from models import find_model

import lorasc

import fortunes

TOPIC = "definitions"
ROWS = {"train": 80, "dev": 20, "test": 40}
MAX_LENGTH = 64
ADAPTER = {"r": 8, "lora_alpha": 16, "adapter_seed": 1}
TRAINER = {
    "batch_size": 16,
    "max_batch_tokens": 1024,
    "learning_rate": 2e-3,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "seed": 1,
}
"""One cascade an epoch for COLA and LoRASC; everything else is the library's default."""


def main() -> int:
    """Runs the demo; the exit status is 1 if the written model predicts otherwise."""
    parser = argparse.ArgumentParser(description="Fine-tune SmolLM2 by LoRA, COLA and LoRASC.")
    parser.add_argument("--output", type=Path, default=Path("build/demo-smollm2"))
    parser.add_argument("--epochs", type=int, default=3, help="passes over the training texts")
    arguments = parser.parse_args()
    model = lorasc.Model(find_model("smollm2"))
    batches = {name: model.encode(texts, MAX_LENGTH) for name, texts in load().items()}
    print(lorasc.build_info())
    print(f"Model  {model.path}: {model.info.layers} layers, {model.info.parameters:,} parameters")
    sizes = ", ".join(f"{len(batch)} {name}" for name, batch in batches.items())
    print(f"Task   the next token of quotations under '{TOPIC}' ({sizes})\n", flush=True)

    before = measure_before(model, batches)
    report: dict[str, Any] = {
        "model": "smollm2",
        "task": f"fortunes: next token of quotations under '{TOPIC}'",
        "rows": {name: len(batch) for name, batch in batches.items()},
        "steps": 0,
        "epochs": arguments.epochs,
        "options": ADAPTER | TRAINER,
        "before": before,
        "library": lorasc.build_info(),
        "methods": {},
    }
    for method in METHODS:
        adapter = lorasc.Adapter(model, method=method, **ADAPTER)
        trainer = train(adapter, method, batches, epochs=arguments.epochs, **TRAINER)
        report["methods"][method] = measure(trainer, batches)
        report["steps"] = trainer.info.step
        if method != METHODS[-1]:
            trainer.close()
            trainer.adapter.close()
    show_table(before, report["methods"])

    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    difference = merge_and_check(trainer.adapter, output / "merged", batches["test"])
    report["merged"] = {"max_logit_difference": difference}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    draw_curves(report, output / "curves.png", TITLES, ("before", before["dev_accuracy"]))
    print(f"\nWritten: {output}/report.json, {output}/curves.png and {output}/merged/")
    print(
        '\nNext, open it where you run language models:\n  python -c "from transformers import '
        f"pipeline; print(pipeline('text-generation', '{output}/merged')('Hacker, n.:'))\""
    )
    return 0 if difference < 1e-3 else 1


def load() -> dict[str, list[str]]:
    """Texts of the topic for each part, chosen by a hash of the text."""
    label = fortunes.TOPICS.index(TOPIC)
    return {
        name: [text for text, own in zip(part.texts, part.labels, strict=True) if own == label][
            : ROWS[name]
        ]
        for name, part in fortunes.load().items()
    }


def measure_before(model: lorasc.Model, batches: dict[str, lorasc.Batch]) -> dict[str, float]:
    """Perplexity and accuracy of the model as it is."""
    adapter = lorasc.Adapter(model, method="lora", **ADAPTER)
    with lorasc.Trainer(model, adapter, **TRAINER) as trainer:
        found = {name: trainer.evaluate(batches[name]) for name in ("dev", "test")}
    adapter.close()
    print(f"Before: perplexity on test {found['test'].perplexity:.2f}\n", flush=True)
    return {
        "dev_accuracy": found["dev"].accuracy,
        "test_accuracy": found["test"].accuracy,
        "test_loss": found["test"].loss,
        "test_perplexity": found["test"].perplexity,
    }


def measure(trainer: lorasc.Trainer, batches: dict[str, lorasc.Batch]) -> dict[str, Any]:
    """Figures of a finished run, for the report."""
    history = trainer.history
    on = {name: trainer.evaluate(batches[name]) for name in ("train", "test")}
    return {
        "train_loss": on["train"].loss,
        "dev_accuracy": history.evaluations[-1].eval_accuracy,
        "test_loss": on["test"].loss,
        "test_accuracy": on["test"].accuracy,
        "test_perplexity": on["test"].perplexity,
        "seconds": history.last.train_seconds,
        "tokens_per_second": history.last.tokens_per_second,
        "curve": {"step": history.step.tolist(), "loss": history.loss.tolist()},
        "evaluations": [
            {"step": at.step, "dev_loss": at.eval_loss, "dev_accuracy": at.eval_accuracy}
            for at in history.evaluations
        ],
        "boundaries": [{"step": at.step, "cascade": at.cascade} for at in history.cascades],
    }


def show_table(before: dict[str, float], methods: dict[str, dict[str, Any]]) -> None:
    """The results side by side."""
    columns = ("train loss", "test loss", "perplexity", "test accuracy", "seconds", "tokens/s")
    print("\n" + "method".ljust(10) + "".join(column.rjust(15) for column in columns))
    print(
        "before".ljust(10)
        + "".rjust(15)
        + f"{before['test_loss']:15.3f}{before['test_perplexity']:15.2f}"
        + f"{before['test_accuracy']:15.3f}"
    )
    for method, row in methods.items():
        print(
            TITLES[method].ljust(10)
            + f"{row['train_loss']:15.3f}{row['test_loss']:15.3f}{row['test_perplexity']:15.2f}"
            + f"{row['test_accuracy']:15.3f}{row['seconds']:15.1f}"
            + f"{row['tokens_per_second']:15,.0f}"
        )


def merge_and_check(adapter: lorasc.Adapter, directory: Path, batch: lorasc.Batch) -> float:
    """Writes the merged model, opens it again, and compares the logits after each row."""
    expected = adapter.predict(batch)
    adapter.merge(directory)
    with lorasc.Model(directory) as model:
        difference = float(np.abs(model.predict(batch) - expected).max())
    print(
        f"\nMerged and opened again: largest difference of {expected.size:,} logits "
        f"{difference:.1e}."
    )
    return difference if math.isfinite(difference) else math.inf


if __name__ == "__main__":
    sys.exit(main())
