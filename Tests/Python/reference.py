"""The reference: PyTorch, transformers and PEFT, with the engine's names for tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification

import lorasc


class Reference(nn.Module):
    """A BERT with LoRA by PEFT and one of the two heads.

    Dropout is off in all of its parts. `tensors()` are the trainable parameters by the
    engine's names, "encoder.layer.0.attention.self.query.lora_A.weight" and so on.
    """

    def __init__(
        self,
        path: Path,
        num_labels: int,
        head: str = "mean_linear",
        targets: str | list[str] = "query,value",
        r: int = 8,
        lora_alpha: float = 16,
        use_rslora: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(targets, str) and targets != "all-linear":
            targets = targets.split(",")
        config = LoraConfig(
            r=r,
            lora_alpha=lora_alpha,
            use_rslora=use_rslora,
            target_modules=targets,
            lora_dropout=0.0,
            task_type="SEQ_CLS" if head == "classifier" else None,
        )
        self.head = head
        if head == "classifier":
            model = AutoModelForSequenceClassification.from_pretrained(
                path, num_labels=num_labels, ignore_mismatched_sizes=True
            )
            self.model = get_peft_model(model.float(), config)
        else:
            # The pooler is no part of this head's model: the engine leaves it out too
            backbone = AutoModel.from_pretrained(path, add_pooling_layer=False)
            self.model = get_peft_model(backbone.float(), config)
            self.classifier = nn.Linear(model_width(self.model), num_labels)
        self.model.eval()

    def forward(self, batch: lorasc.Batch) -> torch.Tensor:
        """Logits (rows, num_labels)."""
        inputs = pad(batch)
        if self.head == "classifier":
            return self.model(**inputs).logits
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None].to(hidden.dtype)
        return self.classifier((hidden * mask).sum(1) / mask.sum(1))

    def tensors(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by the engine's names."""
        return {
            engine_name(name): parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def load_from(self, adapter: lorasc.Adapter) -> None:
        """Takes the adapter's values, so that both start alike."""
        own = self.tensors()
        names = adapter.tensors().keys()
        assert own.keys() == set(names), own.keys() ^ set(names)
        with torch.no_grad():
            for name in names:
                own[name].copy_(torch.from_numpy(adapter[name]))


def engine_name(name: str) -> str:
    """A PEFT parameter's name as the engine has it."""
    for part in ("model.base_model.", "model.bert.", "model.", "bert."):
        name = name.removeprefix(part)
    return name.replace(".default", "").replace(".modules_to_save", "")


def model_width(model: nn.Module) -> int:
    """Columns of the hidden states."""
    return model.config.hidden_size


def pad(batch: lorasc.Batch) -> dict[str, torch.Tensor]:
    """A packed batch as transformers' padded inputs."""
    lengths = np.diff(batch.offsets)
    shape = (len(batch), int(lengths.max()))
    names = ["input_ids", "attention_mask"]
    if batch.token_types is not None:
        names.append("token_type_ids")
    inputs = {name: np.zeros(shape, np.int64) for name in names}
    for row, length in enumerate(lengths):
        span = slice(batch.offsets[row], batch.offsets[row + 1])
        inputs["input_ids"][row, :length] = batch.tokens[span]
        inputs["attention_mask"][row, :length] = 1
        if batch.token_types is not None:
            inputs["token_type_ids"][row, :length] = batch.token_types[span]
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


def classification_loss(
    logits: torch.Tensor,
    batch: lorasc.Batch,
    class_weights: list[float] | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """PyTorch's own cross-entropy of a batch."""
    weight = None if class_weights is None else torch.tensor(class_weights)
    labels = torch.from_numpy(batch.labels.astype(np.int64))
    return functional.cross_entropy(logits, labels, weight=weight, label_smoothing=label_smoothing)


def regression_loss(logits: torch.Tensor, batch: lorasc.Batch) -> torch.Tensor:
    """PyTorch's mean-squared error of a batch."""
    return functional.mse_loss(logits, torch.from_numpy(batch.targets))
