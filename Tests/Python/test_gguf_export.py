"""Results as GGUF: merged files and LoRA files, read by the gguf package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import gguf_files
import numpy as np
import pytest
import torch
import transformers
from architectures import random_batch, save
from gguf import GGMLQuantizationType as Type
from test_gguf import CASES, WIDE, bits, make, randomized, states
from tiny import relative_error
from torch import nn

import lorasc

S = lorasc.Status
WRITTEN = {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}


def adapted(model: lorasc.Model, **options: Any) -> lorasc.Adapter:
    """An adapter whose B is not zero."""
    adapter = lorasc.Adapter(model, **({"r": 3, "method": "lora", "head": "auto"} | options))
    random = np.random.default_rng(1)
    for tensor, info in adapter.tensors().items():
        if "lora_B" in tensor or "embedding_A" in tensor:
            adapter[tensor] = random.normal(0, 0.1, info.shape).astype(np.float32)
    return adapter


def modules(adapter: lorasc.Adapter) -> dict[str, lorasc.ModuleInfo]:
    return {module.module: module for module in adapter.modules}


def fields(file: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(file)
    return {
        key: (field.types, field.contents())
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.Q8_0, Type.Q4_1, Type.Q4_K])
@pytest.mark.parametrize("dtype", ["auto", *WRITTEN])
def test_merged_file(kind: Type, dtype: str, tmp_path: Path) -> None:
    peer = randomized(transformers.LlamaConfig(**WIDE, pad_token_id=0))
    base, merged = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    gguf_files.write(base, peer, kind, metadata={"general.file_type": 3})
    layout = gguf_files.Layout(peer)
    with lorasc.Model(base) as model:
        adapter = adapted(model, target_modules="q_proj,k_proj,down_proj")
        report = adapter.merge(merged, dtype=dtype)
        changed = {
            layout.name(f"model.{module}.weight"): merged_weight(adapter, module)
            for module in modules(adapter)
        }
        batch = random_batch("llama", "lm", seed=3)
        predictions = adapter.predict(batch, "token_logits")
    old, new = gguf.GGUFReader(base), gguf.GGUFReader(merged)
    assert [tensor.name for tensor in new.tensors] == [tensor.name for tensor in old.tensors]
    assert report.tensors == len(new.tensors)
    assert len(report.changes) == len(changed)
    for before, after in zip(old.tensors, new.tensors, strict=True):
        assert list(before.shape) == list(after.shape)
        is_matrix = len(before.shape) > 1
        expected = before.tensor_type
        if is_matrix and dtype != "auto":
            expected = WRITTEN[dtype]
        elif before.name in changed and kind not in gguf_files.PLAIN:
            expected = Type.Q8_0
        assert after.tensor_type is expected, before.name
        values = gguf.dequantize(before.data, before.tensor_type)
        values = values.reshape(list(reversed(before.shape)))
        if before.name in changed:
            values = layout.to_file(before.name, changed[before.name])
        elif expected is before.tensor_type:
            assert np.array_equal(after.data, before.data), before.name
            continue
        written = gguf.quantize(values, expected).view(np.uint8)
        assert np.array_equal(after.data.view(np.uint8).ravel(), written.ravel()), before.name
    check_metadata(base, merged, dtype)
    with lorasc.Model(merged) as again:
        found = again.predict(batch, "token_logits")
    take(peer, new)
    assert relative_error(found, states(peer, batch)) <= 1e-5
    if dtype == "f32":
        assert relative_error(found, predictions) <= 1e-5


def take(peer: nn.Module, file: gguf.GGUFReader) -> None:
    """Gives a model of transformers the values that a file holds."""
    layout = gguf_files.Layout(peer)
    there = {tensor.name: tensor for tensor in file.tensors}
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            tensor = there[layout.name(name)]
            values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
                list(reversed(tensor.shape))
            )
            parameter.copy_(torch.from_numpy(layout.from_file(tensor.name, values)))


def check_metadata(base: Path, merged: Path, dtype: str) -> None:
    """What the base says goes along, but for the type that its matrices have now."""
    old, new = fields(base), fields(merged)
    assert list(new)[: len(old)] == list(old)
    version = new.pop("general.quantization_version", None)
    quantized = [t for t in gguf.GGUFReader(merged).tensors if t.tensor_type.name.startswith("Q")]
    assert version is None if not quantized else version[1] == 2
    if dtype != "auto":
        assert new["general.file_type"][1] == FILE_TYPES[dtype]
        del old["general.file_type"], new["general.file_type"]
    assert new == old


def merged_weight(adapter: lorasc.Adapter, module: str) -> np.ndarray:
    """The merged matrix in float32, in transformers' layout."""
    trainer = lorasc.Trainer(adapter.model, adapter, schedule="constant")
    values = trainer.merged(module + ".weight")
    trainer.close()
    return values.reshape(adapter.model.tensors()[module + ".weight"].shape)


