"""Many adapters on one model: modules, scales, combinations, merges by type, MLX's layout."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from tiny import make_tiny, relative_error

import lorasc

QUERY = "encoder.layer.0.attention.self.query"


def filled(model: lorasc.Model, seed: int, **options: object) -> lorasc.Adapter:
    """An adapter with random factors."""
    options = {"num_labels": 3, "r": 4, "method": "lora", "head": "mean_linear"} | options
    adapter = lorasc.Adapter(model, **options)
    random = np.random.default_rng(seed)
    for name, info in adapter.tensors().items():
        if "lora_" in name and "magnitude" not in name:
            adapter[name] = 0.2 * random.normal(size=info.shape)
    return adapter


def merged(adapter: lorasc.Adapter, folder: Path) -> dict[str, np.ndarray]:
    adapter.merge(folder)
    return load_file(folder / "model.safetensors")


def cascaded(model: lorasc.Model, rows: lorasc.Batch, **options: object) -> lorasc.Adapter:
    """An adapter after three cascades."""
    adapter = lorasc.Adapter(
        model, num_labels=3, target_modules="query,value,word_embeddings", head="mean_linear"
    )
    with lorasc.Trainer(
        model, adapter, epochs=3, learning_rate=1e-2, batch_size=8, **options
    ) as trainer:
        trainer.run(rows)
    return adapter


def test_modules_say_which_rule_chose_them(tiny: lorasc.Model) -> None:
    adapter = lorasc.Adapter(
        tiny, target_modules="query,1.output.dense", r=4, rank_pattern={"query": 2}, lora_alpha=8
    )
    modules = {module.module: module for module in adapter.modules}
    assert len(modules) == adapter.matched.matched == 3
    query = modules[QUERY]
    assert (query.rule, query.rank, query.scale) == ("query", 2, 4.0)
    assert (query.in_features, query.out_features) == (32, 32)
    assert modules["encoder.layer.1.output.dense"].rule == "1.output.dense"


@pytest.mark.parametrize("scale", [0.0, 0.5, -1.0])
def test_scale_weighs_the_whole_change(tiny: lorasc.Model, tmp_path: Path, scale: float) -> None:
    adapter = filled(tiny, 1)
    base, whole = tiny.tensor(QUERY + ".weight"), merged(adapter, tmp_path / "a")[QUERY + ".weight"]
    adapter.scale = scale
    assert adapter.scale == scale
    found = merged(adapter, tmp_path / "b")[QUERY + ".weight"]
    np.testing.assert_allclose(found, base + scale * (whole - base), atol=1e-6)
    with pytest.raises(lorasc.ArgumentError, match="scale"):
        adapter.scale = float("nan")


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("head", ["classifier", "mean_linear"])
def test_merge_rounds_once(tiny: lorasc.Model, tmp_path: Path, dtype: str, head: str) -> None:
    adapter = filled(tiny, 2, head=head)
    torch_type = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    exact = load_torch(_merge(adapter, tmp_path / "exact", "f32") / "model.safetensors")
    rounded = load_torch(_merge(adapter, tmp_path / "rounded", dtype) / "model.safetensors")
    assert exact.keys() == rounded.keys()
    for name, values in rounded.items():
        assert torch.equal(values, exact[name].to(torch_type)), name
    report = adapter.merge(tmp_path / "rounded", dtype)
    config = json.loads((tmp_path / "rounded" / "config.json").read_text())
    assert config["torch_dtype"] == str(torch_type).removeprefix("torch.")
    changes = {change.name: change for change in report.changes}
    assert changes.keys() == {module.module + ".weight" for module in adapter.modules}
    prefix = "bert." if head == "classifier" else ""
    for name, change in changes.items():
        base = torch.from_numpy(tiny.tensor(name))
        whole = exact[prefix + name] - base
        assert change.elements == base.numel()
        assert change.changed == int((whole != 0).sum())
        assert change.max_change == pytest.approx(float(whole.abs().max()), rel=1e-6)
        lost = (rounded[prefix + name] == base.to(torch_type)) & (whole != 0)
        assert change.rounded_away == pytest.approx(int(lost.sum()) / change.changed)
    assert report.max_change == max(change.max_change for change in report.changes)
    if dtype == "bf16":
        assert report.rounded_away > 0


def _merge(adapter: lorasc.Adapter, folder: Path, dtype: str) -> Path:
    adapter.merge(folder, dtype)
    return folder


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_merge_converts_the_whole_model(tmp_path: Path, stored: torch.dtype, dtype: str) -> None:
    wanted = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    model = lorasc.Model(make_tiny(tmp_path / "model", dtype=stored))
    base = load_torch(tmp_path / "model" / "model.safetensors")
    adapter = filled(model, 12)
    found = load_torch(_merge(adapter, tmp_path / "merged", dtype) / "model.safetensors")
    changed = {module.module + ".weight" for module in adapter.modules}
    for name, values in found.items():
        assert values.dtype == wanted
        assert torch.equal(values, base[name].to(wanted)) == (name not in changed), name


def test_merge_refuses_what_a_type_cannot_hold(tiny: lorasc.Model, tmp_path: Path) -> None:
    adapter = filled(tiny, 3)
    adapter[QUERY + ".lora_B.weight"] = np.full((32, 4), 1e5)
    with pytest.raises(lorasc.NonFiniteError, match="query"):
        adapter.merge(tmp_path / "merged", "f16")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(lorasc.ArgumentError, match="f64"):
        adapter.merge(tmp_path / "merged", "f64")


@pytest.mark.parametrize("slow_rule", ["interpolate", "ema", "ema_factors"])
def test_exact_combination_of_cascades(
    tiny: lorasc.Model, rows: lorasc.Batch, tmp_path: Path, slow_rule: str
) -> None:
    """A cascade is a sum of low-rank terms: combined with another adapter, nothing is lost."""
    reinit = "same_a" if slow_rule == "ema_factors" else "new"
    first = cascaded(tiny, rows, slow_rule=slow_rule, reinit=reinit, slow_rate=0.6)
    second = filled(tiny, 4, target_modules="value,output.dense", r=3)
    combined = lorasc.Adapter.combine([first, second], [0.7, -0.4])
    found = merged(combined, tmp_path / "c")
    parts = [merged(first, tmp_path / "a"), merged(second, tmp_path / "b")]
    assert combined.combination_error == 0
    for name, values in found.items():
        base = tiny.tensor(name)
        expected = base + 0.7 * (parts[0][name] - base) - 0.4 * (parts[1][name] - base)
        assert relative_error(values, expected) <= 1e-6, name
    ranks = {module.module: module.rank for module in combined.modules}
    assert ranks[QUERY] == 3 * 8
    assert ranks[QUERY.replace("query", "value")] == 3 * 8 + 3
    expected = (0.7 * first["classifier.weight"] - 0.4 * second["classifier.weight"]) / 0.3
    np.testing.assert_allclose(combined["classifier.weight"], expected, atol=1e-5)


def test_truncated_combination_states_its_error(tiny: lorasc.Model, tmp_path: Path) -> None:
    adapters = [filled(tiny, seed, target_modules="query") for seed in (5, 6)]
    combined = lorasc.Adapter.combine(adapters, rank=3)
    found = merged(combined, tmp_path / "c")
    parts = [merged(adapter, tmp_path / str(i)) for i, adapter in enumerate(adapters)]
    dropped = total = 0.0
    for module in combined.modules:
        assert module.rank == 3
        base = tiny.tensor(module.module + ".weight").astype(np.float64)
        change = sum(part[module.module + ".weight"] - base for part in parts)
        u, s, v = np.linalg.svd(change)
        best = base + (u[:, :3] * s[:3]) @ v[:3]
        np.testing.assert_allclose(found[module.module + ".weight"], best, atol=1e-5)
        dropped += float((s[3:] ** 2).sum())
        total += float((s**2).sum())
    assert combined.combination_error == pytest.approx(np.sqrt(dropped / total), rel=1e-4)


def test_combinations_that_make_no_sense(tiny: lorasc.Model, rows: lorasc.Batch) -> None:
    lora = filled(tiny, 7)
    dora = filled(tiny, 8, use_dora=True)
    with pytest.raises(lorasc.LorascError, match="merged weights"):
        lorasc.Adapter.combine([lora, dora])
    with pytest.raises(lorasc.ArgumentError, match="sum is 0"):
        lorasc.Adapter.combine([lora, lora], [1, -1])
    with pytest.raises(lorasc.ArgumentError, match="finite"):
        lorasc.Adapter.combine([lora], [float("inf")])
    with pytest.raises(lorasc.LorascError, match="differ"):
        lorasc.Adapter.combine([lora, filled(tiny, 9, num_labels=4)])
    with pytest.raises(ValueError, match="nothing"):
        lorasc.Adapter.combine([])
    noisy = cascaded(tiny, rows, noise_lifetime="persist")
    with pytest.raises(lorasc.LorascError, match="noise"):
        lorasc.Adapter.combine([noisy])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"query": 7}},
        {"use_dora": True},
        {"target_modules": "word_embeddings,value", "bias": "lora_only"},
    ],
)
def test_mlx_layout_merges_to_the_same(
    tiny: lorasc.Model, tmp_path: Path, options: dict[str, object]
) -> None:
    adapter = filled(tiny, 10, **options)
    if options.get("use_dora"):
        for name in adapter.tensors():
            if "magnitude" in name:
                adapter[name] = adapter[name] * np.linspace(0.8, 1.3, adapter[name].size)
    _check_mlx(tiny, adapter, tmp_path)


@pytest.mark.parametrize("slow_rule", ["interpolate", "ema"])
def test_mlx_layout_of_a_cascade(
    tiny: lorasc.Model, rows: lorasc.Batch, tmp_path: Path, slow_rule: str
) -> None:
    adapter = cascaded(tiny, rows, slow_rule=slow_rule)
    _check_mlx(tiny, adapter, tmp_path)
    dora = cascaded_dora(tiny, rows)
    with pytest.raises(lorasc.LorascError, match="DoRA"):
        dora.export(tmp_path / "dora")
    assert not (tmp_path / "dora").exists()


def cascaded_dora(model: lorasc.Model, rows: lorasc.Batch) -> lorasc.Adapter:
    adapter = lorasc.Adapter(model, num_labels=3, use_dora=True)
    with lorasc.Trainer(model, adapter, epochs=2, batch_size=8) as trainer:
        trainer.run(rows)
    return adapter


def _check_mlx(model: lorasc.Model, adapter: lorasc.Adapter, folder: Path) -> None:
    adapter.export(folder / "mlx", "mlx")
    tensors = load_file(folder / "mlx" / "adapters.safetensors")
    config = json.loads((folder / "mlx" / "adapter_config.json").read_text())
    parameters = config["lora_parameters"]
    ours = merged(adapter, folder / "merged")
    assert sorted(parameters["keys"]) == sorted(module.module for module in adapter.modules)
    for key in parameters["keys"]:
        a, b = tensors[key + ".lora_a"], tensors[key + ".lora_b"]
        assert a.shape[1] == b.shape[0] == parameters["rank"]
        base = model.tensor(key + ".weight").astype(np.float64)
        change = parameters["scale"] * (a.astype(np.float64) @ b)
        weight = base + (change if "embeddings" in key else change.T)
        if config["fine_tune_type"] == "dora":
            weight *= (tensors[key + ".m"] / np.linalg.norm(weight, axis=1))[:, None]
        assert relative_error(ours[key + ".weight"], weight) <= 1e-6, key
    for name in tensors:
        if ".lora_" not in name and not name.endswith(".m"):
            np.testing.assert_array_equal(tensors[name], adapter[name])


def test_trainers_in_threads_share_a_model(tiny: lorasc.Model, rows: lorasc.Batch) -> None:
    def train(seed: int) -> np.ndarray:
        adapter = lorasc.Adapter(tiny, num_labels=3, adapter_seed=seed, method="lorasc+dora")
        with lorasc.Trainer(tiny, adapter, epochs=3, batch_size=8, threads=1) as trainer:
            trainer.run(rows)
        return adapter.predict(rows)

    alone = [train(seed) for seed in range(4)]
    together: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: together.update({seed: train(seed)}))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        np.testing.assert_array_equal(together[seed], alone[seed])
