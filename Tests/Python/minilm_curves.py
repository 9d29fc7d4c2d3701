"""The same training of MiniLM by the engine's own trainer and by PyTorch with attach()."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

import lorasc
import lorasc.torch

import fortunes

ROWS, LENGTH, RATE = 16, 32, 1e-3
ADAPTER = {"method": "lorasc", "r": 8, "lora_alpha": 16, "target_modules": "query,value"}
SEEDS = {"adapter_seed": 1}
CASCADES = {"noise": 0.1, "slow_rate": 0.5, "seed": 1}
CURVE_LIMIT = 1e-4


@dataclass(frozen=True)
class Curves:
    """Losses by step."""

    engine: list[float]
    torch: list[float]

    @property
    def difference(self) -> float:
        """The largest of a step."""
        return float(np.abs(np.array(self.engine) - self.torch).max())


def minilm_curves(folder: Path, steps: int, cascades: int = 2) -> Curves:
    """Two runs from the same factors and head over the same batches of fortunes.

    Args:
        folder: MiniLM's.
        steps: of each cascade.
        cascades: how many.
    """
    part = fortunes.load()["train"]
    with lorasc.Model(folder) as model:
        batches = [
            model.encode(part.texts[at : at + ROWS], LENGTH, labels=part.labels[at : at + ROWS])
            for at in range(0, steps * ROWS, ROWS)
        ]
        adapter = lorasc.Adapter(
            model, head="classifier", num_labels=len(fortunes.TOPICS), **ADAPTER, **SEEDS
        )
        head = {name: adapter[f"classifier.{name}"] for name in ("weight", "bias")}
        trainer = lorasc.Trainer(
            model,
            adapter,
            learning_rate=RATE,
            schedule="constant",
            weight_decay=0,
            max_grad_norm=1,
            cascade_unit="none",
            rewarmup_ratio=0,
            **CASCADES,
        )
        ours = []
        for cascade in range(cascades):
            if cascade > 0:
                trainer.cascade()
            for batch in batches:
                trainer.accumulate(batch)
                ours.append(trainer.apply().loss)
    return Curves(ours, _torch_losses(folder, batches, head, cascades))


def _torch_losses(
    folder: Path, batches: list[lorasc.Batch], head: dict[str, np.ndarray], cascades: int
) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=len(fortunes.TOPICS),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    # Modules have the engine's names without the head's prefix, and so the same random streams.
    attached = lorasc.torch.attach(model.bert, **ADAPTER, **SEEDS, **CASCADES)
    model.classifier.load_state_dict({key: torch.from_numpy(head[key]) for key in head})
    model.train()
    parameters = [*attached.parameters(), *model.classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0)
    losses = []
    for cascade in range(cascades):
        if cascade > 0:
            attached.end_cascade(optimizer)
        for batch in batches:
            loss = model(**_padded(batch)).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
    return losses


def _padded(batch: lorasc.Batch) -> dict[str, torch.Tensor]:
    rows = [torch.from_numpy(batch.row(row).astype(np.int64)) for row in range(len(batch))]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    ones = [torch.ones(len(row), dtype=torch.int64) for row in rows]
    return {
        "input_ids": ids,
        "attention_mask": nn.utils.rnn.pad_sequence(ones, batch_first=True),
        "labels": torch.from_numpy(np.asarray(batch.labels).astype(np.int64)),
    }
