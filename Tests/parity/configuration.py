"""One configuration: a model, an adapter's options by PEFT's names, a trainer's."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from architectures import TASKS, is_vision
from families import FAMILIES, Family
from peft import LoraConfig

# What each method means to PEFT, which has no presets.
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "lora+": {"loraplus_lr_ratio": 16},
    "dora": {"use_dora": True},
    "cola": {},
    "relora": {},
    "rac-lora": {"frozen": ("lora_A", "lora_embedding_B")},
    "lora-fa": {"frozen": ("lora_A",)},
    "pissa": {"init_lora_weights": "pissa"},
    "lorasc": {},
    "lorasc+lora": {},
    "lorasc+rslora": {"use_rslora": True},
    "lorasc+lora+": {"loraplus_lr_ratio": 16},
    "lorasc+dora": {"use_dora": True},
    "lorasc+cola": {},
}
BACKBONE_HEADS = ("mean_linear", "embedding")
"""Heads that are in no class of transformers': the bare backbone is compared."""


@dataclass(frozen=True)
class Configuration:
    """One configuration.

    Attributes:
        index: of the draw, or of real weights' configurations.
        architecture: a key of FAMILIES.
        method: the engine's preset.
        head: the engine's.
        adapter: options by PEFT's names, which are the engine's too.
        training: the trainer's options.
        weights: "random", or the model that they are of.
        labels: outputs of the head; of "embedding" rows of an example.
        problem: the engine's problem_type of rows' heads.
        stored: the head in the model's folder, or "none".
        sizes: of a random model, by the names of transformers' configuration.
    """

    index: int
    architecture: str
    method: str
    head: str
    adapter: dict[str, Any]
    training: dict[str, Any]
    weights: str = "random"
    labels: int = 0
    problem: str = "single_label_classification"
    stored: str = "none"
    sizes: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The index, and the weights where they are real."""
        return str(self.index) if self.weights == "random" else f"{self.weights} {self.index}"

    @property
    def family(self) -> Family:
        """Of the architecture."""
        return FAMILIES[self.architecture]

    @property
    def meaning(self) -> dict[str, Any]:
        """The method's own options, and what was drawn beside them."""
        return METHODS[self.method] | self.adapter | self.training

    @property
    def frozen(self) -> tuple[str, ...]:
        """Parts of names of tensors that are not trained."""
        if self.training.get("train_a") is False:
            return ("lora_A",)
        return METHODS[self.method].get("frozen", ())

    @property
    def slow_rate(self) -> float:
        """The share of the expert in the merged view."""
        return self.training.get("slow_rate", 1.0)

    @property
    def is_pissa(self) -> bool:
        """True where the factors start inside the backbone."""
        return self.meaning.get("init_lora_weights") == "pissa"

    @property
    def is_bare(self) -> bool:
        """True where transformers has no class with this head."""
        return self.head in BACKBONE_HEADS

    def head_options(self) -> dict[str, Any]:
        """The engine's keyword arguments for the head."""
        if self.head == "lm":
            return {"head": self.head}
        if self.head == "embedding":
            return {"head": self.head, "contrastive_rows": self.labels}
        return {"head": self.head, "num_labels": self.labels, "problem_type": self.problem}

    def adapter_options(self) -> dict[str, Any]:
        """The engine's keyword arguments for an adapter."""
        return {
            "method": self.method,
            "adapter_seed": self.index,
            **self.head_options(),
            **{key: as_text(value) for key, value in self.adapter.items()},
        }

    def trainer_options(self) -> dict[str, Any]:
        """The engine's keyword arguments for a trainer: one cascade on clean weights."""
        return {"schedule": "constant", "cascade_unit": "none", "noise": 0, **self.training}

    def peft_config(self) -> LoraConfig:
        """PEFT's own description, made anew, since PEFT changes what it is given."""
        fields = {
            key: copy.deepcopy(value)
            for key, value in self.meaning.items()
            if key in LoraConfig.__dataclass_fields__ and key != "init_lora_weights"
        }
        if self.head == "classifier" and self.family.head_modules:
            saved = fields.get("modules_to_save", [])
            fields["modules_to_save"] = [*saved, *self.family.head_modules]
        task = None if is_vision(self.architecture) else TASKS.get(self.head)
        return LoraConfig(lora_dropout=0.0, task_type=task, **fields)

    def described(self) -> dict[str, Any]:
        """The options, for the report."""
        return {
            "method": self.method,
            **self.head_options(),
            **self.adapter,
            **self.training,
            "model": self.sizes or self.weights,
        }


def as_text(value: Any) -> Any:
    """A PEFT option's value as the engine reads it."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value
