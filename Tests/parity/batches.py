"""Random rows for a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
from architectures import is_vision
from configuration import Configuration

import lorasc


def draw_batch(random: np.random.Generator, configuration: Configuration) -> lorasc.Batch:
    """A few rows of different lengths, or images, with what the head learns from."""
    if is_vision(configuration.architecture):
        return draw_images(random, configuration)
    sizes = configuration.sizes
    count = int(random.integers(3, 8))
    shortest = 1
    if configuration.head == "embedding":
        count = configuration.labels * int(random.integers(2, 4))
    if configuration.head == "lm":
        # One token has no next one
        shortest = 2
    longest = min(configuration.family.length(sizes), 16)
    lengths = random.integers(shortest, longest + 1, count)
    rows = [random.integers(0, sizes["vocab_size"], length).tolist() for length in lengths]
    if configuration.family.is_decoder:
        # transformers' classifiers take the last token that is not padding's
        for row in rows:
            row[-1] = max(row[-1], 1)
    given = answers(random, configuration, rows)
    if "type_vocab_size" in sizes:
        types = sizes["type_vocab_size"]
        given["token_types"] = [random.integers(0, types, length).tolist() for length in lengths]
    return lorasc.Batch(rows, **given)


def draw_images(random: np.random.Generator, configuration: Configuration) -> lorasc.Batch:
    """A few images."""
    sizes = configuration.sizes
    side = sizes["image_size"]
    height, width = side if isinstance(side, list) else (side, side)
    count = int(random.integers(3, 8))
    pixels = random.normal(size=(count, sizes["num_channels"], height, width)).astype(np.float32)
    return lorasc.Batch.images(pixels, **answers(random, configuration, pixels))


def answers(random: np.random.Generator, configuration: Configuration, rows: Any) -> dict[str, Any]:
    """Labels, targets, or labels and weights of tokens, some of them left out."""
    labels, head = configuration.labels, configuration.head
    if head == "embedding":
        return {}
    if head in ("token", "lm"):
        if head == "lm" and random.random() < 0.3:
            return {}
        top = configuration.sizes["vocab_size"] if head == "lm" else labels
        return {
            "token_labels": [token_labels(random, len(row), top) for row in rows],
            "token_weights": [random.uniform(0.1, 2, len(row)).tolist() for row in rows],
        }
    shape = (len(rows), labels)
    if configuration.problem == "regression":
        return {"targets": random.normal(size=shape).astype(np.float32)}
    if configuration.problem == "multi_label_classification":
        return {"targets": random.integers(0, 2, shape).astype(np.float32)}
    return {"labels": random.integers(0, labels, len(rows))}


def token_labels(random: np.random.Generator, length: int, top: int) -> list[int]:
    """Classes, some left out but never the last."""
    drawn = random.integers(0, top, length)
    drawn[:-1][random.random(length - 1) < 0.3] = lorasc.IGNORED
    return drawn.tolist()
