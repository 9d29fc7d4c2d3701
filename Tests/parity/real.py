"""Configurations with real weights, always the same: MiniLM and SmolLM2-135M."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bases import open_base
from cases import Case
from configuration import Configuration
from models import find_model

import lorasc

import fortunes

ARCHITECTURES = {"minilm": "bert", "smollm2": "llama"}
"""Of the models of examples/python/models.py."""
ROWS = {"minilm": 6, "smollm2": 2}
LONGEST = {"minilm": 64, "smollm2": 24}
"""Rows of a batch, tokens of a row."""
TOPICS = len(fortunes.TOPICS)
TRAINING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "max_grad_norm": 1,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-4,
}


def _real(
    weights: str, index: int, method: str, head: str, labels: int, **adapter: Any
) -> Configuration:
    training = TRAINING | {"max_batch_tokens": ROWS[weights] * LONGEST[weights]}
    if head == "embedding":
        training["similarity_scale"] = 20
    if method.startswith("lorasc"):
        training["slow_rate"] = 0.5
    return Configuration(
        index=index,
        architecture=ARCHITECTURES[weights],
        method=method,
        head=head,
        labels=labels,
        weights=weights,
        adapter={"r": 8, "lora_alpha": 16, "bias": "none"} | adapter,
        training=training,
    )


REAL = {
    "minilm": [
        _real("minilm", 0, "lora", "mean_linear", TOPICS, target_modules=["query", "value"]),
        _real("minilm", 1, "dora", "classifier", TOPICS, target_modules="all-linear"),
        _real(
            "minilm",
            2,
            "lorasc+rslora",
            "embedding",
            2,
            target_modules=["query", "dense", "word_embeddings"],
            rank_pattern={"intermediate.dense": 4},
            modules_to_save=["embeddings.LayerNorm"],
        ),
    ],
    "smollm2": [
        _real("smollm2", 0, "lora", "lm", 0, target_modules=["q_proj", "v_proj"]),
        _real("smollm2", 1, "dora", "lm", 0, r=4, target_modules="all-linear"),
        _real(
            "smollm2",
            2,
            "lora+",
            "classifier",
            TOPICS,
            target_modules=["embed_tokens", "o_proj", "down_proj"],
        ),
    ],
}


def real_case(configuration: Configuration, scratch: Path) -> Case:
    """A configuration with its model and Debian's fortunes."""
    path = find_model(configuration.weights)
    base = open_base(path, configuration)
    # A classifier on a decoder finds the end of a row by it
    base.config.pad_token_id = base.config.pad_token_id or 0
    return Case(configuration, path, base, quotations(path, configuration), scratch)


def quotations(path: Path, configuration: Configuration) -> Iterator[lorasc.Batch]:
    """Batches of quotations, of a language model with the beginning masked."""
    weights = configuration.weights
    part = fortunes.load()["train"]
    with lorasc.Model(path) as model:
        rows = model.encode(part.texts, LONGEST[weights], labels=part.labels)
    for start in range(0, len(rows), ROWS[weights]):
        batch = rows[start : start + ROWS[weights]]
        if configuration.head == "lm":
            masked = [mask(batch.row(row).tolist()) for row in range(len(batch))]
            tokens = [batch.row(row).tolist() for row in range(len(batch))]
            batch = lorasc.Batch(tokens, token_labels=masked)
        yield batch


def mask(tokens: list[int]) -> list[int]:
    """Labels of a row whose first third is a prompt."""
    prompt = len(tokens) // 3
    return [lorasc.IGNORED] * prompt + tokens[prompt:]
