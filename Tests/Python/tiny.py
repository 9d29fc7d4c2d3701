"""Small random BERTs made by transformers, and rows for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

import lorasc

VOCABULARY = 97

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}


def make_tiny(
    folder: Path,
    *,
    num_labels: int = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "5GB",
    **sizes: Any,
) -> Path:
    """Saves a small random BERT.

    With ``num_labels`` it is a BertForSequenceClassification, whose names start with "bert.";
    else a BertModel, whose names don't.
    """
    torch.manual_seed(seed)
    config = BertConfig(**(SIZES | sizes), num_labels=num_labels or 2)
    model = BertForSequenceClassification(config) if num_labels else BertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers starts biases and norms at 0 and 1, where mistakes don't show
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "classifier" not in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    return folder


def random_rows(
    random: np.random.Generator,
    count: int,
    *,
    labels: int = 0,
    targets: int = 0,
    shortest: int = 1,
    longest: int = 20,
    token_types: bool = False,
) -> lorasc.Batch:
    """Rows of random length; a row's label follows from its first token."""
    rows = [
        random.integers(1, VOCABULARY, random.integers(shortest, longest + 1)).tolist()
        for _ in range(count)
    ]
    return lorasc.Batch(
        rows,
        labels=[row[0] % labels for row in rows] if labels else None,
        targets=random.normal(size=(count, targets)).astype(np.float32) if targets else None,
        token_types=[random.integers(0, 2, len(row)).tolist() for row in rows]
        if token_types
        else None,
    )


def relative_error(value: Any, reference: Any) -> float:
    """The norm of the difference over the norm of the reference."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    assert value.shape == reference.shape
    return float(np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30))
