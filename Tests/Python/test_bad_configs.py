"""Damaged configurations: every key that the engine reads, with every kind of value.

Each is refused with a message that names the key, or the tensor that contradicts it; or the folder
opens and its hidden states are those of transformers under the same configuration.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, is_vision, random_batch, save
from safetensors.numpy import load_file, save_file
from tiny import relative_error
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM

import lorasc

from reference import pad

WORKER = Path(__file__).with_name("open_configs.py")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of PyTorch's cost more than they gain on models this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def words(text: str) -> list[str]:
    """What blanks part."""
    return text.split()


COMMON = words("""
    hidden_size num_attention_heads intermediate_size num_hidden_layers vocab_size
    max_position_embeddings hidden_act pad_token_id architectures
""")
BERT = COMMON + words("""
    type_vocab_size layer_norm_eps hidden_dropout_prob attention_probs_dropout_prob
    classifier_dropout position_embedding_type is_decoder add_cross_attention problem_type id2label
""")
LLAMA = COMMON + words("""
    num_key_value_heads head_dim rms_norm_eps tie_word_embeddings attention_dropout
    classifier_dropout attention_bias mlp_bias rope_parameters rope_scaling rope_theta
""")
VISION = words("""
    hidden_size num_attention_heads intermediate_size num_hidden_layers layer_norm_eps qkv_bias
    image_size patch_size num_channels hidden_act hidden_dropout_prob attention_probs_dropout_prob
""")
KEYS: dict[str, list[str]] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": ["pad_token_id", "max_position_embeddings", "vocab_size"],
    "distilbert": words("""
        dim n_heads hidden_dim n_layers vocab_size max_position_embeddings dropout
        attention_dropout seq_classif_dropout activation pad_token_id
    """),
    "llama": LLAMA,
    "mistral": ["num_key_value_heads", "sliding_window", "head_dim", "max_position_embeddings"],
    "qwen2-window": words("""
        num_key_value_heads use_sliding_window sliding_window max_window_layers layer_types
    """),
    "gpt2": words("""
        n_embd n_head n_inner n_layer vocab_size n_positions layer_norm_epsilon
        activation_function scale_attn_weights scale_attn_by_inverse_layer_idx
        add_cross_attention tie_word_embeddings embd_pdrop resid_pdrop attn_pdrop classifier_dropout
    """),
    "vit": VISION,
    "deit": ["qkv_bias", "image_size", "patch_size"],
}
ROPE = words("""
    rope_type type rope_theta factor low_freq_factor high_freq_factor beta_fast beta_slow mscale
    mscale_all_dim attention_factor truncate partial_rotary_factor original_max_position_embeddings
""")
"""Keys within rope_parameters."""

VALUES = words("""
    MISSING null true false "word" "32" "" [] [1] [null] ["a"] {} {"a":1} -1 0 1 1.5 32.0 1000
    2147483648 9223372036854775807 9223372036854775808 -9223372036854775808 1e400 1e300 -1e300
    -0.0 1e-400 NaN Infinity -Infinity
