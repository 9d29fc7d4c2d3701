"""What is drawn for each architecture: sizes, heads, and rules by the names of its modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sizes
from dice import Dice

Rules = list[list[str] | str]
TEXT_HEADS = ("classifier", "token", "mean_linear", "embedding")


@dataclass(frozen=True)
class Family:
    """An architecture.

    Attributes:
        config: transformers' class of its configuration.
        prefix: of the backbone's tensors in a model with a head.
        sizes: draws a model's.
        layers: what stands before a layer's index.
        depth: the size that is the number of layers.
        length: of the longest row, from the sizes; 0: images.
        linear: targets of adapters.
        embeddings: targets with embeddings among them.
        exclusions: modules without adapters.
        full: modules trained in full.
        zero_gradients: those of them with biases of keys, which a softmax doesn't see.
        heads: of the engine's.
        head_modules: of the classifier that PEFT does not save by itself.
        words: the embedding that may be the output layer too.
        has_pooler: its bare model has one that no head but BERT's classifier uses.
    """

    config: str
    prefix: str
    sizes: Callable[[Dice, bool], dict[str, Any]]
    layers: str
    depth: str
    length: Callable[[dict[str, Any]], int]
    linear: Rules
    embeddings: Rules
    exclusions: Rules
    full: list[list[str]]
    zero_gradients: tuple[str, ...] = ()
    heads: tuple[str, ...] = TEXT_HEADS
    head_modules: tuple[str, ...] = ()
    words: str = "word_embeddings"
    has_pooler: bool = False

    @property
    def is_decoder(self) -> bool:
        """True where the engine has the head lm."""
        return "lm" in self.heads


def _encoder(
    config: str, prefix: str, draw: Callable[[Dice, bool], dict[str, Any]], offset: bool
) -> Family:
    """BERT's, or with `offset` RoBERTa's, whose positions start after the padding token's."""
    return Family(
        config=config,
        prefix=prefix,
        sizes=draw,
        layers="layer",
        depth="num_hidden_layers",
        length=lambda drawn: (
            drawn["max_position_embeddings"] - (drawn["pad_token_id"] + 1 if offset else 0)
        ),
        linear=[
            ["query", "value"],
            ["query", "key", "value", "dense"],
            ["key"],
            ["attention.output.dense", "intermediate.dense"],
            ["output.dense"],
            ["layer.0.attention.self.key", "dense"],
            "all-linear",
            r".*layer\.\d+\.attention\.self\.(query|value)",
            r".*(key|intermediate\.dense)",
        ],
        embeddings=[
            ["query", "word_embeddings"],
            ["word_embeddings", "position_embeddings", "token_type_embeddings"],
            ["position_embeddings", "output.dense"],
            r".*(word_embeddings|value)",
        ],
        exclusions=[
            ["layer.0.attention.self.query"],
            ["key", "intermediate.dense"],
            r".*layer\.0\..*",
        ],
        full=[
            ["LayerNorm"],
            ["attention.output.LayerNorm"],
            ["word_embeddings"],
            ["word_embeddings", "position_embeddings"],
            ["key"],
            ["intermediate"],
            ["attention.output"],
            ["layer.0.output", "embeddings.LayerNorm"],
        ],
        zero_gradients=("key",),
        has_pooler=True,
    )


def _llama(config: str, draw: Callable[[Dice, bool], dict[str, Any]]) -> Family:
    return Family(
        config=config,
        prefix="model.",
        sizes=draw,
        layers="layers",
        depth="num_hidden_layers",
        length=lambda drawn: drawn["max_position_embeddings"],
        linear=[
            ["q_proj", "v_proj"],
            ["q_proj", "k_proj", "v_proj", "o_proj"],
            ["gate_proj", "up_proj", "down_proj"],
            ["k_proj", "down_proj"],
            ["layers.0.self_attn.o_proj", "mlp.up_proj"],
            "all-linear",
            r".*layers\.\d+\.self_attn\.(q_proj|v_proj)",
            r".*\.(o_proj|gate_proj)",
        ],
        embeddings=[["embed_tokens", "q_proj"], ["embed_tokens"], r".*(embed_tokens|up_proj)"],
        exclusions=[
            ["layers.0.self_attn.q_proj"],
            ["k_proj", "up_proj"],
            r".*layers\.0\..*",
        ],
        full=[
            ["input_layernorm"],
            ["norm"],
            ["embed_tokens"],
            ["k_proj"],
            ["mlp"],
            ["layers.0.self_attn"],
            ["layers.0.mlp.down_proj", "post_attention_layernorm"],
        ],
        heads=("lm", "lm", *TEXT_HEADS),
        words="embed_tokens",
    )