@pytest.mark.parametrize("name", CASES)
def test_merged_file_of_each_architecture(name: str, tmp_path: Path) -> None:
    peer, base = make(name)
    gguf_files.write(tmp_path / "base.gguf", peer, Type.F16)
    batch = random_batch(base, "lm", seed=3)
    what = "token_embedding" if base == "bert" else "token_logits"
    with lorasc.Model(tmp_path / "base.gguf") as model:
        adapter = adapted(model, head="embedding" if base == "bert" else "lm")
        adapter.merge(tmp_path / "merged.gguf", dtype="f32")
        expected = adapter.predict(batch, what)
    with lorasc.Model(tmp_path / "merged.gguf") as merged:
        assert relative_error(merged.predict(batch, what), expected) <= 1e-6


ADAPTERS: dict[str, dict[str, Any]] = {
    "one alpha": {"lora_alpha": 7},
    "rslora": {"use_rslora": True, "lora_alpha": 5},
    "ranks": {"rank_pattern": {"v_proj": 2}, "lora_alpha": 6},
    "scales": {"alpha_pattern": {"q_proj": 2}, "lora_alpha": 8},
    "all linear": {"target_modules": "all-linear"},
    "output layer": {"target_modules": "lm_head,k_proj"},
    "embedding": {"target_modules": "embed_tokens,q_proj"},
}


def applied(base: Path, lora: Path) -> dict[str, np.ndarray]:
    """What llama.cpp computes with: W + scale B A, in the file's layout."""
    reader = gguf.GGUFReader(lora)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "lora"
    alpha = reader.fields["adapter.lora.alpha"].contents()
    factors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    weights = {}
    for tensor in gguf.GGUFReader(base).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        values = values.reshape(list(reversed(tensor.shape)))
        if f"{tensor.name}.lora_a" in factors:
            a, b = factors.pop(f"{tensor.name}.lora_a"), factors.pop(f"{tensor.name}.lora_b")
            scale = alpha / b.shape[1] if alpha else 1
            # tables are looked up by rows: llama.cpp wants a as (entries, r) there
            change = a @ b.T if tensor.name == "token_embd.weight" else b @ a
            values = values + scale * change
        weights[tensor.name] = values
    assert not factors
    return weights


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_adapter_file(options: dict[str, Any], tmp_path: Path) -> None:
    peer, _ = make("llama")
    base, lora = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    gguf_files.write(base, peer, Type.F16)
    batch = random_batch("llama", "lm", seed=3)
    with lorasc.Model(base) as model:
        adapter = adapted(model, **({"target_modules": "q_proj,k_proj,v_proj"} | options))
        adapter.export(lora, "gguf")
        adapter.merge(tmp_path / "merged.gguf", dtype="f32")
        expected = adapter.predict(batch, "token_logits")
        again = lorasc.Adapter.load(model, lora)
        assert modules(again).keys() == modules(adapter).keys()
        assert relative_error(again.predict(batch, "token_logits"), expected) <= 1e-6
        if "alpha_pattern" not in options:
            assert all(
                modules(again)[name].scale == pytest.approx(module.scale, rel=1e-7)
                for name, module in modules(adapter).items()
            )
            for tensor in adapter.tensors():
                assert np.array_equal(bits(again[tensor]), bits(adapter[tensor])), tensor
    for tensor in gguf.GGUFReader(tmp_path / "merged.gguf").tensors:
        values = applied(base, lora)[tensor.name]
        assert relative_error(tensor.data.reshape(values.shape), values) <= 1e-6, tensor.name


