"""Random configurations: a model's sizes, an adapter's options by PEFT's names, a trainer's."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
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

LINEAR_TARGETS: list[list[str] | str] = [
    ["query", "value"],
    ["query", "key", "value", "dense"],
    ["key"],
    ["attention.output.dense", "intermediate.dense"],
    ["output.dense"],
    ["layer.0.attention.self.key", "dense"],
    "all-linear",
    r".*layer\.\d+\.attention\.self\.(query|value)",
    r".*(key|intermediate\.dense)",
]
EMBEDDING_TARGETS: list[list[str] | str] = [
    ["query", "word_embeddings"],
    ["word_embeddings", "position_embeddings", "token_type_embeddings"],
    ["position_embeddings", "output.dense"],
    r".*(word_embeddings|value)",
]
EXCLUSIONS: list[list[str] | str] = [
    ["layer.0.attention.self.query"],
    ["key", "intermediate.dense"],
    r".*layer\.0\..*",
]
TRAINED_IN_FULL: list[list[str]] = [
    ["LayerNorm"],
    ["attention.output.LayerNorm"],
    ["word_embeddings"],
    ["word_embeddings", "position_embeddings"],
    ["key"],
    ["intermediate"],
    ["attention.output"],
    ["layer.0.output", "embeddings.LayerNorm"],
]


@dataclass(frozen=True)
class Configuration:
    """One draw.

    Attributes:
        index: of the draw.
        method: the engine's preset.
        head: "classifier" or "mean_linear".
        labels: outputs of the head.
        regression: squared error in place of cross-entropy.
        has_own_head: the model's folder holds a classifier.
        sizes: of the model, by the names of transformers' configuration.
        adapter: options by PEFT's names, which are the engine's too.
        training: the trainer's options.
    """

    index: int
    method: str
    head: str
    labels: int
    regression: bool
    has_own_head: bool
    sizes: dict[str, Any]
    adapter: dict[str, Any]
    training: dict[str, Any]

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

    def adapter_options(self) -> dict[str, Any]:
        """The engine's keyword arguments for an adapter."""
        return {
            "method": self.method,
            "head": self.head,
            "num_labels": self.labels,
            "problem_type": "regression" if self.regression else "single_label_classification",
            "adapter_seed": self.index,
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
        task = "SEQ_CLS" if self.head == "classifier" else None
        return LoraConfig(lora_dropout=0.0, task_type=task, **fields)

    def described(self) -> dict[str, Any]:
        """All of it, for the report."""
        return {
            "method": self.method,
            "head": self.head,
            "num_labels": self.labels,
            "regression": self.regression,
            **self.adapter,
            **self.training,
            "model": self.sizes,
        }


def as_text(value: Any) -> Any:
    """A PEFT option's value as the engine reads it."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value


class Drawer:
    """Draws one configuration, the same for the same seed and index."""

    def __init__(self, seed: int, index: int, methods: list[str]) -> None:
        self.index = index
        self.method = methods[index % len(methods)]
        self.random = np.random.default_rng([seed, index])

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[self.random.integers(len(values))]

    def chance(self, share: float) -> bool:
        """True in this share of the draws."""
        return bool(self.random.random() < share)

    def sizes(self) -> dict[str, Any]:
        """A small BERT."""
        heads = self.pick(2, 3, 4)
        return {
            "num_attention_heads": heads,
            "hidden_size": heads * self.pick(8, 10, 12),
            "num_hidden_layers": self.pick(1, 2, 3),
            "intermediate_size": self.pick(24, 37, 64, 96),
            "vocab_size": int(self.random.integers(40, 91)),
            "max_position_embeddings": self.pick(24, 40),
            "hidden_act": self.pick("gelu", "gelu_new", "gelu_pytorch_tanh", "silu"),
            "layer_norm_eps": self.pick(1e-12, 1e-5),
        }

    def configuration(self) -> Configuration:
        """Everything but the patterns, which need to know the modules that match."""
        regression = self.chance(0.3)
        head = self.pick("classifier", "mean_linear")
        sizes = self.sizes()
        adapter = self.adapter(head, sizes["num_hidden_layers"])
        training = self.training()
        if adapter["bias"] != "none" or adapter.get("modules_to_save") == ["key"]:
            # Far above the rounding that stands for the zero gradients of keys' biases
            training |= {"eps": 1e-3, "max_grad_norm": 1}
        return Configuration(
            index=self.index,
            method=self.method,
            head=head,
            labels=self.pick(1, 2, 3) if regression else self.pick(2, 3, 5),
            regression=regression,
            has_own_head=self.chance(0.5),
            sizes=sizes,
            adapter=adapter,
            training=training,
        )

    def adapter(self, head: str, layers: int) -> dict[str, Any]:
        """Options of the adapter without patterns; a first draw may match nothing."""
        options: dict[str, Any] = {
            "r": self.pick(1, 2, 3, 4, 8),
            "lora_alpha": self.pick(1, 4, 8, 16),
        }
        if "rslora" not in self.method and self.chance(0.2):
            options["use_rslora"] = True
        if self.method in ("lora", "cola", "lora-fa") and self.chance(0.2):
            options["use_dora"] = True
        if self.method == "lora" and self.chance(0.3):
            options["init_lora_weights"] = self.pick("gaussian", "pissa")
        dora = options.get("use_dora") or METHODS[self.method].get("use_dora")
        embeddings = not dora and self.chance(0.3)
        targets = self.pick(*(EMBEDDING_TARGETS if embeddings else LINEAR_TARGETS))
        options["target_modules"] = targets
        if self.chance(0.2):
            options["exclude_modules"] = self.pick(*EXCLUSIONS)
        if isinstance(targets, list) and self.chance(0.25):
            wanted = [layer for layer in range(layers) if self.chance(0.6)] or [layers - 1]
            options["layers_to_transform"] = wanted
            if self.chance(0.5):
                options["layers_pattern"] = ["layer"]
        if self.chance(0.4):
            pooler = [["pooler"]] if head == "classifier" else []
            options["modules_to_save"] = self.pick(*TRAINED_IN_FULL, *pooler)
        options["bias"] = self.pick("none", "none", "all", "lora_only")
        return options

    def patterns(self, modules: list[str], largest: int = 8) -> dict[str, Any]:
        """`rank_pattern` and `alpha_pattern` on some of the adapted modules."""
        drawn: dict[str, Any] = {}
        if self.chance(0.35):
            drawn["rank_pattern"] = {
                key: int(self.random.integers(1, largest + 1)) for key in self._keys(modules)
            }
        if self.chance(0.35):
            drawn["alpha_pattern"] = {key: self.pick(1, 2, 6, 24) for key in self._keys(modules)}
        # The first key that matches wins, and PEFT sorts them when it saves: only in that order
        # do PEFT's own files say what PEFT computed
        return {name: dict(sorted(pattern.items())) for name, pattern in drawn.items()}

    def _keys(self, modules: list[str]) -> list[str]:
        keys = []
        for _ in range(self.pick(1, 2, 3)):
            parts = str(self.pick(*modules)).split(".")
            key = ".".join(parts[-int(self.random.integers(1, len(parts) + 1)) :])
            keys.append(re.sub(r"\b\d+\b", r"\\d+", key) if self.chance(0.25) else key)
        return keys

    def training(self) -> dict[str, Any]:
        """Options of the trainer."""
        options: dict[str, Any] = {
            "learning_rate": self.pick(5e-4, 1e-3, 2e-3),
            "weight_decay": self.pick(0.0, 0.01, 0.1),
            "max_grad_norm": self.pick(0, 1),
            "beta1": self.pick(0.9, 0.8),
            "beta2": self.pick(0.999, 0.95),
            "eps": self.pick(1e-4, 1e-3),
        }
        if "loraplus_lr_ratio" in METHODS[self.method]:
            # So that B's rate is about that of the other methods
            options["learning_rate"] /= 10
            if self.chance(0.5):
                options["loraplus_lr_ratio"] = self.pick(2, 4)
            if self.chance(0.5):
                options["loraplus_lr_embedding"] = 1e-3
        if self.method == "lora-fa" and self.chance(0.5):
            options["lorafa_project"] = True
        if self.method == "lora" and self.chance(0.15):
            options["train_a"] = False
        if self.method.startswith("lorasc"):
            options["slow_rate"] = self.pick(1.0, 0.5, 0.3)
        return options
