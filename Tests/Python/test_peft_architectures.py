"""PEFT's folders of architectures other than BERT: names in memory, copies of embeddings, heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import TASKS, auto_class, file_name, inputs, is_vision, random_batch, save
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from tiny import relative_error
from torch import nn

import lorasc

LABELS = 3


def open_base(name: str, head: str, folder: Path) -> nn.Module:
    """The folder's model with the head, for PEFT."""
    auto = auto_class(name, "none" if head == "mean_linear" else head)
    options: dict[str, Any] = {}
    if head == "classifier":
        options["num_labels"] = LABELS
    elif is_vision(name):
        options["add_pooling_layer"] = False
    return auto.from_pretrained(folder, **options).eval()


def start(name: str, head: str, folder: Path, **options: Any) -> lorasc.Adapter:
    """An adapter on a small model in `folder`, all of whose tensors are away from their start."""
    stored = "none" if head == "mean_linear" else head
    model = lorasc.Model(save(name, stored, folder, LABELS))
    labels = {} if head == "lm" else {"num_labels": LABELS}
    adapter = lorasc.Adapter(model, method="lora", r=3, head=head, **labels, **options)
    random = np.random.default_rng(4)
    for tensor in adapter.tensors():
        adapter[tensor] = adapter[tensor] + 0.1 * random.normal(size=adapter[tensor].shape)
    return adapter


def peft_outputs(model: nn.Module, batch: lorasc.Batch, head: str) -> np.ndarray:
    """Logits, or hidden states of the tokens, as the engine predicts them."""
    given = inputs(batch)
    with torch.no_grad():
        found = model(**given)
    if head == "classifier":
        return found.logits.numpy()
    values = found.logits if head == "lm" else found.last_hidden_state
    if "attention_mask" in given:
        return values[given["attention_mask"].bool()].numpy()
    return values.reshape(-1, values.shape[-1]).numpy()


WHAT = {"classifier": "logits", "lm": "token_logits", "mean_linear": "token_embedding"}


def check_that_peft_opens(adapter: lorasc.Adapter, name: str, head: str, folder: Path) -> PeftModel:
    """PEFT computes with the saved folder what the engine does."""
    adapter.save(folder)
    base = open_base(name, head, Path(adapter.model.path))
    model = PeftModel.from_pretrained(base, folder).eval()
    # A multiple of 3: lm then predicts every token
    batch = random_batch(name, "lm" if head == "lm" else "classifier", seed=3)
    ours = adapter.predict(batch, WHAT[head])
    assert relative_error(ours, peft_outputs(model, batch, head)) <= 2e-6
    return model


RULES: list[dict[str, Any]] = [
    {},
    {"target_modules": "query,value"},
    {"target_modules": "encoder.layer.1.attention.output.dense,fc1"},
    {"target_modules": r".*layer\.\d+\.attention\.attention\.(query|key)"},
    {"target_modules": "q_proj,dense", "exclude_modules": "encoder.layer.0.output.dense"},
    {"target_modules": "v_proj,key", "rank_pattern": json.dumps({"attention.attention.key": 2})},
    {"target_modules": "q_proj", "alpha_pattern": json.dumps({"layer.0.*query": 5})},
    {"target_modules": "query", "layers_to_transform": "1", "layers_pattern": "layer"},
    {"target_modules": "q_proj", "modules_to_save": "layer.1.output.dense,layernorm_after"},
    {"target_modules": "q_proj", "modules_to_save": "mlp", "bias": "all"},
]


@pytest.mark.parametrize("head", ["classifier", "mean_linear"])
@pytest.mark.parametrize("rules", RULES)
def test_rules_for_a_vit_reach_peft(tmp_path: Path, head: str, rules: dict[str, Any]) -> None:
    """Rules by the files' names become rules by those in memory, which PEFT sees."""
    adapter = start("vit", head, tmp_path / "base", **rules)
    model = check_that_peft_opens(adapter, "vit", head, tmp_path / "ours")
    adapted = {
        file_name(module.removeprefix("vit.")) for module in model.base_model.targeted_module_names
    }
    assert adapted == {module.module for module in adapter.modules}
    with lorasc.Adapter.load(adapter.model, tmp_path / "ours", head=head) as again:
        assert again.tensors().keys() == adapter.tensors().keys()
        for tensor in adapter.tensors():
            np.testing.assert_array_equal(again[tensor], adapter[tensor])


