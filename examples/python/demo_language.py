"""The demo on a decoder: SmolLM2 learns the manner of Debian's fortunes, in three ways.

    python examples/python/demo_language.py [--output build/demo-smollm2] [--epochs 3]

Next-token training on quotations of one topic, held-out perplexity before and after; LoRA, COLA
and LoRASC from the same start, in the same order of rows, for the same number of steps. Writes
report.json, curves.png and the model that LoRASC made.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import demo_common
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

COLUMNS = (
    "train_loss",
    "test_loss",
    "test_perplexity",
    "test_accuracy",
    "seconds",
    "tokens_per_second",
)


def main() -> int:
    """Runs the demo; the exit status is 1 if the written model predicts otherwise."""
    arguments = demo_common.make_parser("build/demo-smollm2", epochs=3).parse_args()
    model = lorasc.Model(find_model("smollm2"))
    batches = {name: model.encode(texts, MAX_LENGTH) for name, texts in load().items()}
    demo_common.introduce(model, f"the next token of quotations under '{TOPIC}'", batches)

    before = measure_before(model, batches)
    options = TRAINER | {"epochs": arguments.epochs}
    methods, trainer = demo_common.compare(model, batches, ADAPTER, options, measure)
    demo_common.show_table(before, methods, COLUMNS)

    merged = arguments.output / "merged"
    checked = demo_common.merge_and_check(trainer.adapter, merged, batches["test"])
    report = demo_common.make_report(
        "smollm2",
        f"fortunes: next token of quotations under '{TOPIC}'",
        batches,
        trainer,
        ADAPTER | options,
        before=before,
        methods=methods,
        merged=checked,
    )
    demo_common.write_report(report, arguments.output)
    print(
        '\nNext, open it where you run language models:\n  python -c "from transformers import '
        f"pipeline; print(pipeline('text-generation', '{merged}')('Hacker, n.:'))\""
    )
    return 0 if checked["same_predictions"] else 1


def load() -> dict[str, list[str]]:
    """Texts of the topic for each part, chosen by a hash of the text."""
    label = fortunes.TOPICS.index(TOPIC)
    return {
        name: [text for text, own in zip(part.texts, part.labels, strict=True) if own == label][
            : ROWS[name]
        ]
        for name, part in fortunes.load().items()
    }


def measure_before(model: lorasc.Model, batches: demo_common.Batches) -> dict[str, Any]:
    """Perplexity and accuracy of the model as it is."""
    adapter = lorasc.Adapter(model, method="lora", **ADAPTER)
    with lorasc.Trainer(model, adapter, **TRAINER) as trainer:
        found = {name: trainer.evaluate(batches[name]) for name in ("dev", "test")}
    adapter.close()
    print(f"Before: perplexity on test {found['test'].perplexity:.2f}\n", flush=True)
    return {
        "name": "as it is",
        "dev_accuracy": found["dev"].accuracy,
        "test_accuracy": found["test"].accuracy,
        "test_loss": found["test"].loss,
        "test_perplexity": found["test"].perplexity,
    }


def measure(trainer: lorasc.Trainer, batches: demo_common.Batches) -> dict[str, Any]:
    """Figures of a finished run, for the report."""
    row = demo_common.measure(trainer, batches)
    return row | {"test_perplexity": math.exp(row["test_loss"])}


if __name__ == "__main__":
    sys.exit(main())
