"""The demo on images: a ViT learns classes it has not seen, in three ways, and is put to the test.

    python examples/python/demo_vision.py [--model vit] [--output build/demo-vit] [--epochs 10]
                                          [--train 200] [--dev 100] [--test 500]

The backbone knows half of the classes of Fashion-MNIST and is adapted to the other half: LoRA,
COLA and LoRASC from the same start, in the same order of rows, for the same number of steps. Each
result is tested on clean images, and under blur, noise, contrast and shift. Writes report.json,
curves.png, corruptions.png and the model that LoRASC made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import demo_common
import fashion
import numpy as np
from corruptions import CORRUPTIONS, corrupt
from curves import draw_corruptions
from models import find_model

import lorasc

ADAPTER = {"r": 8, "lora_alpha": 16, "adapter_seed": 1}
TRAINER = {
    "batch_size": 32,
    "learning_rate": 5e-3,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "seed": 1,
}
"""One cascade an epoch for COLA and LoRASC; everything else is the library's default."""

Corrupted = dict[str, list[lorasc.Batch]]
"""The test images under each corruption, at each severity."""


def main() -> int:
    """Runs the demo; the exit status is 1 if the written model predicts otherwise."""
    arguments = parse_arguments()
    classes = len(fashion.ADAPTED)
    parts = fashion.load(
        fashion.ADAPTED, train=arguments.train, dev=arguments.dev, test=arguments.test
    )
    model = lorasc.Model(find_model(arguments.model))
    mean, std = read_normalization(model.path)
    batches = {
        name: lorasc.Batch.images(part.images, mean=mean, std=std, labels=part.labels)
        for name, part in parts.items()
    }
    corrupted = corrupt_each(batches["test"])
    question = f"which of {classes} new classes is it: {', '.join(fashion.ADAPTED)}"
    demo_common.introduce(model, question, batches)

    accuracy = demo_common.nearest_mean(model, batches["train"], classes)
    before = demo_common.measure_before(accuracy, batches, classes)
    before |= measure_corrupted(accuracy, corrupted)

    def measure(trainer: lorasc.Trainer, batches: demo_common.Batches) -> dict[str, Any]:
        under = measure_corrupted(lambda batch: trainer.evaluate(batch).accuracy, corrupted)
        return demo_common.measure(trainer, batches) | under

    labels = {"num_labels": classes, "id2label": fashion.ADAPTED}
    options = TRAINER | {"epochs": arguments.epochs}
    methods, trainer = demo_common.compare(model, batches, ADAPTER | labels, options, measure)
    demo_common.show_table(before, methods, demo_common.CLASSIFIER_COLUMNS)
    show_corrupted(before, methods)

    output = arguments.output
    checked = demo_common.merge_and_check(trainer.adapter, output / "merged", batches["test"])
    report = demo_common.make_report(
        arguments.model,
        f"Fashion-MNIST: {classes} classes that are new to the backbone",
        batches,
        trainer,
        ADAPTER | labels | options,
        corruptions={
            name: {"levels": kind.levels, "unit": kind.unit} for name, kind in CORRUPTIONS.items()
        },
        before=before,
        methods=methods,
        merged=checked,
    )
    demo_common.write_report(report, output)
    samples = {
        name: [batch.pixels[0, 0] for batch in (batches["test"], *under)]
        for name, under in corrupted.items()
    }
    draw_corruptions(report, output / "corruptions.png", demo_common.TITLES, samples)
    print(f"Written: {output}/corruptions.png")
    say_what_next(output / "merged", mean, std)
    return 0 if checked["same_predictions"] else 1


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = demo_common.make_parser("build/demo-vit", epochs=10)
    parser.add_argument("--model", default="vit", help="a known name, or a model's folder")
    for name, rows in (("train", 200), ("dev", 100), ("test", 500)):
        parser.add_argument(f"--{name}", type=int, default=rows, help="images of each class")
    arguments = parser.parse_args()
    if min(arguments.train, arguments.dev, arguments.test) < 1:
        parser.error("--train, --dev and --test need at least one image of each class")
    return arguments


def read_normalization(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, as the folder's image processor has them."""
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    return processor["image_mean"], processor["image_std"]


def corrupt_each(test: lorasc.Batch) -> Corrupted:
    """The test images under each of CORRUPTIONS."""

    def corrupted(name: str, severity: int) -> lorasc.Batch:
        return lorasc.Batch.images(
            corrupt(test.pixels, name, severity),
            mean=test.pixel_mean,
            std=test.pixel_std,
            labels=test.labels,
        )

    return {
        name: [corrupted(name, severity + 1) for severity in range(len(kind.levels))]
        for name, kind in CORRUPTIONS.items()
    }


def measure_corrupted(
    accuracy: Callable[[lorasc.Batch], float], corrupted: Corrupted
) -> dict[str, dict[str, list[float]]]:
    """The report's accuracy at each severity."""
    return {
        "corrupted_accuracy": {
            name: [accuracy(batch) for batch in batches] for name, batches in corrupted.items()
        }
    }


def show_corrupted(before: dict[str, Any], methods: dict[str, dict[str, Any]]) -> None:
    """Accuracies side by side, of each corruption the mean over its severities."""

    def means(row: dict[str, Any]) -> dict[str, float]:
        found = {name: float(np.mean(each)) for name, each in row["corrupted_accuracy"].items()}
        return {"clean": row["test_accuracy"], **found, "corrupted": np.mean(list(found.values()))}

    rows = {method: means(row) for method, row in methods.items()}
    print("Test accuracy under corruptions, each the mean of its severities:", end="")
    demo_common.show_table(means(before), rows, ("clean", *CORRUPTIONS, "corrupted"))


def say_what_next(merged: Path, mean: list[float], std: list[float]) -> None:
    """The next thing to try."""
    print(
        "\nNext, ask the model that was just made about images, (rows, 1, 28, 28) bytes:\n"
        f"  model = lorasc.Model('{merged}')\n"
        f"  model.predict(lorasc.Batch.images(pixels, mean={mean}, std={std}))\n"
        "or open it where you run PyTorch:\n"
        f"  transformers.AutoModelForImageClassification.from_pretrained('{merged}')"
    )


if __name__ == "__main__":
    sys.exit(main())
