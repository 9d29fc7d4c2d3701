"""GGUF files: every tensor as the gguf package has it, models as transformers has them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import smollm2
import torch
import transformers
from architectures import ARCHITECTURES, auto_class, outputs, random_batch
from gguf import GGMLQuantizationType as Type
from test_generation import PROMPTS, continue_greedily
from tiny import relative_error
from torch import nn

import lorasc

from reference import pad

S = lorasc.Status
STANDARD_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "max_position_embeddings": 24,
}
CASES = {
    "llama": {},
    "llama-biases": {"attention_bias": True, "mlp_bias": True},
    "llama-tied-llama3": {},
    "llama-standard-llama3": {"rope_parameters": STANDARD_LLAMA3, "head_dim": 32},
    "llama-linear": {},
    "llama-yarn": {"rope_parameters": ARCHITECTURES["qwen2-yarn"].sizes["rope_parameters"]},
    "llama-many-heads": {"num_key_value_heads": 4},
    "qwen2-yarn": {},
    "qwen2-plain": {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}},
    "gpt2": {},
    "gpt2-untied": {"tie_word_embeddings": False},
    "bert": {},
}
"""Names, whose first word is the architecture's where there is no test of that name elsewhere, and
what the configuration has of its own."""


def make(name: str) -> tuple[nn.Module, str]:
    """A random model of a case and the architecture's name in architectures.py."""
    known = name if name in ARCHITECTURES else {"qwen2-plain": "qwen2-yarn"}.get(name)
    base = known or name.split("-")[0]
    sizes = ARCHITECTURES[base].sizes | CASES[name]
    config = getattr(transformers, ARCHITECTURES[base].config)(**sizes)
    config.pad_token_id = getattr(config, "pad_token_id", None) or 0
    return randomized(config, "none" if base == "bert" else "lm"), base


def randomized(config: transformers.PretrainedConfig, head: str = "lm") -> nn.Module:
    """A random model, with biases and norms off their usual 0 and 1."""
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = auto_class(config.model_type, head).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.2
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def bare(tensor: str) -> str:
    """A tensor's name without the prefix of its class."""
    return tensor.removeprefix("model.").removeprefix("transformer.")


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def states(model: nn.Module, batch: lorasc.Batch) -> np.ndarray:
    """Logits of transformers, or the last layer of an encoder, of the rows' own tokens."""
    if hasattr(model, "lm_head"):
        found = outputs(model, batch)
    else:
        found = model(**pad(batch)).last_hidden_state
    lengths = np.diff(batch.offsets)
    rows = found.detach().numpy()
    return np.concatenate([row[:n] for row, n in zip(rows, lengths, strict=True)])


def predicted(model: lorasc.Model, batch: lorasc.Batch) -> np.ndarray:
    what = "token_logits" if model.info.head == "lm" else "token_embedding"
    return model.predict(batch, what)


@pytest.mark.parametrize("name", CASES)
def test_models_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    peer, base = make(name)
    written = gguf_files.write(tmp_path / "model.gguf", peer)
    with lorasc.Model(tmp_path / "model.gguf") as model:
        assert set(model.tensors()) == {bare(tensor) for tensor in written}
        for tensor, values in written.items():
            assert model.tensors()[bare(tensor)].shape == values.shape, tensor
            assert np.array_equal(bits(model.tensor(bare(tensor))), bits(values)), tensor
        batch = random_batch(base, "lm", seed=3)
        assert relative_error(predicted(model, batch), states(peer, batch)) <= 1e-5
        assert model.info.architecture == peer.config.model_type
        assert model.info.maximum_positions == peer.config.max_position_embeddings


@pytest.fixture(scope="module")
def wide() -> Callable[[], nn.Module]:
    """Makes a random Llama whose rows fill every type's blocks."""
    return lambda: randomized(transformers.LlamaConfig(**WIDE, pad_token_id=0))


@pytest.mark.parametrize("kind", gguf_files.TYPES, ids=lambda kind: kind.name)
def test_types_are_those_of_the_gguf_package(
    kind: Type, wide: Callable[[], nn.Module], tmp_path: Path
) -> None:
    peer = wide()
    file = tmp_path / "model.gguf"
    written = gguf_files.write(file, peer, kind)
    batch = random_batch("llama", "lm", seed=3)
    expected = states(peer, batch)
    peer.save_pretrained(tmp_path / "widened")
    with lorasc.Model(tmp_path / "widened") as widened:
        values = widened.predict(batch, "token_logits")
    for level in levels():
        with lorasc.Model(file, kernels=level) as model:
            for tensor, exact in written.items():
                assert np.array_equal(bits(model.tensor(bare(tensor))), bits(exact)), tensor
            found = model.predict(batch, "token_logits")
            assert relative_error(found, expected) <= 1e-5
            if model.info.kernels == best_level():
                assert np.array_equal(bits(found), bits(values))


