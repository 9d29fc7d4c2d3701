"""PEFT's folders: read, written, and read again by PEFT itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from tiny import make_tiny, random_rows, relative_error
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

import lorasc

from reference import pad

#: LoraConfig's arguments, for a model with a classifier ("cls") or the bare encoder ("base").
CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    ("cls", {"target_modules": ["query", "value"]}),
    ("base", {"target_modules": ["query", "value"], "use_rslora": True, "lora_alpha": 12}),
    ("cls", {"target_modules": "all-linear", "use_dora": True}),
    ("base", {"target_modules": r".*\.(key|output\.dense)", "exclude_modules": ["0.output.dense"]}),
    ("cls", {"target_modules": r"bert\.encoder\.layer\.1\..*query", "bias": "all"}),
    ("base", {"target_modules": ["word_embeddings", "value"], "bias": "lora_only"}),
    (
        "cls",
        {
            "target_modules": ["query", "value", "intermediate.dense"],
            "rank_pattern": {"query": 2, r"layer\.1\.intermediate\.dense": 7},
            "alpha_pattern": {"value": 3, "bert.encoder.layer.0.attention.self.query": 5},
        },
    ),
    ("base", {"target_modules": ["query"], "layers_to_transform": [1], "layers_pattern": "layer"}),
    ("cls", {"target_modules": ["key"], "modules_to_save": ["pooler", "LayerNorm"], "bias": "all"}),
    ("cls", {"target_modules": ["dense"], "modules_to_save": ["output"], "lora_dropout": 0.1}),
    ("base", {"target_modules": ["value"], "init_lora_weights": "gaussian", "use_dora": True}),
    ("base", {"target_modules": ["query", "output.dense"], "init_lora_weights": "pissa"}),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "cls": make_tiny(root / "cls", num_labels=3),
        "base": make_tiny(root / "base"),
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, lorasc.Model]:
    return {kind: lorasc.Model(path) for kind, path in folders.items()}


def open_base(folders: dict[str, Path], kind: str) -> nn.Module:
    if kind == "cls":
        return AutoModelForSequenceClassification.from_pretrained(folders["cls"], num_labels=3)
    return AutoModel.from_pretrained(folders["base"])


def make_peft(folders: dict[str, Path], kind: str, arguments: dict[str, Any]) -> PeftModel:
    """A PEFT model whose trainable tensors are all away from their start."""
    task = "SEQ_CLS" if kind == "cls" else "FEATURE_EXTRACTION"
    base = open_base(folders, kind)
    model = get_peft_model(base, LoraConfig(task_type=task, **({"r": 4} | arguments)))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def outputs(model: nn.Module, kind: str, rows: lorasc.Batch) -> np.ndarray:
    inputs = pad(rows)
    with torch.no_grad():
        result = model(**inputs)
    if kind == "cls":
        return result.logits.numpy()
    return result.last_hidden_state[inputs["attention_mask"].bool()].numpy()


def merged_weights(model: PeftModel) -> dict[str, np.ndarray]:
    tensors = model.merge_and_unload().state_dict()
    return {name.removeprefix("bert."): value.numpy() for name, value in tensors.items()}


@pytest.mark.parametrize(("kind", "arguments"), CONFIGURATIONS)
def test_folders_go_both_ways(
    folders: dict[str, Path],
    models: dict[str, lorasc.Model],
    tmp_path: Path,
    kind: str,
    arguments: dict[str, Any],
) -> None:
    rows = random_rows(np.random.default_rng(5), 9, token_types=True)
    what = "logits" if kind == "cls" else "token_embedding"
    theirs = make_peft(folders, kind, arguments)
    theirs.save_pretrained(tmp_path / "theirs")
    expected = outputs(theirs, kind, rows)
    weights = merged_weights(theirs)

    adapter = lorasc.Adapter.load(models[kind], tmp_path / "theirs")
    # PEFT takes PiSSA's factors out of the backbone by an SVD in float32, whose rounding depends on
    # the CPU, the engine in float64: of weights and outputs.
    is_pissa = arguments.get("init_lora_weights") == "pissa"
    tolerance = 1e-5 if is_pissa else 2e-6
    assert relative_error(adapter.predict(rows, what), expected) <= tolerance
    adapter.merge(tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    for name, values in ours.items():
        error = relative_error(values, weights[name.removeprefix("bert.")])
        assert error <= (1e-5 if is_pissa else 1e-6), name

    report = adapter.save(tmp_path / "ours")
    again = PeftModel.from_pretrained(open_base(folders, kind), tmp_path / "ours").eval()
    assert relative_error(outputs(again, kind, rows), expected) <= tolerance
    saved = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    if is_pissa:
        assert report.rank == 2 * 4
        return
    assert report.error == 0
    original = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    original = {
        name: value
        for name, value in original.items()
        if "original_module" not in name and ".modules_to_save." not in name
    }
    assert saved.keys() == original.keys()
    for name, values in saved.items():
        np.testing.assert_array_equal(values, original[name], err_msg=name)
    before = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    after = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    for key, value in before.items():
        found = after[key]
        if key in ("target_modules", "modules_to_save") and isinstance(value, list):
            value, found = sorted(value), sorted(found)
        if key == "layers_pattern" and isinstance(value, str):
            value = [value]
        assert found == value, key


def test_unknown_keys_survive(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    path = saved_by_peft(folders, tmp_path)
    edit(path, {"a_key_of_tomorrow": {"x": [1, None]}})
    lorasc.Adapter.load(models["cls"], path).save(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert config["a_key_of_tomorrow"] == {"x": [1, None]}
    assert config["peft_version"]


def test_mean_linear_heads_lie_beside(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    model = models["base"]
    rows = random_rows(np.random.default_rng(6), 7)
    adapter = lorasc.Adapter(
        model, method="lora", num_labels=4, id2label=["a", "b", "c", "d"], r=3, bias="all"
    )
    adapter["encoder.layer.0.attention.self.query.lora_B.weight"] = np.full((32, 3), 0.1)
    adapter.save(tmp_path / "a")
    again = lorasc.Adapter.load(model, tmp_path / "a")
    np.testing.assert_array_equal(again.predict(rows), adapter.predict(rows))
    again.merge(tmp_path / "merged")
    labels = json.loads((tmp_path / "merged" / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["a", "b", "c", "d"]
    theirs = PeftModel.from_pretrained(open_base(folders, "base"), tmp_path / "a").eval()
    hidden = adapter.predict(rows, "token_embedding")
    assert relative_error(outputs(theirs, "base", rows), hidden) <= 2e-6


@pytest.mark.parametrize(
    ("method", "slow_rule"),
    [
        ("lorasc", "interpolate"),
        ("lorasc", "ema"),
        ("lorasc", "ema_factors"),
        ("lorasc+cola", "interpolate"),
        ("lorasc+cola", "ema"),
    ],
)
def test_cascades_are_exact_adapters(
    folders: dict[str, Path],
    models: dict[str, lorasc.Model],
    tmp_path: Path,
    method: str,
    slow_rule: str,
) -> None:
    adapter = cascaded(
        models["cls"], method=method, slow_rule=slow_rule, target_modules="query,word_embeddings"
    )
    report = adapter.save(tmp_path / "adapter")
    assert report.error == 0
    assert report.rank == (12 if method == "lorasc" else 4 + 2 + 1)
    adapter.merge(tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = PeftModel.from_pretrained(open_base(folders, "cls"), tmp_path / "adapter")
    weights = merged_weights(theirs)
    for name, values in ours.items():
        assert relative_error(values, weights[name.removeprefix("bert.")]) <= 1e-6, name
    again = lorasc.Adapter.load(models["cls"], tmp_path / "adapter")
    again.merge(tmp_path / "again")
    for name, values in load_file(tmp_path / "again" / "model.safetensors").items():
        assert relative_error(values, ours[name]) <= 1e-6, name


def test_truncated_cascades_state_their_error(
    models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    model = models["cls"]
    adapter = cascaded(model, target_modules="query,value")
    report = adapter.save(tmp_path / "adapter", rank=2)
    adapter.merge(tmp_path / "merged")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    loaded = lorasc.Adapter.load(model, tmp_path / "adapter")
    loaded.merge(tmp_path / "truncated")
    truncated = load_file(tmp_path / "truncated" / "model.safetensors")
    dropped = total = 0.0
    for module in adapter.modules:
        name = module.module + ".weight"
        base = model.tensor(name).astype(np.float64)
        u, s, v = np.linalg.svd(ours["bert." + name] - base)
        best = base + (u[:, :2] * s[:2]) @ v[:2]
        np.testing.assert_allclose(truncated["bert." + name], best, atol=1e-6)
        dropped += float((s[2:] ** 2).sum())
        total += float((s**2).sum())
    assert report.rank == 2
    assert 0 < report.error == pytest.approx(np.sqrt(dropped / total), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"method": "lorasc+dora"}, "DoRA"),
        ({"method": "lorasc+dora", "cascade_unit": "none"}, "DoRA"),
        ({"noise_lifetime": "persist"}, "noise"),
    ],
)
def test_what_only_merged_weights_hold(
    models: dict[str, lorasc.Model], tmp_path: Path, options: dict[str, str], why: str
) -> None:
    adapter = cascaded(models["cls"], **options)
    for rank in (None, 2):
        with pytest.raises(lorasc.FormatError, match=f"only merged weights.*{why}"):
            adapter.save(tmp_path / "adapter", rank=rank)
    assert not (tmp_path / "adapter").exists()


def cascaded(model: lorasc.Model, **options: Any) -> lorasc.Adapter:
    """An adapter after three cascades, or one without a boundary."""
    rows = random_rows(np.random.default_rng(8), 24, labels=3)
    own = {key: options.pop(key) for key in ("method", "target_modules") if key in options}
    adapter = lorasc.Adapter(model, num_labels=3, r=4, **own)
    reinit = "same_a" if options.get("slow_rule") == "ema_factors" else "new"
    with lorasc.Trainer(
        model, adapter, epochs=3, batch_size=8, learning_rate=1e-2, reinit=reinit, **options
    ) as trainer:
        trainer.run(rows)
    return adapter


# ---- What is refused -------------------------------------------------------------


def saved_by_peft(folders: dict[str, Path], tmp_path: Path, **arguments: Any) -> Path:
    path = tmp_path / "adapter"
    make_peft(folders, "cls", {"target_modules": ["query"]} | arguments).save_pretrained(path)
    return path


def edit(path: Path, changes: dict[str, Any]) -> None:
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_qalora", True),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["x"]),
        ("layer_replication", [[0, 1]]),
        ("alora_invocation_tokens", [3]),
        ("megatron_config", {"x": 1}),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
    ],
)
def test_unsupported_features_are_named(
    folders: dict[str, Path],
    models: dict[str, lorasc.Model],
    tmp_path: Path,
    key: str,
    value: Any,
) -> None:
    path = saved_by_peft(folders, tmp_path)
    edit(path, {key: value})
    with pytest.raises(lorasc.FormatError, match=key) as caught:
        lorasc.Adapter.load(models["cls"], path)
    assert caught.value.status is lorasc.Status.UNSUPPORTED
    assert caught.value.subject == key


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"r": "four"}, lorasc.FormatError),
        ({"r": 0}, lorasc.OptionError),
        ({"r": 10**30}, lorasc.FormatError),
        ({"r": 60000}, lorasc.LorascError),
        ({"lora_alpha": -1}, lorasc.OptionError),
        ({"rank_pattern": {"query": "x"}}, lorasc.OptionError),
        ({"rank_pattern": 3}, lorasc.FormatError),
        ({"target_modules": 7}, lorasc.FormatError),
        ({"target_modules": ["nothing"]}, lorasc.DataError),
        ({"target_modules": "(["}, lorasc.OptionError),
        ({"layers_to_transform": ["x"]}, lorasc.FormatError),
        ({"bias": "some"}, lorasc.OptionError),
        ({"modules_to_save": ["nothing"]}, lorasc.DataError),
    ],
)
def test_bad_configurations(
    folders: dict[str, Path],
    models: dict[str, lorasc.Model],
    tmp_path: Path,
    changes: dict[str, Any],
    error: type[Exception],
) -> None:
    path = saved_by_peft(folders, tmp_path)
    edit(path, changes)
    with pytest.raises(error):
        lorasc.Adapter.load(models["cls"], path)


def test_tensors_that_do_not_fit_are_listed(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    path = saved_by_peft(folders, tmp_path)
    file = path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    cases = {
        "missing encoder.layer.0.attention.self.query.lora_A": {
            key: value for key, value in tensors.items() if key != name
        },
        "unexpected base_model.model.stranger": tensors | {"base_model.model.stranger": np.ones(2)},
        r"lora_A.weight has shape \[5, 32\], not \[4, 32\]": tensors
        | {name: np.ones((5, 32), np.float32)},
        "missing classifier.weight": {
            key: value for key, value in tensors.items() if not key.endswith("classifier.weight")
        },
    }
    for message, content in cases.items():
        save_file(content, file)
        with pytest.raises(lorasc.FormatError, match=message) as caught:
            lorasc.Adapter.load(models["cls"], path)
        assert caught.value.status is lorasc.Status.MISMATCH
    save_file(tensors | {name: np.full((4, 32), np.nan, np.float32)}, file)
    with pytest.raises(lorasc.NonFiniteError, match=r"query\.lora_A"):
        lorasc.Adapter.load(models["cls"], path)


def test_half_precision_files_are_read(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    path = saved_by_peft(folders, tmp_path)
    file = path / "adapter_model.safetensors"
    tensors = {name: value.astype(np.float16) for name, value in load_file(file).items()}
    save_file(tensors, file)
    adapter = lorasc.Adapter.load(models["cls"], path)
    name = "encoder.layer.0.attention.self.query.lora_A.weight"
    np.testing.assert_array_equal(adapter[name], tensors["base_model.model.bert." + name])


def test_damaged_and_missing_files(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    path = saved_by_peft(folders, tmp_path)
    with pytest.raises(lorasc.NotFoundError):
        lorasc.Adapter.load(models["cls"], tmp_path / "nowhere")
    file = path / "adapter_model.safetensors"
    content = file.read_bytes()
    for length in (0, 7, 100, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(lorasc.FormatError):
            lorasc.Adapter.load(models["cls"], path)
    file.rename(path / "adapter_model.bin")
    with pytest.raises(lorasc.FormatError, match="pickle"):
        lorasc.Adapter.load(models["cls"], path)
    (path / "adapter_config.json").write_text("{")
    with pytest.raises(lorasc.FormatError):
        lorasc.Adapter.load(models["cls"], path)


def test_another_base_model_is_noticed(models: dict[str, lorasc.Model], tmp_path: Path) -> None:
    lorasc.Adapter(models["cls"], num_labels=3, method="lora").save(tmp_path / "a")
    other = lorasc.Model(make_tiny(tmp_path / "other", num_labels=3, seed=9))
    with pytest.raises(lorasc.FormatError, match="another model") as caught:
        lorasc.Adapter.load(other, tmp_path / "a")
    assert caught.value.subject == "base"
    copied = lorasc.Model(shutil.copytree(models["cls"].path, tmp_path / "copy"))
    lorasc.Adapter.load(copied, tmp_path / "a")


def test_options_that_contradict_the_file(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    path = saved_by_peft(folders, tmp_path)
    with pytest.raises(lorasc.OptionError, match=r"r: adapter_config\.json says '4'"):
        lorasc.Adapter.load(models["cls"], path, r=8)
    lorasc.Adapter.load(models["cls"], path, r=4, adapter_seed=3)


def test_a_folder_is_replaced_in_one_step(models: dict[str, lorasc.Model], tmp_path: Path) -> None:
    model = models["base"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "README.md").write_text("mine")
    lorasc.Adapter(model, num_labels=2, method="lora").save(tmp_path / "a")
    lorasc.Adapter(model, num_labels=2, method="lora", r=3).save(tmp_path / "a")
    assert (tmp_path / "a" / "README.md").read_text() == "mine"
    assert lorasc.Adapter.load(model, tmp_path / "a").modules[0].rank == 3
    with pytest.raises(lorasc.ArgumentError, match="open model"):
        lorasc.Adapter(model, method="lora").save(model.path)


def test_damaged_folders_never_crash(
    folders: dict[str, Path], models: dict[str, lorasc.Model], tmp_path: Path
) -> None:
    """Random bytes and cuts in both files: each load works or is refused by the library."""
    path = saved_by_peft(folders, tmp_path, rank_pattern={"query": 2}, use_dora=True)
    files = [path / "adapter_config.json", path / "adapter_model.safetensors"]
    contents = [file.read_bytes() for file in files]
    random = np.random.default_rng(11)
    refused = 0
    for attempt in range(400):
        file, content = files[attempt % 2], bytearray(contents[attempt % 2])
        # The header of the tensors' file, where bytes mean something.
        end = len(content) if attempt % 2 == 0 else 1500
        for place in random.integers(0, end, random.integers(1, 4)):
            content[place] = random.choice([0, 34, 44, 48, 57, 91, 125, 255, random.integers(256)])
        file.write_bytes(
            content[: random.integers(1, len(content))] if attempt % 7 == 0 else content
        )
        try:
            lorasc.Adapter.load(models["cls"], path).close()
        except lorasc.LorascError:
            refused += 1
        file.write_bytes(contents[attempt % 2])
    assert 100 < refused < 400