""")
"""As they stand in the file."""

PARTNERS = {
    "vocab_size": "pad_token_id",
    "use_sliding_window": "layer_types",
    "sliding_window": "layer_types",
}
"""Keys that a key can contradict, which are named then."""

ACCEPTED = {
    # Names of classes that are not numbered as classes are left out
    ("bert", "id2label", '{"a":1}'),
    ("roberta", "id2label", '{"a":1}'),
    # Rows within the context aren't scaled; transformers' powers overflow all the same
    ("llama-dynamic", "factor", "9223372036854775807"),
    ("llama-dynamic", "factor", "1e300"),
}
"""What opens although transformers fails."""

CASES = [(name, keys, None) for name, keys in KEYS.items()] + [
    (name, ROPE, "rope_parameters")
    for name in ("llama-tied-llama3", "llama-linear", "llama-dynamic", "qwen2-yarn")
]


def variants(config: dict[str, Any], keys: list[str], within: str | None) -> list[Any]:
    """(key, value, config.json's text) of each damage."""
    found = []
    for key in keys:
        for value in VALUES:
            text = edit(config, key, None if value == "MISSING" else "@", within)
            found.append((key, value, text.replace('"@"', value)))
    return found


def edit(config: dict[str, Any], key: str, value: object, within: str | None = None) -> str:
    """The configuration with another value, None: without the key."""
    copy = json.loads(json.dumps(config))
    place = copy if within is None else copy[within]
    place.pop(key, None)
    if value is not None:
        place[key] = value
    return json.dumps(copy)


@pytest.mark.parametrize(("name", "keys", "within"), CASES, ids=[name for name, *_ in CASES])
def test_every_key_with_every_value(
    name: str, keys: list[str], within: str | None, tmp_path: Path
) -> None:
    folder = save(name, ARCHITECTURES[name].heads[0], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors").keys()
    config = json.loads((folder / "config.json").read_text())
    damaged = variants(config, keys, within)
    batch = every_label(name)
    results = open_all(folder, [json.dumps(config), *(text for *_, text in damaged)], batch)
    assert results[0]["status"] == "OK", results[0]
    grown = results[-1]["kilobytes"] - results[0]["kilobytes"]
    assert grown < 100_000, f"{grown} KB more than the sound configuration takes"
    wrong = []
    for (key, value, text), result in zip(damaged, results[1:], strict=True):
        if result["seconds"] > 20:
            wrong.append(f"{key}={value} took {result['seconds']:.0f} s")
        if result["status"] != "OK":
            if not names_offender(result, key, tensors):
                wrong.append(f"{key}={value}: {result['status']}: {result['message']}")
            continue
        if (name, key, value) in ACCEPTED:
            continue
        fault = differs(folder, batch, text, (key, value, within), np.array(result["states"]))
        if fault:
            wrong.append(f"{key}={value} opens, but {fault}")
    assert not wrong, "\n".join(wrong)


def every_label(name: str) -> lorasc.Batch:
    """A batch with labels for whatever head a configuration leads to."""
    batch = random_batch(name, "classifier" if is_vision(name) else "token", seed=1)
    batch.labels = np.arange(len(batch), dtype=np.int32) % 3
    return batch


def open_all(folder: Path, texts: list[str], batch: lorasc.Batch) -> list[dict[str, Any]]:
    """What the worker says of each text."""
    names = ("pixels", "labels", "tokens", "offsets", "token_labels", "token_weights")
    if batch.pixels is not None:
        names = names[:2]
    arrays = {name: getattr(batch, name) for name in names if getattr(batch, name) is not None}
    np.savez(folder.parent / "batch.npz", **arrays)
    (folder.parent / "texts.json").write_text(json.dumps(texts))
    run = subprocess.run(
        [sys.executable, WORKER, folder, folder.parent / "texts.json", folder.parent / "batch.npz"],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    crashed = texts[len(results)] if len(results) < len(texts) else ""
    assert run.returncode == 0, f"{run.returncode} at {crashed}: {run.stderr[-2000:]}"
    return results


def names_offender(result: dict[str, Any], key: str, tensors: Any) -> bool:
    """Whether an error is of a configuration, and says where."""
    status, message, subject = result["status"], result["message"], result["subject"]
    if status == "LIMIT":  # rows that are longer than such a model takes
        return key == "max_position_embeddings" and "positions" in message
    if status not in ("FORMAT", "UNSUPPORTED", "NOT_FOUND"):
        return False
    if key in message or PARTNERS.get(key, key) in message:
        return True
    if subject in tensors:
        return "the configuration says" in message
    return key.endswith("bias") and subject.endswith(".bias")


def differs(
    folder: Path, batch: lorasc.Batch, text: str, damage: Any, states: np.ndarray
) -> str | None:
    """How the states are not those of transformers; None: they are."""
    key, value, within = damage
    texts = [text]
    if value == "null":  # as a missing key; transformers takes it where it means something
        texts.append(edit(json.loads(text), key, None, within))
    if value in ("0", "1"):  # transformers wants 0.0 and 1.0 for some
        texts.append(edit(json.loads(text), key, float(value), within))
    error: Exception | None = None
    for each in texts:
        (folder / "config.json").write_text(each)
        try:
            expected = hidden_states(folder, batch)
        except Exception as raised:
            error = error or raised
            continue
        found = relative_error(states, expected)
        return None if found <= 1e-4 else f"its states are {found:.1e} off"
    return f"transformers doesn't: {error}"


def hidden_states(folder: Path, batch: lorasc.Batch) -> np.ndarray:
    """(tokens, hidden) by transformers."""
    peer = AutoModel.from_pretrained(folder, attn_implementation="eager").float().eval()
    with torch.no_grad():
        if batch.pixels is not None:
            states = peer(pixel_values=torch.from_numpy(batch.pixels)).last_hidden_state
            return states.reshape(-1, states.shape[-1]).numpy()
        inputs = pad(batch)
        inputs.pop("token_type_ids", None)
        states = peer(**inputs).last_hidden_state
        return states[inputs["attention_mask"].bool()].numpy()


def test_the_matrix_holds_every_key_that_is_read(repository: Path) -> None:
    model = repository / "Sources" / "Lorasc" / "Model"
    files = [*model.glob("Architectures/*.swift"), model / "Layers" / "Rotary.swift"]
    source = "\n".join(file.read_text() for file in files)
    reads = re.findall(
        r"(?:config|rope|json)\.(?:size|layers|number|flag|text|probability|epsilon|activation|has"
        r'|int|ints|optional\w+|string|strings)\(\s*"(\w+)"',
        source,
    )
    reads += re.findall(r'sides\("(\w+)"', source) + re.findall(
        r'\("(\w+)", (?:true|false)\)', source
    )
    assert len(set(reads)) > 40
    covered = {key for keys in KEYS.values() for key in keys} | set(ROPE)
    assert set(reads) <= covered


# ---- Values that contradict each other, or the weights ----------------------------------


def refused(folder: Path, *parts: str) -> None:
    """Opening fails with a message that has these parts."""
    with pytest.raises((lorasc.FormatError, lorasc.NotFoundError)) as caught:
        lorasc.Model(folder)
    for part in parts:
        assert part in str(caught.value)


def change(folder: Path, **values: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


LAYERS = {"distilbert": "n_layers", "gpt2": "n_layer"}
ONE_OF_EACH = ["bert", "roberta", "distilbert", "llama", "mistral", "gpt2", "vit", "deit"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_counts_that_are_not_the_files(name: str, tmp_path: Path) -> None:
    folder = save(name, ARCHITECTURES[name].heads[0], tmp_path)
    key = LAYERS.get(name, "num_hidden_layers")
    for count in (1, 3, 2000):
        refused(change(folder, **{key: count}), f"{key} is {count}, the weights have 2 layers")
    change(folder, **{key: 2})
    if not is_vision(name):
        for size in (60, 62):
            refused(change(folder, vocab_size=size), f"the configuration says [{size}, ")


@pytest.mark.parametrize(
    ("name", "values", "parts"),
    [
        ("bert", {"num_attention_heads": 5}, ("hidden_size 32", "num_attention_heads 5")),
        ("roberta", {"num_attention_heads": 33}, ("num_attention_heads 33",)),
        ("distilbert", {"n_heads": 5}, ("dim 32", "n_heads 5")),
        ("gpt2", {"n_head": 3}, ("n_embd 32", "n_head 3")),
        ("vit", {"num_attention_heads": 7}, ("hidden_size 32", "num_attention_heads 7")),
        ("llama", {"num_key_value_heads": 3}, ("num_attention_heads 4", "num_key_value_heads 3")),
        ("llama", {"num_key_value_heads": 8}, ("num_attention_heads 4", "num_key_value_heads 8")),
        ("llama", {"num_attention_heads": 10, "head_dim": None}, ("hidden_size 48", "heads 10")),
        ("mistral", {"num_attention_heads": 7, "head_dim": None}, ("hidden_size 48", "7")),
        ("mistral", {"sliding_window": 0}, ("sliding_window is 0",)),
        ("mistral", {"sliding_window": -4}, ("sliding_window is -4",)),
        ("qwen2-window", {"sliding_window": 0}, ("sliding_window is 0",)),
        ("qwen2-window", {"layer_types": ["full_attention"]}, ("layer_types", "layer 1")),
        ("qwen2-window", {"layer_types": ["full_attention", "linear"]}, ("linear for layer 1",)),
        ("qwen2-window", {"use_sliding_window": False}, ("sliding_attention for layer 1",)),
        ("vit", {"image_size": 13}, ("image_size 13 x 13", "patch_size 4 x 4")),
        ("vit", {"image_size": [12, 13]}, ("image_size 12 x 13",)),
        ("vit", {"patch_size": [4, 3]}, ("patch_size 4 x 3",)),
        ("vit", {"image_size": [12, 12, 12]}, ("image_size",)),
        ("vit", {"image_size": 16}, ("position_embeddings", "the configuration says [1, 17, 32]")),
        ("vit", {"num_channels": 1}, ("the configuration says [32, 1, 4, 4]",)),
        ("deit", {"qkv_bias": True}, ("query.bias",)),
        ("vit", {"qkv_bias": False}, ("query.bias", "there is none")),
        ("llama-linear", {"attention_bias": False}, ("q_proj.bias", "there is none")),
        ("llama", {"hidden_act": "gelu_fast"}, ("hidden_act gelu_fast is not offered",)),
        ("gpt2", {"activation_function": "mish"}, ("activation_function mish",)),
        ("distilbert", {"activation": "no"}, ("activation no",)),
        ("roberta", {"pad_token_id": -1}, ("pad_token_id",)),
        ("roberta", {"pad_token_id": 61}, ("pad_token_id",)),
        ("roberta", {"max_position_embeddings": 2}, ("max_position_embeddings",)),
        ("llama", {"pad_token_id": 61}, ("pad_token_id is 61",)),
        ("llama", {"model_type": "gpt2"}, ("config.json",)),
        ("bert", {"model_type": "llama"}, ("config.json",)),
    ],
    ids=str,
)
def test_values_that_contradict(
    name: str, values: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    folder = save(name, ARCHITECTURES[name].heads[0], tmp_path)
    lorasc.Model(folder).close()
    refused(change(folder, **values), *parts)


@pytest.mark.parametrize(
    ("rope", "parts"),
    [
        ({"rope_type": "linear", "factor": 0.5}, ("factor",)),
        ({"rope_type": "linear", "factor": -2.0}, ("factor",)),
        ({"rope_type": "linear"}, ("factor",)),
        ({"rope_type": "dynamic"}, ("factor",)),
        ({"rope_type": "yarn"}, ("factor",)),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}, ("rope_theta",)),
        ({"rope_type": "llama3", "factor": 2.0}, ("low_freq_factor",)),
        (
            {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 4},
            ("low_freq_factor 4.0 is not below high_freq_factor 4.0",),
        ),
        ({"rope_type": "su", "factor": 2.0}, ("rope_type su",)),
        ({"type": "mrope", "factor": 2.0}, ("mrope",)),
        ({"rope_type": "default", "rope_theta": 0.5}, ("rope_theta is 0.5",)),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, ("partial_rotary_factor",)),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_rotary_settings(
    key: str, rope: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    folder = save("llama", "lm", tmp_path)
    refused(change(folder, **({"rope_parameters": None} | {key: rope})), *parts)


def test_two_rotary_settings(tmp_path: Path) -> None:
    folder = save("llama", "lm", tmp_path)
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}
    lorasc.Model(change(folder, rope_parameters=linear, rope_scaling=linear)).close()
    refused(change(folder, rope_scaling=linear | {"factor": 3.0}), "rope_scaling contradict")


def test_heads_of_an_odd_size_cannot_be_rotated(tmp_path: Path) -> None:
    sizes = {"hidden_size": 22, "num_attention_heads": 11, "head_dim": 2, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, intermediate_size=8, vocab_size=20, max_position_embeddings=16)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    odd = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 11}
    refused(change(tmp_path, **odd), "heads of 11 columns")


def test_layers_with_a_gap(tmp_path: Path) -> None:
    folder = save("gpt2", "lm", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    moved = {name.replace(".h.1.", ".h.7."): values for name, values in tensors.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "n_layer is 2, the weights have 8 layers")
    with pytest.raises(lorasc.NotFoundError, match=r"h\.1\.attn"):
        lorasc.Model(change(folder, n_layer=8))


def test_a_context_of_billions_takes_no_memory(tmp_path: Path) -> None:
    folder = change(save("llama", "lm", tmp_path), max_position_embeddings=1 << 30)
    with lorasc.Model(folder) as model:
        assert model.info.maximum_positions == 1 << 30
        estimate = model.estimate(max_batch_tokens=64)
        assert estimate.activation_bytes < 10_000_000
        with (
            lorasc.Adapter(model) as adapter,
            lorasc.Trainer(model, adapter, max_batch_tokens=64) as trainer,
        ):
            assert trainer.info.plan_bytes < 10_000_000
    refused(change(folder, max_position_embeddings=1 << 31), "max_position_embeddings")