def levels() -> list[str]:
    """The kernels that this CPU runs."""
    return ["baseline", "avx2", "avx512"][: 1 + ["baseline", "avx2", "avx512"].index(best_level())]


def best_level() -> str:
    return lorasc.build_info().split()[-1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", [Type.F32, Type.BF16, Type.Q4_0, Type.Q6_K])
def test_dtype_converts(
    kind: Type, dtype: str, wide: Callable[[], nn.Module], tmp_path: Path
) -> None:
    peer = wide()
    gguf_files.write(tmp_path / "model.gguf", peer, kind)
    peer.save_pretrained(tmp_path / "widened")
    batch = random_batch("llama", "lm", seed=6)
    with (
        lorasc.Model(tmp_path / "model.gguf", dtype=dtype) as model,
        lorasc.Model(tmp_path / "widened", dtype=dtype) as widened,
    ):
        assert np.array_equal(
            bits(model.predict(batch, "token_logits")), bits(widened.predict(batch, "token_logits"))
        )


METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "use_dora": True},
    "lorasc": {"method": "lorasc", "cascade_unit": "step", "cascade_length": 2},
    "embedding": {"method": "lora", "target_modules": "embed_tokens,q_proj"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Type.Q4_1, Type.Q4_K, Type.F16], ids=lambda kind: kind.name)
def test_training_has_the_bits_of_the_widened_backbone(
    kind: Type, method: str, wide: Callable[[], nn.Module], tmp_path: Path
) -> None:
    peer = wide()
    gguf_files.write(tmp_path / "model.gguf", peer, kind)
    peer.save_pretrained(tmp_path / "widened")
    trained = [train(tmp_path / name, METHODS[method]) for name in ("model.gguf", "widened")]
    assert trained[0].keys() == trained[1].keys()
    for tensor, values in trained[0].items():
        assert np.array_equal(bits(values), bits(trained[1][tensor])), tensor


