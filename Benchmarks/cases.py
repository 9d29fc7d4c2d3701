"""What is measured: models, shapes, adapters, and the products that one step takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "examples" / "python"))

from models import find_model  # noqa: E402

LABELS = 10
ADAPTERS: dict[str, dict[str, Any]] = {
    "q,v r=8": {"r": 8, "lora_alpha": 16},
    "all linear r=16": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
}
QUERY_VALUE = {"minilm": "query,value", "smollm2": "q_proj,v_proj", "vit-s16": "query,value"}


@dataclass(frozen=True)
class Case:
    """One model with one shape of batch and one set of adapters.

    Attributes:
        model: "minilm", "smollm2" or "vit-s16".
        rows: of the batch.
        length: of each row; of images the tokens that one becomes.
        adapters: a key of ADAPTERS.
    """

    model: str
    rows: int
    length: int
    adapters: str

    @property
    def shape(self) -> str:
        """Rows and length."""
        return f"{self.rows}x{self.length}"

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.model} {self.shape} {self.adapters}"

    @property
    def head(self) -> str:
        """What is trained on top: a classifier of one token, or every token's successor."""
        return "lm" if self.model == "smollm2" else "classifier"

    def options(self) -> dict[str, Any]:
        """Of the adapter, in the engine's words."""
        targets = {"target_modules": QUERY_VALUE[self.model]}
        labels = {} if self.head == "lm" else {"num_labels": LABELS}
        return {"head": self.head} | labels | targets | ADAPTERS[self.adapters]


def all_cases() -> list[Case]:
    """The eight cases."""
    shapes = (("minilm", 32, 64), ("minilm", 32, 128), ("smollm2", 4, 256), ("vit-s16", 16, 197))
    return [Case(*shape, adapters) for shape in shapes for adapters in ADAPTERS]


def quick_cases() -> list[Case]:
    """The two that `CASES=quick` measures."""
    return [Case("minilm", 32, 64, "q,v r=8"), Case("vit-s16", 16, 197, "q,v r=8")]


def model_folder(model: str) -> Path:
    """The Hugging Face folder of a case's model; ViT-S/16 is made once, with random weights."""
    if model != "vit-s16":
        return find_model(model)
    folder = REPOSITORY / "build" / "bench" / "vit-s16"
    if not (folder / "config.json").is_file():
        import torch
        from transformers import ViTConfig, ViTModel

        torch.manual_seed(0)
        sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
        ViTModel(ViTConfig(**sizes), add_pooling_layer=False).save_pretrained(folder)
    return folder


def made_up_batch(case: Case) -> dict[str, np.ndarray]:
    """Random pixels, or rows of random tokens; and labels of a classifier."""
    random = np.random.default_rng(0)
    labels = {} if case.head == "lm" else {"labels": np.arange(case.rows, dtype=np.int32) % LABELS}
    if case.model == "vit-s16":
        pixels = random.normal(0, 1, (case.rows, 3, 224, 224)).astype(np.float32)
        return {"pixels": pixels, **labels}
    tokens = random.integers(1000, 30000, case.rows * case.length).astype(np.int32)
    offsets = np.arange(case.rows + 1, dtype=np.int64) * case.length
    return {"tokens": tokens, "offsets": offsets, **labels}


def step_flops(case: Case, config: dict[str, Any]) -> float:
    """Floating-point operations of the products of a step, as the engine executes them.

    Two for each multiplication and addition. For each token of a layer: the linear modules
    forward, and backward to their inputs (the frozen weights have no gradients); nothing goes
    below the lowest adapted module. Adapters r (in + out) three times. Attention forward twice,
    backward five times L times the width, of causal attention half. Of a classifier the last
    layer's modules run for one token of each row, but for keys and values. The output layer of
    a language model forward and backward.
    """
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    inner = config["intermediate_size"]
    heads = config["num_attention_heads"]
    shared = config.get("num_key_value_heads", heads) * (hidden // heads)
    is_language = case.head == "lm"
    modules = {
        "q": (hidden, hidden),
        "k": (hidden, shared),
        "v": (hidden, shared),
        "o": (hidden, hidden),
        "up": (hidden, inner),
        "down": (inner, hidden),
    } | ({"gate": (hidden, inner)} if is_language else {})
    adapted = ("q", "v") if case.adapters.startswith("q,v") else tuple(modules)
    rank = ADAPTERS[case.adapters]["r"]
    tokens = case.rows * case.length
    total = 0.0
    for layer in range(layers):
        last = layer == layers - 1 and not is_language
        for name, (into, out) in modules.items():
            rows = case.rows if last and name not in ("k", "v") else tokens
            is_lowest = layer == 0 and name in ("q", "k", "v")
            total += rows * 2 * into * out * (1 if is_lowest else 2)
            if name in adapted:
                total += rows * 2 * rank * (into + out) * 3
        rows = case.rows if last else tokens
        seen = case.length / 2 if is_language else case.length
        total += rows * 2 * 7 * seen * hidden
    if is_language:
        total += tokens * 2 * 2 * hidden * config["vocab_size"]
    return total
