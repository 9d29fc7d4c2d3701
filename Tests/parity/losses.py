"""PyTorch's losses of a configuration's head."""

from __future__ import annotations

import torch
from architectures import cross_entropy
from configuration import Configuration
from torch.nn import functional

import lorasc


def loss_of(
    outputs: torch.Tensor, batch: lorasc.Batch, configuration: Configuration
) -> torch.Tensor:
    """The mean loss from logits, or of "embedding" from the means of the rows' tokens."""
    if configuration.head == "embedding":
        return contrastive(outputs, configuration)
    if batch.targets is None:
        return cross_entropy(outputs, configuration.head, batch)
    targets = torch.from_numpy(batch.targets).to(outputs.dtype)
    if configuration.problem == "regression":
        return functional.mse_loss(outputs, targets)
    return functional.binary_cross_entropy_with_logits(outputs, targets)


def contrastive(embeddings: torch.Tensor, configuration: Configuration) -> torch.Tensor:
    """Multiple negatives ranking.

    Positives come first, then the negatives, as sentence-transformers lines them up.
    """
    rows = configuration.labels
    unit = functional.normalize(embeddings)
    examples = unit.reshape(-1, rows, unit.shape[-1])
    others = torch.cat([examples[:, place] for place in range(1, rows)])
    scores = configuration.training["similarity_scale"] * examples[:, 0] @ others.T
    return functional.cross_entropy(scores, torch.arange(len(examples)))