def train(path: Path, options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Five steps on a model: losses, and every trained tensor and merged matrix."""
    scopes = {option.key: option.scope for option in lorasc.options()}
    mine = {key: value for key, value in options.items() if scopes[key] == "adapter"}
    rest = {key: value for key, value in options.items() if scopes[key] == "trainer"}
    # oneDNN would pack the widened matrices, and its packed products round differently.
    with lorasc.Model(path, products="openblas") as model:
        adapter = lorasc.Adapter(model, head="lm", r=4, adapter_seed=2, **mine)
        trainer = lorasc.Trainer(model, adapter, learning_rate=1e-2, schedule="constant", **rest)
        losses = []
        for step in range(5):
            trainer.accumulate(random_batch("llama", "lm", seed=step))
            losses.append(trainer.apply().loss)
            if step == 2 and "cascade_unit" in options:
                trainer.cascade()
        found = {name: adapter[name] for name in adapter.tensors()}
        for name in adapter.tensors():
            if name.endswith((".lora_A.weight", ".lora_embedding_A")):
                matrix = name.partition(".lora_")[0] + ".weight"
                found[matrix] = trainer.merged(matrix)
        return found | {"losses": np.array(losses)}


@pytest.fixture(scope="module")
def smollm2_gguf() -> Path:
    return smollm2.find_gguf()


def test_smollm2_is_that_of_the_gguf_package(smollm2_gguf: Path) -> None:
    expected = smollm2.tensors(gguf.GGUFReader(smollm2_gguf))
    with lorasc.Model(smollm2_gguf) as model:
        assert set(model.tensors()) == {bare(name) for name in expected}
        for name, values in expected.items():
            assert np.array_equal(bits(model.tensor(bare(name))), bits(values)), name


def test_smollm2_is_that_of_its_folder_and_of_transformers(
    smollm2_gguf: Path, smollm2: lorasc.Model
) -> None:
    batch = smollm2.encode(["The sea was calm, and", "Two and two are", "Once upon a time"], 16)
    with lorasc.Model(smollm2_gguf) as model:
        found = model.predict(batch, "token_logits")
        hidden = model.predict(batch, "token_embedding")
        tokens = [model.generate(prompt, 32, stop_tokens=[]).tokens for prompt in PROMPTS]
    assert np.array_equal(bits(hidden), bits(smollm2.predict(batch, "token_embedding")))
    # The output layer is multiplied by tiles where it is quantised: sums of other chunks.
    assert relative_error(found, smollm2.predict(batch, "token_logits")) <= 1e-6
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    )
    assert relative_error(found, states(peer.eval(), batch)) <= 1e-4
    for prompt, made in zip(PROMPTS, tokens, strict=True):
        ids = smollm2.tokenizer.encode(prompt).ids
        assert made == continue_greedily(peer, ids, 32, eos_token_id=None), prompt


@pytest.mark.parametrize("name", ["llama", "llama-biases", "llama-standard-llama3", "qwen2-yarn"])
def test_configuration_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    peer, _ = make(name)
    gguf_files.write(tmp_path / "model.gguf", peer, Type.Q8_0)
    with lorasc.Model(tmp_path / "model.gguf") as model:
        own = model.config
    theirs = transformers.AutoConfig.from_pretrained(tmp_path, gguf_file="model.gguf").to_dict()
    for key in own.keys() - {"rope_theta", "rope_scaling", "architectures", "torch_dtype"}:
        if key in ("attention_bias", "mlp_bias"):
            assert own[key] == getattr(peer.config, key)
        elif isinstance(own[key], float):
            assert own[key] == pytest.approx(theirs[key], rel=1e-7), key
        else:
            assert own[key] == theirs[key], key
    assert own["rope_theta"] == theirs["rope_parameters"]["rope_theta"]


@pytest.mark.parametrize("name", CASES)
def test_merged_folder_opens_in_transformers(name: str, tmp_path: Path) -> None:
    peer, base = make(name)
    gguf_files.write(tmp_path / "model.gguf", peer, Type.F16)
    head = "embedding" if base == "bert" else "lm"
    with lorasc.Model(tmp_path / "model.gguf") as model:
        adapter = lorasc.Adapter(model, head=head, r=2)
        random = np.random.default_rng(1)
        for tensor, info in adapter.tensors().items():
            if "lora_B" in tensor:
                adapter[tensor] = random.normal(0, 0.1, info.shape).astype(np.float32)
        adapter.merge(tmp_path / "merged", dtype="f32")
        batch = random_batch(base, "lm", seed=3)
        what = "token_embedding" if base == "bert" else "token_logits"
        found = adapter.predict(batch, what)
    merged = auto_class(base, "none" if base == "bert" else "lm").from_pretrained(
        tmp_path / "merged", attn_implementation="eager"
    )
    assert relative_error(found, states(merged.eval(), batch)) <= 1e-5
    assert relative_error(found, states(peer, batch)) > 1e-3
    with lorasc.Model(tmp_path / "merged") as again:
        assert relative_error(again.predict(batch, what), found) <= 1e-6


# ---- Bad input --------------------------------------------------------------------------


def refuse(file: Path, status: S, *words: str) -> None:
    with pytest.raises(lorasc.LorascError) as caught:
        lorasc.Model(file)
    text = f"{caught.value} / {caught.value.subject}"
    assert caught.value.status is status, text
    for word in (*words, file.name):
        assert word in text, text


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small Llama's file."""
    peer, _ = make("llama")
    gguf_files.write(tmp_path / "small.gguf", peer, Type.F16)
    return tmp_path / "small.gguf"


@pytest.mark.parametrize(
    ("key", "value", "status", "word"),
    [
        ("general.type", "adapter", S.UNSUPPORTED, "load it on its base model"),
        ("split.count", 3, S.UNSUPPORTED, "3 parts"),
        ("llama.expert_count", 8, S.UNSUPPORTED, "llama.expert_count"),
        ("llama.attention.scale", 0.5, S.UNSUPPORTED, "llama.attention.scale"),
        ("llama.block_count", None, S.FORMAT, "llama.block_count"),
        ("llama.block_count", 1, S.FORMAT, "is not of 1 blocks"),
        ("llama.block_count", "2", S.FORMAT, "must be an integer"),
        ("llama.block_count", 3, S.FORMAT, "the weights have 2 layers"),
        ("llama.embedding_length", 32, S.FORMAT, "shape"),
        ("llama.embedding_length", 0, S.FORMAT, "hidden_size is 0"),
        ("llama.embedding_length", 48.0, S.FORMAT, "must be an integer"),
        ("llama.feed_forward_length", [48, 48], S.UNSUPPORTED, "block to block"),
        ("llama.feed_forward_length", 2**31, S.FORMAT, "intermediate_size"),
        ("llama.attention.head_count", 0, S.FORMAT, "head_count is 0"),
        ("llama.attention.head_count", 5, S.FORMAT, "num_attention_heads 5"),
        ("llama.attention.head_count_kv", [2, 2], S.UNSUPPORTED, "block to block"),
        ("llama.attention.head_count_kv", 3, S.FORMAT, "num_key_value_heads 3"),
        ("llama.attention.layer_norm_rms_epsilon", None, S.FORMAT, "layer_norm_rms_epsilon"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), S.FORMAT, "epsilon is nan"),
        ("llama.attention.layer_norm_rms_epsilon", 1, S.FORMAT, "rms_norm_eps is 1"),
        ("llama.rope.dimension_count", 6, S.UNSUPPORTED, "heads of 12 columns"),
        ("llama.attention.value_length", 6, S.UNSUPPORTED, "heads of 12 columns"),
        ("llama.rope.freq_base", 0.0, S.FORMAT, "rope_theta is 0"),
        ("llama.rope.freq_base", float("inf"), S.FORMAT, "freq_base is inf"),
        ("llama.rope.scaling.type", "longrope", S.UNSUPPORTED, "longrope"),
        ("llama.rope.scaling.type", "yarn", S.FORMAT, "rope.scaling.factor"),
        ("llama.rope.scaling.attn_factor", 2.0, S.UNSUPPORTED, "attn_factor"),
        ("llama.context_length", 0, S.FORMAT, "max_position_embeddings is 0"),
        ("general.alignment", 33, S.FORMAT, "general.alignment"),
    ],
)
def test_metadata_is_refused(key: str, value: Any, status: S, word: str, tmp_path: Path) -> None:
    peer, _ = make("llama")
    gguf_files.write(tmp_path / "model.gguf", peer, metadata={key: value})
    refuse(tmp_path / "model.gguf", status, word)