def test_cascades_are_one_adapter(tmp_path: Path) -> None:
    peer, _ = make("llama")
    base, lora = tmp_path / "base.gguf", tmp_path / "lora.gguf"
    gguf_files.write(base, peer, Type.F16)
    batch = random_batch("llama", "lm", seed=3)
    with lorasc.Model(base) as model:
        adapter = lorasc.Adapter(model, method="lorasc", r=2, head="lm")
        options = {"cascade_unit": "step", "cascade_length": 1, "schedule": "constant"}
        trainer = lorasc.Trainer(model, adapter, learning_rate=0.05, **options)
        for step in range(3):
            trainer.accumulate(random_batch("llama", "lm", seed=step))
            trainer.apply()
            if step < 2:
                trainer.cascade()
        expected = adapter.predict(batch, "token_logits")
        trainer.close()
        adapter.export(lora, "gguf")
        again = lorasc.Adapter.load(model, lora)
        assert {module.rank for module in again.modules} == {6}
        assert relative_error(again.predict(batch, "token_logits"), expected) <= 1e-5


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2-yarn", "gpt2", "bert"])
def test_adapter_file_of_a_folders_model(name: str, tmp_path: Path) -> None:
    folder = save(name, "none" if name == "bert" else "lm", tmp_path / "model")
    head = "embedding" if name == "bert" else "lm"
    with lorasc.Model(folder) as model:
        adapter = adapted(model, head=head, target_modules="all-linear")
        adapter.export(tmp_path / "lora.gguf", "gguf")
        again = lorasc.Adapter.load(model, tmp_path / "lora.gguf", head=head)
        assert adapter.tensors().keys() == again.tensors().keys()
        for tensor in adapter.tensors():
            assert np.array_equal(bits(again[tensor]), bits(adapter[tensor])), tensor
    architecture = {"mistral": "llama", "qwen2-yarn": "qwen2"}.get(name, name)
    file = gguf.GGUFReader(tmp_path / "lora.gguf")
    assert file.fields["general.architecture"].contents() == architecture


# ---- Refused ----------------------------------------------------------------------------


def refuse(status: S, word: str, body: Callable[[], Any]) -> None:
    with pytest.raises(lorasc.LorascError) as caught:
        body()
    text = f"{caught.value} / {caught.value.subject}"
    assert caught.value.status is status, text
    assert word in text


def test_what_a_file_cannot_hold(tiny: lorasc.Model, tmp_path: Path) -> None:
    peer, _ = make("llama")
    base = tmp_path / "base.gguf"
    gguf_files.write(base, peer)
    before = base.read_bytes()
    lora, merged = tmp_path / "lora.gguf", tmp_path / "merged.gguf"
    with lorasc.Model(base) as model:
        plain = adapted(model)
        for options, word in [
            ({"use_dora": True}, "DoRA"),
            ({"bias": "all", "modules_to_save": "norm"}, "norm"),
            ({"head": "classifier", "num_labels": 2}, "score.weight"),
        ]:
            other = adapted(model, **options)
            refuse(S.UNSUPPORTED, word, lambda other=other: other.export(lora, "gguf"))
        refuse(S.UNSUPPORTED, "classifier", lambda: other.merge(merged))
        refuse(S.UNSUPPORTED, "q8_0", lambda: plain.merge(tmp_path / "folder", dtype="q8_0"))
        refuse(S.ARGUMENT, "itself", lambda: plain.merge(base))
        refuse(S.ARGUMENT, "itself", lambda: plain.export(base, "gguf"))
        refuse(S.NOT_FOUND, "absent", lambda: plain.merge(tmp_path / "absent" / "m.gguf"))
    refuse(S.UNSUPPORTED, "convert_hf_to_gguf", lambda: adapted(tiny).merge(merged))
    assert base.read_bytes() == before
    assert not lora.exists()
    assert not merged.exists()
    folder = save("vit", "none", tmp_path / "vit")
    with lorasc.Model(folder) as vision:
        refuse(S.ARCHITECTURE, "vit", lambda: adapted(vision).export(lora, "gguf"))


