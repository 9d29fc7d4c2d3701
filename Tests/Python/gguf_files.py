"""GGUF files of small random models, written by the gguf package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch import nn

PLAIN = (Type.F32, Type.F16, Type.BF16)
BLOCKS_OF_32 = (Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0)
SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2)}
SCALES[Type.Q6_K] = (208,)
"""Types of 256 values that the gguf package reads and can't write, and where a block's float16
scales are."""
TYPES = (*PLAIN, *BLOCKS_OF_32, *SCALES)

LAYOUTS = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "bert": gguf.MODEL_ARCH.BERT,
}


def encode(values: np.ndarray, kind: Type, random: np.random.Generator) -> np.ndarray:
    """A matrix's bytes in a type; for types that can't be written, random ones about as large."""
    if kind not in SCALES:
        return gguf.quantize(values, kind)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (values.size // elements, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        scales = random.uniform(0.5, 1.5, (len(blocks), 1)).astype(np.float16) / 2000
        blocks[:, offset : offset + 2] = scales.view(np.uint8)
    return blocks.reshape(*values.shape[:-1], -1)


def paired(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from half by half to pair by pair, as llama.cpp has them."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def halved(values: np.ndarray, heads: int) -> np.ndarray:
    """The way back."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


class Layout:
    """How one model's tensors lie in a GGUF file."""

    def __init__(self, model: nn.Module) -> None:
        self.config = model.config
        self.kind: str = model.config.model_type
        layers = model.config.num_hidden_layers
        self.names = gguf.get_tensor_name_map(LAYOUTS[self.kind], layers)

    def name(self, tensor: str) -> str:
        """The tensor's name there."""
        module, parameter = tensor.rsplit(".", 1)
        found = self.names.get_name(module)
        assert found is not None, tensor
        return f"{found}.{parameter}"

    def heads(self, name: str) -> int:
        """Of a tensor whose rows are paired, else 0."""
        if self.kind != "llama" or ".attn_" not in name:
            return 0
        if ".attn_q." in name:
            return self.config.num_attention_heads
        return self.config.num_key_value_heads if ".attn_k." in name else 0

    def is_transposed(self, name: str) -> bool:
        """Whether transformers has the matrix the other way round."""
        matrices = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
        return self.kind == "gpt2" and name.split(".")[-2:] in [[m, "weight"] for m in matrices]

    def to_file(self, name: str, values: np.ndarray) -> np.ndarray:
        """A tensor of transformers as the file has it."""
        if heads := self.heads(name):
            return paired(values, heads)
        return np.ascontiguousarray(values.T) if self.is_transposed(name) else values

    def from_file(self, name: str, values: np.ndarray) -> np.ndarray:
        """The way back."""
        if heads := self.heads(name):
            return halved(values, heads)
        return np.ascontiguousarray(values.T) if self.is_transposed(name) else values


def write(
    path: Path,
    model: nn.Module,
    kind: Type = Type.F32,
    metadata: dict[str, Any] | None = None,
    extra: dict[str, tuple[np.ndarray, Type]] | None = None,
) -> dict[str, np.ndarray]:
    """Writes the model, matrices in a type, and gives the model the values that were written.

    Args:
        path: the file.
        model: of transformers, tied embeddings left out of the file.
        kind: of matrices whose rows fill its blocks; others and vectors are float32.
        metadata: keys to set or, where None, to leave out.
        extra: bytes and types of tensors to write, instead of the model's where names agree.

    Returns:
        The tensors' values, by transformers' names.
    """
    random = np.random.default_rng(0)
    layout = Layout(model)
    writer = gguf.GGUFWriter(path, layout.kind)
    for key, value in (describe(model) | (metadata or {})).items():
        add(writer, key, value)
    written: dict[str, np.ndarray] = {}
    state = {name: value for name, value in model.state_dict().items() if keeps(model, name)}
    extra = extra or {}
    for name, (raw, own) in extra.items():
        writer.add_tensor(name, raw, raw_dtype=own)
    for tensor, parameter in state.items():
        name = layout.name(tensor)
        if name in extra:
            continue
        values = layout.to_file(name, parameter.detach().float().numpy())
        fits = values.ndim == 2 and values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        own = kind if fits else Type.F32
        raw = encode(values, own, random)
        writer.add_tensor(name, raw, raw_dtype=own)
        there = gguf.dequantize(raw, own).reshape(values.shape)
        written[tensor] = layout.from_file(name, there)
    factors = frequency_factors(model)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with torch.no_grad():
        for tensor, values in written.items():
            model.get_parameter(tensor).copy_(torch.from_numpy(values))
    return written


def keeps(model: nn.Module, name: str) -> bool:
    """Whether a file holds the tensor: not tied ones, not what converters leave out."""
    if name == "lm_head.weight" and model.config.tie_word_embeddings:
        return False
    return not name.startswith("pooler.") and not name.endswith("position_ids")


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """One key in the type that llama.cpp's converters give it."""
    if value is None or key == "general.architecture":
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def describe(model: nn.Module) -> dict[str, Any]:
    """The metadata that llama.cpp's converters write for a configuration."""
    config, kind = model.config, model.config.model_type
    keys: dict[str, Any] = {
        "general.name": "small",
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", None) or config.n_inner,
        "attention.head_count": config.num_attention_heads,
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(config.vocab_size)],
    }
    if kind in ("llama", "qwen2"):
        rope = config.rope_parameters
        keys["attention.head_count_kv"] = config.num_key_value_heads
        keys["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
        keys["rope.freq_base"] = float(rope["rope_theta"])
        keys["vocab_size"] = config.vocab_size
        if rope["rope_type"] in ("linear", "yarn"):
            keys["rope.scaling.type"] = rope["rope_type"]
            keys["rope.scaling.factor"] = float(rope["factor"])
        if rope["rope_type"] == "yarn":
            trained = rope["original_max_position_embeddings"]
            keys["rope.scaling.original_context_length"] = trained
        if kind == "llama":
            keys["rope.dimension_count"] = config.head_dim
            keys["attention.key_length"] = config.head_dim
            keys["attention.value_length"] = config.head_dim
    elif kind == "gpt2":
        keys["attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    else:
        keys["attention.layer_norm_epsilon"] = config.layer_norm_eps
        keys["attention.causal"] = False
        keys["tokenizer.ggml.token_type_count"] = config.type_vocab_size
    return {key if "." in key and not is_own(key) else f"{kind}.{key}": keys[key] for key in keys}


def is_own(key: str) -> bool:
    """Whether a key is the architecture's."""
    return key.split(".")[0] in ("attention", "rope")


def frequency_factors(model: nn.Module) -> np.ndarray | None:
    """What llama.cpp's converter makes of Llama 3's scaling of rotary positions."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return None
    size = model.config.head_dim
    plain = rope["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    scaled = next(m.inv_freq for n, m in model.named_modules() if n.endswith("rotary_emb"))
    return (plain / scaled).numpy()
