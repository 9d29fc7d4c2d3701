"""Small random models of every architecture, made by transformers, and the same under PEFT."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

import lorasc

from reference import pad

VOCABULARY = 61
LONGEST = 24

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": LONGEST + 4,
}
DECODER = ENCODER | {"num_key_value_heads": 2, "hidden_size": 48, "head_dim": 12}
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 12,
    "patch_size": 4,
    "num_channels": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 12,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 3.0,
    "original_max_position_embeddings": 8,
}


@dataclass(frozen=True)
class Architecture:
    """A configuration of one model type.

    Attributes:
        config: transformers' class of the configuration.
        sizes: its arguments.
        prefix: of the backbone's tensors in a model with a head.
        targets: modules with an adapter, by the names of the file.
        in_memory: the same by transformers' names in memory, where they differ.
        saved: modules of the head beside PEFT's own, trained with it.
        heads: what the model type is tested with.
    """

    config: str
    sizes: dict[str, Any]
    prefix: str
    targets: tuple[str, ...]
    in_memory: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("classifier", "token")
    extra: dict[str, Any] = field(default_factory=dict)


LLAMA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DECODER_HEADS = ("lm", "classifier", "token")

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(
        "BertConfig", ENCODER, "bert.", ("query", "key", "value", "dense"), heads=("token",)
    ),
    "roberta": Architecture(
        "RobertaConfig",
        ENCODER | {"pad_token_id": 1, "type_vocab_size": 1},
        "roberta.",
        ("query", "value", "intermediate.dense"),
    ),
    "xlm-roberta": Architecture(
        "XLMRobertaConfig",
        ENCODER | {"pad_token_id": 1, "type_vocab_size": 1},
        "roberta.",
        ("key", "attention.output.dense"),
    ),
    "distilbert": Architecture(
        "DistilBertConfig",
        {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": LONGEST,
        },
        "distilbert.",
        ("q_lin", "v_lin", "out_lin", "lin1", "lin2"),
        saved=("pre_classifier",),
    ),
    "llama": Architecture("LlamaConfig", DECODER, "model.", LLAMA_TARGETS, heads=DECODER_HEADS),
    "llama-tied-llama3": Architecture(
        "LlamaConfig",
        DECODER | {"tie_word_embeddings": True, "rope_parameters": LLAMA3, "mlp_bias": True},
        "model.",
        LLAMA_TARGETS,
        heads=("lm",),
    ),
    "llama-linear": Architecture(
        "LlamaConfig",
        DECODER
        | {
            "attention_bias": True,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.5},
        },
        "model.",
        ("q_proj", "v_proj", "lm_head"),
        heads=("lm",),
    ),
    "llama-dynamic": Architecture(
        "LlamaConfig",
        DECODER | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 99.0, "factor": 2.0}},
        "model.",
        ("q_proj", "o_proj"),
        heads=("lm",),
    ),
    "mistral": Architecture(
        "MistralConfig",
        DECODER | {"sliding_window": 5, "num_key_value_heads": 1},
        "model.",
        LLAMA_TARGETS,
        heads=DECODER_HEADS,
    ),
    "qwen2-yarn": Architecture(
        "Qwen2Config",
        {key: value for key, value in DECODER.items() if key != "head_dim"}
        | {"rope_parameters": YARN, "tie_word_embeddings": True},
        "model.",
        LLAMA_TARGETS,
        heads=DECODER_HEADS,
    ),
    "qwen2-window": Architecture(
        "Qwen2Config",
        {key: value for key, value in DECODER.items() if key != "head_dim"}
        | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        "model.",
        ("q_proj", "v_proj"),
        heads=("lm",),
    ),
    "gpt2": Architecture(
        "GPT2Config",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 48,
            "vocab_size": VOCABULARY,
            "n_positions": LONGEST,
        },
        "transformer.",
        ("c_attn", "c_proj", "c_fc"),
        heads=DECODER_HEADS,
    ),
    "vit": Architecture(
        "ViTConfig",
        VISION,
        "vit.",
        ("query", "value", "attention.output.dense", "intermediate.dense"),
        ("q_proj", "v_proj", "o_proj", "fc1"),
        heads=("classifier",),
    ),
    "deit": Architecture(
        "DeiTConfig",
        VISION | {"qkv_bias": False, "image_size": 8},
        "deit.",
        ("key", "value", "output.dense"),
        ("k_proj", "v_proj", "o_proj", "fc2"),
        heads=("classifier",),
    ),
}
AUTO = {
    "classifier": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
    "lm": transformers.AutoModelForCausalLM,
    "image": transformers.AutoModelForImageClassification,
    "none": transformers.AutoModel,
}
TASKS = {"classifier": "SEQ_CLS", "token": "TOKEN_CLS", "lm": "CAUSAL_LM"}


def is_vision(name: str) -> bool:
    """Whether the model takes images."""
    return name in ("vit", "deit")


def auto_class(name: str, head: str) -> Any:
    """Transformers' class for a head."""
    return AUTO["image" if is_vision(name) and head == "classifier" else head]


def build(name: str, head: str, num_labels: int, seed: int = 0) -> nn.Module:
    """A random model in evaluation mode."""
    architecture = ARCHITECTURES[name]
    config = getattr(transformers, architecture.config)(**architecture.sizes, num_labels=num_labels)
    config.pad_token_id = getattr(config, "pad_token_id", None) or 0
    return random_model(config, auto_class(name, head), seed)