FACTORS = ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b")


def lora_file(file: Path, **changes: Any) -> Path:
    """A LoRA for one matrix of the small Llama, with keys and tensors changed."""
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    writer = gguf.GGUFWriter(file, changes.pop("architecture", "llama"))
    for key, value in (keys | {"adapter.lora.alpha": 4.0} | changes.pop("keys", {})).items():
        gguf_files.add(writer, key, value)
    tensors = dict(zip(FACTORS, (np.ones((2, 48)), np.ones((48, 2))), strict=True))
    for tensor, values in (tensors | changes.pop("tensors", {})).items():
        if values is not None:
            writer.add_tensor(tensor, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"keys": {"general.type": "model"}}, S.UNSUPPORTED, "general.type"),
        ({"keys": {"adapter.type": "control_vector"}}, S.UNSUPPORTED, "adapter.type"),
        ({"keys": {"adapter.lora.alpha": None}}, S.FORMAT, "adapter.lora.alpha"),
        ({"keys": {"adapter.lora.alpha": float("nan")}}, S.OPTION, "lora_alpha"),
        ({"keys": {"adapter.lora.alpha": -1.0}}, S.OPTION, "lora_alpha"),
        ({"architecture": "qwen2"}, S.MISMATCH, "qwen2"),
        ({"tensors": {"blk.0.attn_q.weight.lora_b": None}}, S.MISMATCH, "lora_b"),
        ({"tensors": {"blk.0.attn_q.weight.lora_a": None}}, S.MISMATCH, "attn_q.weight.lora_b"),
        ({"tensors": {"blk.0.attn_q.weight.lora_a": np.ones((2, 47))}}, S.MISMATCH, "47"),
        ({"tensors": {"blk.0.attn_q.weight.lora_b": np.ones((48, 3))}}, S.MISMATCH, "48, 3"),
        ({"tensors": {"blk.0.attn_q.weight.lora_b": np.ones(48)}}, S.MISMATCH, "[48]"),
        ({"tensors": {"blk.7.attn_q.weight.lora_a": np.ones((2, 48))}}, S.MISMATCH, "blk.7"),
        ({"tensors": {"blk.0.attn_norm.weight.lora_a": np.ones((2, 48))}}, S.MISMATCH, "norm"),
        ({"tensors": {"blk.0.attn_q.bias.lora_a": np.ones((2, 48))}}, S.MISMATCH, "bias"),
        ({"tensors": {"extra": np.ones(3)}}, S.MISMATCH, "extra"),
        ({"tensors": dict.fromkeys(FACTORS)}, S.FORMAT, "no factors"),
        ({"tensors": {"blk.0.attn_q.weight.lora_a": np.full((2, 48), np.inf)}}, S.NONFINITE, "q_p"),
    ],
)
def test_adapter_files_are_refused(
    changes: dict[str, Any], status: S, word: str, tmp_path: Path
) -> None:
    peer, _ = make("llama")
    gguf_files.write(tmp_path / "base.gguf", peer)
    file = lora_file(tmp_path / "lora.gguf", **changes)
    with lorasc.Model(tmp_path / "base.gguf") as model:
        refuse(status, word, lambda: lorasc.Adapter.load(model, file))
        good = lora_file(tmp_path / "good.gguf")
        assert modules(lorasc.Adapter.load(model, good)).keys() == {"layers.0.self_attn.q_proj"}
        refuse(S.UNSUPPORTED, "general.type", lambda: lorasc.Adapter.load(model, model.path))