def test_other_architectures_and_files_are_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    name = struct.pack("<Q", 5) + b"llama"
    file = tmp_path / "other.gguf"
    file.write_bytes(data.replace(name, struct.pack("<Q", 5) + b"mamba", 1))
    refuse(file, S.ARCHITECTURE, "mamba", "llama, qwen2, gpt2, bert")
    for content, status, word in [
        (b"", S.FORMAT, "GGUF"),
        (b"{}", S.FORMAT, "GGUF"),
        (data[:4] + struct.pack("<I", 1) + data[8:], S.UNSUPPORTED, "version 1"),
        (data[:4] + struct.pack(">I", 3) + data[8:], S.UNSUPPORTED, "big-endian"),
        (data[:8] + struct.pack("<Q", 2**63) + data[16:], S.FORMAT, "tensors"),
        (data[:16] + struct.pack("<Q", 2**63) + data[24:], S.FORMAT, "keys"),
        (data[:-40], S.FORMAT, "ends at byte"),
        (data + bytes(64), S.FORMAT, "the file has"),
    ]:
        file.write_bytes(content)
        refuse(file, status, word)


def test_tensors_without_a_place_and_types_that_are_not_read(tmp_path: Path) -> None:
    peer, _ = make("llama")
    file = tmp_path / "model.gguf"
    norm = np.ones(12, np.float32)
    gguf_files.write(file, peer, extra={"blk.0.attn_q_norm.weight": (norm, Type.F32)})
    refuse(file, S.UNSUPPORTED, "blk.0.attn_q_norm.weight")
    peer = randomized(transformers.LlamaConfig(**WIDE, pad_token_id=0))
    size = gguf.GGML_QUANT_SIZES[Type.IQ4_XS][1]
    raw = np.ones((256, size), np.uint8)
    gguf_files.write(file, peer, extra={"blk.1.attn_q.weight": (raw, Type.IQ4_XS)})
    refuse(file, S.UNSUPPORTED, "IQ4_XS", "model.layers.1.self_attn.q_proj.weight")


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.Q8_0, Type.Q4_K])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_weights_that_are_not_finite(kind: Type, dtype: str, tmp_path: Path) -> None:
    peer = randomized(transformers.LlamaConfig(**WIDE, pad_token_id=0))
    file = tmp_path / "model.gguf"
    values = peer.model.layers[1].mlp.up_proj.weight.detach().numpy()
    raw = gguf_files.encode(values, kind, np.random.default_rng(0)).copy()
    half = raw.view(np.uint8).reshape(-1)
    end = {Type.F32: 4, Type.F16: 2}.get(kind, gguf.GGML_QUANT_SIZES[kind][1])
    # of the last value or block: all bits of its exponent, or its scale's
    place = len(half) - end if kind not in (Type.F32, Type.F16) else len(half) - 2
    half[place : place + 2] = np.frombuffer(b"\x80\x7f" if kind is Type.F32 else b"\x00\x7c", "u1")
    gguf_files.write(file, peer, extra={"blk.1.ffn_up.weight": (raw, kind)})
    with pytest.raises(lorasc.LorascError) as caught:
        lorasc.Model(file, dtype=dtype)
    assert caught.value.status is S.NONFINITE
    assert caught.value.subject == "model.layers.1.mlp.up_proj.weight"


def test_flipped_bits_never_crash(small: Path) -> None:
    data = small.read_bytes()
    header = gguf.GGUFReader(small).data_offset
    random = np.random.default_rng(0)
    opened = 0
    for position in random.integers(0, header, 400):
        flipped = bytearray(data)
        flipped[position] ^= 1 << random.integers(8)
        small.write_bytes(flipped)
        try:
            lorasc.Model(small).close()
            opened += 1
        except lorasc.LorascError as error:
            assert error.status is not S.INTERNAL  # noqa: PT017
    assert opened < 300
