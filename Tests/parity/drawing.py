"""Draws configurations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import lcm
from typing import Any

from configuration import BACKBONE_HEADS, METHODS, Configuration
from dice import Dice
from families import FAMILIES


class Drawer:
    """Draws one configuration, the same for the same seed, index and choices.

    Architectures and methods take turns, so that each meets each.
    """

    def __init__(
        self, seed: int, index: int, architectures: Sequence[str], methods: Sequence[str]
    ) -> None:
        self.index = index
        self.architecture = architectures[index % len(architectures)]
        self.family = FAMILIES[self.architecture]
        turn = index // lcm(len(architectures), len(methods))
        self.method = methods[(index + turn + seed) % len(methods)]
        self.dice = Dice(seed, index)

    def configuration(self) -> Configuration:
        """Everything but the patterns, which need to know the modules that match."""
        dice = self.dice
        head = dice.pick(*self.family.heads)
        sizes = self.family.sizes(dice, head == "lm")
        labels, problem = self.labels(head)
        adapter = self.adapter(head, sizes)
        training = self.training(head)
        saved = adapter.get("modules_to_save", [])
        if adapter["bias"] != "none" or any(name in self.family.zero_gradients for name in saved):
            # Far above the rounding that stands for the zero gradients of keys' biases
            training |= {"eps": 1e-3, "max_grad_norm": 1}
        own = "none" if head in BACKBONE_HEADS else head
        return Configuration(
            index=self.index,
            architecture=self.architecture,
            method=self.method,
            head=head,
            labels=labels,
            problem=problem,
            # An output layer of its own is in no bare model
            stored=own if is_untied(head, sizes) else dice.pick("none", own),
            sizes=sizes,
            adapter=adapter,
            training=training,
        )

    def labels(self, head: str) -> tuple[int, str]:
        """How many, and the kind of problem; of "embedding" the rows of an example."""
        dice = self.dice
        problem = "single_label_classification"
        if head in ("classifier", "mean_linear"):
            problem = dice.pick(problem, problem, "regression", "multi_label_classification")
        if head == "embedding":
            return dice.pick(2, 3), problem
        if problem == "regression":
            return dice.pick(1, 2, 3), problem
        return dice.pick(2, 3, 5), problem

    def adapter(self, head: str, sizes: dict[str, Any]) -> dict[str, Any]:
        """Options of the adapter without patterns; a first draw may match nothing."""
        dice, family = self.dice, self.family
        options: dict[str, Any] = {
            "r": dice.pick(1, 2, 3, 4, 8),
            "lora_alpha": dice.pick(1, 4, 8, 16),
        }
        if "rslora" not in self.method and dice.chance(0.2):
            options["use_rslora"] = True
        if self.method in ("lora", "cola", "lora-fa") and dice.chance(0.2):
            options["use_dora"] = True
        if self.method == "lora" and dice.chance(0.3):
            options["init_lora_weights"] = dice.pick("gaussian", "pissa")
        dora = options.get("use_dora") or METHODS[self.method].get("use_dora")
        linear, embeddings, full = self.rules(head, sizes)
        is_embedding = bool(embeddings) and not dora and dice.chance(0.3)
        targets = dice.pick(*(embeddings if is_embedding else linear))
        options["target_modules"] = targets
        if dice.chance(0.2):
            options["exclude_modules"] = dice.pick(*family.exclusions)
        if isinstance(targets, list) and dice.chance(0.25):
            depth = sizes[family.depth]
            wanted = [layer for layer in range(depth) if dice.chance(0.6)] or [depth - 1]
            options["layers_to_transform"] = wanted
            # Without it PEFT finds no index in the names of bare models, as "layers.0.mlp"
            if head in BACKBONE_HEADS or dice.chance(0.5):
                options["layers_pattern"] = [family.layers]
        if dice.chance(0.4):
            options["modules_to_save"] = dice.pick(*full)
        options["bias"] = dice.pick("none", "none", "all", "lora_only")
        return options

    def rules(self, head: str, sizes: dict[str, Any]) -> tuple[list, list, list]:
        """Targets without and with embeddings and modules trained in full, for this head."""
        family = self.family
        linear, embeddings, full = list(family.linear), list(family.embeddings), list(family.full)
        if head == "token":
            # PEFT takes the token classifier for one of them, and then refuses it
            linear.remove("all-linear")
        if head == "classifier" and self.architecture == "bert":
            full.append(["pooler"])
        if is_untied(head, sizes):
            linear.append(["lm_head", family.linear[0][0]])
            full.append(["lm_head"])
        elif head == "lm":
            embeddings, full = (
                [rule for rule in rules if family.words not in str(rule)]
                for rules in (embeddings, full)
            )
        return linear, embeddings, full

    def patterns(self, modules: list[str], largest: int = 8) -> dict[str, Any]:
        """`rank_pattern` and `alpha_pattern` on some of the adapted modules."""
        drawn: dict[str, Any] = {}
        if self.dice.chance(0.35):
            drawn["rank_pattern"] = {
                key: self.dice.integer(1, largest) for key in self._keys(modules)
            }
        if self.dice.chance(0.35):
            drawn["alpha_pattern"] = {
                key: self.dice.pick(1, 2, 6, 24) for key in self._keys(modules)
            }
        # The first key that matches wins, and PEFT sorts them when it saves: only in that order
        # do PEFT's own files say what PEFT computed
        return {name: dict(sorted(pattern.items())) for name, pattern in drawn.items()}

    def _keys(self, modules: list[str]) -> list[str]:
        keys = []
        for _ in range(self.dice.pick(1, 2, 3)):
            parts = str(self.dice.pick(*modules)).split(".")
            key = ".".join(parts[-self.dice.integer(1, len(parts)) :])
            keys.append(re.sub(r"\b\d+\b", r"\\d+", key) if self.dice.chance(0.25) else key)
        return keys

    def training(self, head: str) -> dict[str, Any]:
        """Options of the trainer."""
        dice = self.dice
        options: dict[str, Any] = {
            "learning_rate": dice.pick(5e-4, 1e-3, 2e-3),
            "weight_decay": dice.pick(0.0, 0.01, 0.1),
            "max_grad_norm": dice.pick(0, 1),
            "beta1": dice.pick(0.9, 0.8),
            "beta2": dice.pick(0.999, 0.95),
            "eps": dice.pick(1e-4, 1e-3),
        }
        if head == "embedding":
            options["similarity_scale"] = dice.pick(5, 20)
        if "loraplus_lr_ratio" in METHODS[self.method]:
            # So that B's rate is about that of the other methods
            options["learning_rate"] /= 10
            if dice.chance(0.5):
                options["loraplus_lr_ratio"] = dice.pick(2, 4)
            if dice.chance(0.5):
                options["loraplus_lr_embedding"] = 1e-3
        if self.method == "lora-fa" and dice.chance(0.5):
            options["lorafa_project"] = True
        if self.method == "lora" and dice.chance(0.15):
            options["train_a"] = False
        if self.method.startswith("lorasc"):
            options["slow_rate"] = dice.pick(1.0, 0.5, 0.3)
        return options


def is_untied(head: str, sizes: dict[str, Any]) -> bool:
    """True for a language model with an output layer of its own."""
    return head == "lm" and not sizes["tie_word_embeddings"]
