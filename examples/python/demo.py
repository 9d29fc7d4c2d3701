"""The demo: one real encoder, one real task, three ways to fine-tune it.

    python examples/python/demo.py [--model minilm] [--output build/demo] [--epochs 6]

Tells from its text which of ten of Debian's fortune files a quotation is from. Fine-tunes
with LoRA, COLA and LoRASC from the same start, in the same order of rows, for the same
number of steps, and writes report.json, curves.png and the model that LoRASC made.
"""

from __future__ import annotations

import sys
from pathlib import Path

import demo_common
from models import find_model

import lorasc

import fortunes

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
    parser = demo_common.make_parser("build/demo", epochs=6)
    parser.add_argument("--model", default="minilm", help="a known name, or a model's folder")
    arguments = parser.parse_args()
    classes = len(fortunes.TOPICS)
    parts = fortunes.load()
    model = lorasc.Model(find_model(arguments.model))
    batches = {
        name: model.encode(part.texts, fortunes.MAX_LENGTH, labels=part.labels)
        for name, part in parts.items()
    }
    question = f"which of {classes} topics is it from: {', '.join(fortunes.TOPICS)}"
    demo_common.introduce(model, question, batches)

    accuracy = demo_common.nearest_mean(model, batches["train"], classes)
    before = demo_common.measure_before(accuracy, batches, classes)
    labels = {"num_labels": classes, "id2label": fortunes.TOPICS}
    options = TRAINER | {"epochs": arguments.epochs}
    methods, trainer = demo_common.compare(
        model, batches, ADAPTER | labels, options, demo_common.measure
    )
    demo_common.show_table(before, methods, demo_common.CLASSIFIER_COLUMNS)

    merged = arguments.output / "merged"
    checked = demo_common.merge_and_check(
        trainer.adapter,
        merged,
        batches["test"],
        lambda model: model.encode(parts["test"].texts, fortunes.MAX_LENGTH),
    )
    show_samples(merged, parts["test"].texts[:3])
    report = demo_common.make_report(
        arguments.model,
        "fortunes: which of ten topic files a quotation is from",
        batches,
        trainer,
        ADAPTER | labels | options,
        before=before,
        methods=methods,
        merged=checked,
    )
    demo_common.write_report(report, arguments.output)
    say_what_next(merged)
    return 0 if checked["same_predictions"] else 1


def show_samples(merged: Path, texts: list[str]) -> None:
    """What the written model says of some texts."""
    with lorasc.Model(merged) as model:
        for text, answer in zip(texts, model.classify(texts, fortunes.MAX_LENGTH), strict=True):
            line = " ".join(text.split())
            print(f"  {answer:<12} {line[:80]}{'...' if len(line) > 80 else ''}")


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