def test_files_by_the_old_names_of_a_vit_are_read(tmp_path: Path) -> None:
    """PEFT under transformers 4 wrote the names that model files have."""
    adapter = start("vit", "classifier", tmp_path / "base", target_modules="q_proj,fc2")
    adapter.save(tmp_path / "new")
    (tmp_path / "old").mkdir()
    tensors = load_file(tmp_path / "new" / "adapter_model.safetensors")
    root = "base_model.model.vit."
    old = {
        root + file_name(key.removeprefix(root)) if key.startswith(root) else key: value
        for key, value in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / "old" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    config["target_modules"] = ["query", "layer.0.output.dense", "layer.1.output.dense"]
    config["exclude_modules"] = ["attention.output.dense"]
    (tmp_path / "old" / "adapter_config.json").write_text(json.dumps(config))
    with lorasc.Adapter.load(adapter.model, tmp_path / "old") as again:
        for tensor in adapter.tensors():
            np.testing.assert_array_equal(again[tensor], adapter[tensor])


@pytest.mark.parametrize("head", ["classifier", "mean_linear"])
def test_prefixes_of_classes_reach_peft(tmp_path: Path, head: str) -> None:
    """A rule with the prefix of a class with a head, for PEFT on the bare model too."""
    adapter = start(
        "llama",
        head,
        tmp_path / "base",
        target_modules="model.layers.0.self_attn.q_proj,v_proj",
        rank_pattern=json.dumps({"model.layers.1.self_attn.v_proj": 2}),
        modules_to_save="model.layers.1.mlp",
    )
    check_that_peft_opens(adapter, "llama", head, tmp_path / "ours")


def test_what_no_name_of_peft_says_is_refused(tmp_path: Path) -> None:
    """The bare model's "norm" is the end of other norms' names too."""
    adapter = start("llama", "mean_linear", tmp_path / "base", modules_to_save="model.norm")
    with pytest.raises(lorasc.LorascError, match="modules_to_save"):
        adapter.save(tmp_path / "ours")


def peft_folder(name: str, head: str, base: Path, folder: Path, **config: Any) -> nn.Module:
    """A folder that PEFT saved, and its model."""
    task = None if is_vision(name) or head == "mean_linear" else TASKS[head]
    torch.manual_seed(5)
    options = LoraConfig(r=3, task_type=task, **config)
    model = get_peft_model(open_base(name, head, base), options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("name", "head", "config"),
    [
        ("llama", "lm", {"target_modules": ["lm_head", "q_proj"]}),
        ("llama", "mean_linear", {"target_modules": ["embed_tokens", "q_proj"]}),
        ("llama", "lm", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("vit", "classifier", {"target_modules": "all-linear", "modules_to_save": ["classifier"]}),
        ("roberta", "classifier", {"target_modules": "all-linear", "bias": "all"}),
        ("roberta", "classifier", {"target_modules": ["query", "dense", "out_proj"]}),
        ("deit", "mean_linear", {"target_modules": ["k_proj"], "bias": "all"}),
        (
            "gpt2",
            "mean_linear",
            {
                "target_modules": ["wpe", "c_fc"],
                "layers_to_transform": [1],
                "layers_pattern": "h",
            },
        ),
    ],
)
def test_folders_of_peft_go_both_ways(
    tmp_path: Path, name: str, head: str, config: dict[str, Any]
) -> None:
    base = save(name, "none" if head != "lm" else "lm", tmp_path / "base", LABELS)
    theirs = peft_folder(name, head, base, tmp_path / "theirs", **config)
    batch = random_batch(name, "lm" if head == "lm" else "classifier", seed=3)
    expected = peft_outputs(theirs, batch, head)
    model = lorasc.Model(base)
    options = {} if head == "lm" else {"num_labels": LABELS}
    adapter = lorasc.Adapter.load(model, tmp_path / "theirs", head=head, **options)
    assert relative_error(adapter.predict(batch, WHAT[head]), expected) <= 2e-6
    check_that_peft_opens(adapter, name, head, tmp_path / "ours")


def test_another_embedding_beside_an_adapter_is_refused(tmp_path: Path) -> None:
    """PEFT writes the frozen embedding beside; one that was changed is no adapter's."""
    base = save("llama", "none", tmp_path / "base")
    peft_folder("llama", "mean_linear", base, tmp_path / "peft", target_modules=["embed_tokens"])
    path = tmp_path / "peft" / "adapter_model.safetensors"
    tensors = load_file(path)
    key = "base_model.model.embed_tokens.base_layer.weight"
    tensors[key] = tensors[key] + 1
    save_file(tensors, path)
    with pytest.raises(lorasc.LorascError, match=r"unexpected .*embed_tokens\.base_layer"):
        lorasc.Adapter.load(lorasc.Model(base), tmp_path / "peft", head="mean_linear", num_labels=3)


def test_a_pooler_that_no_head_uses_gets_no_adapter(tmp_path: Path) -> None:
    """A bare RoBERTa's file has one, and its classifier doesn't."""
    adapter = start(
        "roberta", "classifier", tmp_path / "base", target_modules="all-linear", bias="all"
    )
    assert not [tensor for tensor in adapter.tensors() if "pooler" in tensor]
    check_that_peft_opens(adapter, "roberta", "classifier", tmp_path / "ours")


def test_merged_view_of_a_transposed_matrix_is_that_of_the_file(tmp_path: Path) -> None:
    adapter = start("gpt2", "lm", tmp_path / "base", target_modules="c_attn,c_proj")
    adapter.merge(tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    trainer = lorasc.Trainer(adapter.model, adapter, slow_rate=1)
    for module in adapter.modules:
        weight = f"{module.module}.weight"
        assert relative_error(trainer.merged(weight), merged["transformer." + weight]) <= 1e-6
    for name in ("h.0.mlp.c_fc.weight", "wte.weight"):
        np.testing.assert_array_equal(trainer.merged(name), merged["transformer." + name])


def test_a_vits_bias_of_patches_is_trained(tmp_path: Path) -> None:
    """bias=all takes it as PEFT does: its gradient by finite differences."""
    adapter = start("deit", "classifier", tmp_path / "base", bias="all")
    name = "embeddings.patch_embeddings.projection.bias"
    trainer = lorasc.Trainer(adapter.model, adapter, schedule="constant")
    batch = random_batch("deit", "classifier", seed=2)
    trainer.accumulate(batch)
    gradient = trainer.gradient(name)
    trainer.discard_gradients()
    at, direction = adapter[name], gradient / np.linalg.norm(gradient)
    losses = []
    for step in (1e-2, -1e-2):
        adapter[name] = at + step * direction
        losses.append(trainer.evaluate(batch).loss)
    slope = (losses[0] - losses[1]) / 2e-2
    assert slope == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-3)


def test_modules_to_save_of_a_vit_by_both_names(tmp_path: Path) -> None:
    for names in ("fc1,layers.0.attention.k_proj", "intermediate.dense,attention.attention.key"):
        adapter = start("vit", "classifier", tmp_path / "base", modules_to_save=names)
        assert "encoder.layer.0.intermediate.dense.weight" in adapter.tensors()
        assert "encoder.layer.0.attention.attention.key.bias" in adapter.tensors()
    with pytest.raises(lorasc.LorascError, match="embeddings"):
        start("vit", "classifier", tmp_path / "base", modules_to_save="embeddings")