def random_model(
    config: transformers.PreTrainedConfig, auto: Any, seed: int
) -> transformers.PreTrainedModel:
    """A random model in evaluation mode, with biases and norms off their usual 0 and 1."""
    torch.manual_seed(seed)
    # AutoModel cannot go through the None that some configurations have
    config.architectures = []
    model = auto.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.2
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def save(name: str, head: str, folder: Path, num_labels: int = 3, **options: Any) -> Path:
    """The same in a folder."""
    build(name, head, num_labels).save_pretrained(folder, **options)
    return folder


class Peer:
    """A folder's model under PEFT, with the engine's names for its trainable tensors."""

    def __init__(
        self, name: str, head: str, folder: Path, num_labels: int, r: int, alpha: float
    ) -> None:
        architecture = ARCHITECTURES[name]
        self.name, self.head, self.architecture = name, head, architecture
        labels = {} if head == "lm" else {"num_labels": num_labels}
        model = auto_class(name, head).from_pretrained(
            folder, attn_implementation="eager", **labels
        )
        saved = ["classifier"] if is_vision(name) else list(architecture.saved)
        config = LoraConfig(
            r=r,
            lora_alpha=alpha,
            target_modules=list(architecture.in_memory or architecture.targets),
            lora_dropout=0.0,
            task_type=None if is_vision(name) else TASKS[head],
            modules_to_save=(saved or None) if head == "classifier" else None,
        )
        self.model = get_peft_model(model.float(), config).eval()

    def tensors(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by the engine's names."""
        return {
            self.engine_name(name): parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def engine_name(self, name: str) -> str:
        """A PEFT parameter's name as the engine has it."""
        name = name.removeprefix("base_model.model.").removeprefix(self.architecture.prefix)
        name = name.replace(".default", "").replace(".modules_to_save", "")
        return file_name(name) if is_vision(self.name) else name

    def load_from(self, adapter: lorasc.Adapter) -> None:
        """Takes the adapter's values, so that both start alike."""
        own = self.tensors()
        names = adapter.tensors().keys()
        assert own.keys() == set(names), sorted(own.keys() ^ set(names))
        with torch.no_grad():
            for name in names:
                own[name].copy_(torch.from_numpy(adapter[name]))

    def loss(self, batch: lorasc.Batch) -> torch.Tensor:
        """The mean loss of a batch."""
        return loss(self.model, self.head, batch)


def file_name(name: str) -> str:
    """The name of a ViT's module or tensor in memory as its file has it."""
    renamed = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    name = re.sub(r"^layers\.", "encoder.layer.", name)
    for new, old in renamed.items():
        name = re.sub(rf"\.{re.escape(new)}(?=\.|$)", f".{old}", name)
    return name


def outputs(model: nn.Module, batch: lorasc.Batch) -> torch.Tensor:
    """The model's logits, of padded rows."""
    return model(**inputs(batch, next(model.parameters()).dtype)).logits


def inputs(batch: lorasc.Batch, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A batch as transformers takes it."""
    if batch.pixels is not None:
        return {"pixel_values": torch.from_numpy(batch.pixels).to(dtype)}
    return pad(batch)


def loss(model: nn.Module, head: str, batch: lorasc.Batch) -> torch.Tensor:
    """PyTorch's mean cross-entropy of a batch's labels."""
    return cross_entropy(outputs(model, batch), head, batch)


def cross_entropy(logits: torch.Tensor, head: str, batch: lorasc.Batch) -> torch.Tensor:
    """The same from logits: of rows, or of "token" and "lm" for each token of padded rows."""
    if head not in ("token", "lm"):
        return nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels.astype(np.int64)))
    labels = np.full(logits.shape[:2], -100, np.int64)
    weights = np.ones(logits.shape[:2], np.float32)
    for row in range(len(batch)):
        span = slice(batch.offsets[row], batch.offsets[row + 1])
        given = batch.token_labels if batch.token_labels is not None else batch.tokens
        labels[row, : span.stop - span.start] = given[span]
        if batch.token_weights is not None:
            weights[row, : span.stop - span.start] = batch.token_weights[span]
    if head == "lm":
        logits, labels, weights = logits[:, :-1], labels[:, 1:], weights[:, 1:]
    flat = torch.from_numpy(labels.reshape(-1).copy())
    each = nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), flat, ignore_index=-100, reduction="none"
    )
    kept = torch.from_numpy(weights.reshape(-1).copy()) * (flat != -100)
    return (each * kept).sum() / kept.sum()


def random_batch(name: str, head: str, seed: int, rows: int = 5, labels: int = 3) -> lorasc.Batch:
    """Rows of random lengths with random labels, some of them left out."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, labels, rows)
    if is_vision(name):
        side = ARCHITECTURES[name].sizes["image_size"]
        pixels = random.normal(size=(rows, 3, side, side)).astype(np.float32)
        return lorasc.Batch.images(pixels, labels=classes)
    lengths = random.integers(2, LONGEST + 1, rows)
    tokens = [random.integers(2, VOCABULARY, length).tolist() for length in lengths]
    if head == "classifier":
        return lorasc.Batch(tokens, labels=classes)
    top = labels if head == "token" else VOCABULARY
    given: Callable[[int], Any] = lambda length: np.where(  # noqa: E731
        random.random(length) < 0.3, -100, random.integers(0, top, length)
    )
    if head == "lm" and seed % 3 == 0:
        return lorasc.Batch(tokens)
    return lorasc.Batch(
        tokens,
        token_labels=[given(length).tolist() for length in lengths],
        token_weights=[random.uniform(0, 2, length).tolist() for length in lengths],
    )