def _vision(config: str, prefix: str) -> Family:
    """By the names that transformers has in memory."""
    return Family(
        config=config,
        prefix=prefix,
        sizes=sizes.vit,
        layers="layers",
        depth="num_hidden_layers",
        length=lambda drawn: 0,
        linear=[
            ["q_proj", "v_proj"],
            ["q_proj", "k_proj", "v_proj", "o_proj"],
            ["mlp.fc1", "mlp.fc2"],
            ["k_proj", "fc2"],
            ["layers.0.attention.o_proj", "fc1"],
            "all-linear",
            r".*layers\.\d+\.attention\.(q_proj|v_proj)",
            r".*\.(o_proj|fc1)",
        ],
        embeddings=[],
        exclusions=[["layers.0.attention.q_proj"], ["k_proj", "fc2"], r".*layers\.0\..*"],
        full=[
            ["layernorm_before"],
            ["layernorm"],
            ["k_proj"],
            ["mlp"],
            ["mlp.fc2"],
            ["layers.0.attention"],
            ["layers.0.mlp.fc1", "layernorm_after"],
        ],
        zero_gradients=("k_proj", "layers.0.attention"),
        heads=("classifier", "mean_linear"),
        head_modules=("classifier",),
        has_pooler=True,
    )


FAMILIES: dict[str, Family] = {
    "bert": _encoder("BertConfig", "bert.", sizes.bert, offset=False),
    "roberta": _encoder("RobertaConfig", "roberta.", sizes.roberta, offset=True),
    "xlm-roberta": _encoder("XLMRobertaConfig", "roberta.", sizes.roberta, offset=True),
    "distilbert": Family(
        config="DistilBertConfig",
        prefix="distilbert.",
        sizes=sizes.distilbert,
        layers="layer",
        depth="n_layers",
        length=lambda drawn: drawn["max_position_embeddings"],
        linear=[
            ["q_lin", "v_lin"],
            ["q_lin", "k_lin", "v_lin", "out_lin"],
            ["lin1", "lin2"],
            ["layer.0.attention.k_lin", "ffn.lin2"],
            "all-linear",
            r".*layer\.\d+\.attention\.(q_lin|v_lin)",
            r".*\.(out_lin|lin1)",
        ],
        embeddings=[
            ["q_lin", "word_embeddings"],
            ["word_embeddings", "position_embeddings"],
            r".*(word_embeddings|lin2)",
        ],
        exclusions=[["layer.0.attention.q_lin"], ["k_lin", "lin1"], r".*layer\.0\..*"],
        full=[
            ["LayerNorm"],
            ["sa_layer_norm"],
            ["word_embeddings"],
            ["k_lin"],
            ["ffn"],
            ["layer.0.attention"],
            ["layer.0.ffn.lin1", "output_layer_norm"],
        ],
        zero_gradients=("k_lin", "layer.0.attention"),
        head_modules=("pre_classifier",),
    ),
    "llama": _llama("LlamaConfig", sizes.llama),
    "mistral": _llama("MistralConfig", sizes.mistral),
    "qwen2": _llama("Qwen2Config", sizes.qwen2),
    "gpt2": Family(
        config="GPT2Config",
        prefix="transformer.",
        sizes=sizes.gpt2,
        layers="h",
        depth="n_layer",
        length=lambda drawn: drawn["n_positions"],
        linear=[
            ["c_attn"],
            ["c_attn", "c_proj", "c_fc"],
            ["attn.c_proj", "mlp.c_fc"],
            ["h.0.attn.c_attn", "mlp.c_proj"],
            "all-linear",
            r".*h\.\d+\.attn\.(c_attn|c_proj)",
            r".*mlp\.(c_fc|c_proj)",
        ],
        embeddings=[["wte", "c_attn"], ["wte", "wpe"], ["wpe", "mlp.c_proj"], r".*(wte|c_fc)"],
        exclusions=[["h.0.attn.c_attn"], ["attn.c_proj", "c_fc"], r".*h\.0\..*"],
        full=[["ln_1"], ["ln_f"], ["wte"], ["wpe"], ["h.0.ln_2", "ln_f"]],
        heads=("lm", "lm", *TEXT_HEADS),
        words="wte",
    ),
    "vit": _vision("ViTConfig", "vit."),
    "deit": _vision("DeiTConfig", "deit."),
}
