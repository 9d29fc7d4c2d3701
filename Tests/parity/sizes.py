"""Random sizes of small models, by the names of transformers' configurations.

Each function takes the dice and whether a language model is drawn.
"""

from __future__ import annotations

from typing import Any

from dice import Dice

SMOOTH = ("gelu", "gelu_new", "gelu_pytorch_tanh", "silu")


def bert(dice: Dice, is_language: bool) -> dict[str, Any]:
    """BERT's encoder."""
    heads = dice.pick(2, 3, 4)
    return {
        "num_attention_heads": heads,
        "hidden_size": heads * dice.pick(8, 10, 12),
        "num_hidden_layers": dice.pick(1, 2, 3),
        "intermediate_size": dice.pick(24, 37, 64, 96),
        "vocab_size": dice.integer(40, 90),
        "max_position_embeddings": dice.pick(24, 40),
        "type_vocab_size": dice.pick(1, 2, 2),
        "pad_token_id": 0,
        "hidden_act": dice.pick(*SMOOTH),
        "layer_norm_eps": dice.pick(1e-12, 1e-5),
    }


def roberta(dice: Dice, is_language: bool) -> dict[str, Any]:
    """The same with positions that follow the padding token's."""
    return bert(dice, is_language) | {"pad_token_id": dice.pick(0, 1, 1, 3)}


def distilbert(dice: Dice, is_language: bool) -> dict[str, Any]:
    """BERT's encoder by DistilBERT's names."""
    sizes = bert(dice, is_language)
    return {
        "n_heads": sizes["num_attention_heads"],
        "dim": sizes["hidden_size"],
        "n_layers": sizes["num_hidden_layers"],
        "hidden_dim": sizes["intermediate_size"],
        "vocab_size": sizes["vocab_size"],
        "max_position_embeddings": sizes["max_position_embeddings"],
        "pad_token_id": 0,
        "activation": sizes["hidden_act"],
    }


def llama(dice: Dice, is_language: bool) -> dict[str, Any]:
    """Llama: heads of a size of their own, biases of attention and feed-forward."""
    return (
        _decoder(dice, is_language)
        | _head_size(dice)
        | {
            "rope_parameters": _rope(dice),
            "attention_bias": dice.chance(0.4),
            "mlp_bias": dice.chance(0.4),
        }
    )


def mistral(dice: Dice, is_language: bool) -> dict[str, Any]:
    """Mistral: all layers see a window, or none."""
    return (
        _decoder(dice, is_language)
        | _head_size(dice)
        | {"rope_parameters": _rope(dice), "sliding_window": dice.pick(None, 2, 3, 5, 9)}
    )


def qwen2(dice: Dice, is_language: bool) -> dict[str, Any]:
    """Qwen2: layers from one on see a window."""
    sizes = _decoder(dice, is_language) | {"rope_parameters": _rope(dice)}
    if dice.chance(0.6):
        sizes |= {
            "use_sliding_window": True,
            "sliding_window": dice.pick(2, 4, 7),
            "max_window_layers": dice.integer(0, sizes["num_hidden_layers"]),
        }
    return sizes


def gpt2(dice: Dice, is_language: bool) -> dict[str, Any]:
    """GPT-2."""
    heads = dice.pick(2, 3, 4)
    return {
        "n_head": heads,
        "n_embd": heads * dice.pick(8, 10, 12),
        "n_layer": dice.pick(1, 2, 3),
        "n_inner": dice.pick(None, 37, 64),
        "vocab_size": dice.integer(40, 90),
        "n_positions": dice.pick(24, 40),
        "pad_token_id": 0,
        "activation_function": dice.pick(*SMOOTH),
        "layer_norm_epsilon": dice.pick(1e-6, 1e-5),
        "tie_word_embeddings": not is_language or dice.chance(0.5),
    }


def vit(dice: Dice, is_language: bool) -> dict[str, Any]:
    """ViT and DeiT, of square images or not, with biases of queries, keys and values or not."""
    heads = dice.pick(2, 3, 4)
    patch = dice.pick(2, 4)
    return {
        "num_attention_heads": heads,
        "hidden_size": heads * dice.pick(8, 10, 12),
        "num_hidden_layers": dice.pick(1, 2, 3),
        "intermediate_size": dice.pick(24, 37, 64, 96),
        "image_size": dice.pick(2 * patch, 3 * patch, [2 * patch, 4 * patch]),
        "patch_size": patch,
        "num_channels": dice.pick(1, 3),
        "qkv_bias": dice.chance(0.6),
        "hidden_act": dice.pick(*SMOOTH),
        "layer_norm_eps": dice.pick(1e-12, 1e-5),
    }


def _decoder(dice: Dice, is_language: bool) -> dict[str, Any]:
    """What Llama's family has in common: grouped queries, tied output or not."""
    shared = dice.pick(1, 2, 3)
    heads = shared * dice.pick(1, 2, 3)
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "hidden_size": heads * dice.pick(8, 10, 12),
        "num_hidden_layers": dice.pick(1, 2, 3),
        "intermediate_size": dice.pick(24, 37, 64, 96),
        "vocab_size": dice.integer(40, 90),
        "max_position_embeddings": dice.pick(24, 40),
        # A classifier finds the last token by it
        "pad_token_id": dice.pick(None, 0, 5) if is_language else 0,
        "hidden_act": dice.pick("silu", "silu", "gelu", "gelu_pytorch_tanh"),
        "rms_norm_eps": dice.pick(1e-6, 1e-5),
        "tie_word_embeddings": dice.chance(0.5),
    }


def _head_size(dice: Dice) -> dict[str, Any]:
    """That of hidden_size / heads, or another one."""
    return {"head_dim": dice.pick(8, 10, 14)} if dice.chance(0.4) else {}


def _rope(dice: Dice) -> dict[str, Any]:
    """Rotary positions, scaled or not."""
    kind = dice.pick("default", "default", "linear", "dynamic", "llama3", "yarn")
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": dice.pick(50.0, 1e4, 5e5)}
    if kind != "default":
        rope["factor"] = dice.pick(1.5, 2.0, 4.0, 8.0)
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = dice.pick(8, 12, 20)
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": dice.pick(2.0, 4.0)}
    if kind == "yarn":
        rope |= dice.pick(
            {},
            {"beta_fast": 16.0, "beta_slow": 2.0},
            {"attention_factor": 1.3},
            {"mscale": 0.8, "mscale_all_dim": 0.5},
            {"truncate": False},
        )
    return rope
