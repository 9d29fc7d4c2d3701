"""The vision demo end to end on a few images, its backbone, and its LoRA against PEFT's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import demo_vision
import fashion
import numpy as np
import pytest
import torch
import vit
from architectures import ARCHITECTURES, Peer
from corruptions import CORRUPTIONS
from programs import run_example
from tiny import relative_error
from transformers import AutoModelForImageClassification

import lorasc

RECIPE = vit.Recipe(rows=200, epochs=1)
CLASSES = len(fashion.ADAPTED)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's backbone after a small part of its training."""
    folder = tmp_path_factory.mktemp("models") / "vit"
    vit.write_folder(folder, RECIPE)
    return folder


# ---- The backbone -------------------------------------------------------------------


def test_backbone_is_a_folder_that_knows_its_classes(backbone: Path) -> None:
    training = json.loads((backbone / "training.json").read_text())
    assert training["recipe"] == RECIPE.describe()
    assert training["test_accuracy"] > 0.5
    assert demo_vision.read_normalization(backbone) == ([vit.MEAN], [vit.STD])
    with lorasc.Model(backbone) as model:
        assert (model.info.architecture, model.info.head) == ("vit", "none")
    pixels = fashion.load(fashion.BACKBONE, train=5500, dev=0, test=1)["train"].images / 255
    assert pixels.mean() == pytest.approx(vit.MEAN, abs=0.01)
    assert pixels.std() == pytest.approx(vit.STD, abs=0.01)


def test_backbone_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "TEST", 10)
    recipe = vit.Recipe(rows=40, epochs=1)
    weights = []
    for name in ("first", "second"):
        vit.write_folder(tmp_path / name, recipe)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_backbone_is_made_once_for_each_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode=len(commands) - 1)

    monkeypatch.setattr(vit.subprocess, "run", run)
    made = tmp_path / "training.json"
    made.write_text(json.dumps({"recipe": vit.Recipe().describe()}))
    assert vit.find_folder(tmp_path) == tmp_path
    assert not commands
    made.write_text(json.dumps({"recipe": RECIPE.describe()}))
    assert vit.find_folder(tmp_path) == tmp_path
    assert commands[0][-2:] == ["--output", str(tmp_path)]
    made.unlink()
    with pytest.raises(FileNotFoundError, match="requirements-vit"):
        vit.find_folder(tmp_path)


# ---- The demo -----------------------------------------------------------------------


@pytest.fixture
def without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are run find a PyTorch and a transformers that can't be imported."""
    for name in ("torch", "transformers"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not for the demo')\n")
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), path]))


@pytest.mark.usefixtures("without_pytorch")
def test_demo(repository: Path, backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    sizes = ("--epochs", 2, "--train", 40, "--dev", 10, "--test", 30)
    arguments = ("--model", backbone, "--output", output, *sizes)
    printed = run_example(repository, "demo_vision.py", *arguments)
    for part in ("Before", "LoRA ", "COLA ", "LoRASC", "test accuracy", "are the same", "Next"):
        assert part in printed
    for name in CORRUPTIONS:
        assert name in printed
    for name in ("curves.png", "corruptions.png"):
        assert (output / name).read_bytes()[:4] == b"\x89PNG"

    report = json.loads((output / "report.json").read_text())
    assert report["rows"] == {"train": 200, "dev": 50, "test": 150}
    assert report["steps"] == 2 * -(-200 // demo_vision.TRAINER["batch_size"])
    assert report["corruptions"].keys() == CORRUPTIONS.keys()
    assert list(report["methods"]) == ["lora", "cola", "lorasc"]
    for row in (report["before"], *report["methods"].values()):
        assert row["corrupted_accuracy"].keys() == CORRUPTIONS.keys()
        for name, accuracies in row["corrupted_accuracy"].items():
            assert len(accuracies) == len(CORRUPTIONS[name].levels)
            assert all(0 <= accuracy <= 1 for accuracy in accuracies)
        assert 1.5 / CLASSES < row["test_accuracy"] <= 1
    for row in report["methods"].values():
        assert len(row["curve"]["loss"]) == report["steps"]
        assert len(row["evaluations"]) == 2
    losses = {method: row["curve"]["loss"] for method, row in report["methods"].items()}
    boundary = report["methods"]["cola"]["boundaries"][0]["step"]
    assert boundary == report["steps"] // 2
    # The same start and order of rows; noise and cascades make the difference
    assert losses["lora"][:boundary] == losses["cola"][:boundary] != losses["lorasc"][:boundary]
    assert losses["lorasc"][0] == pytest.approx(losses["lora"][0], rel=1e-3)
    assert losses["lora"] != losses["cola"]
    assert report["merged"]["same_predictions"]

    test = fashion.load(fashion.ADAPTED, train=40, dev=10, test=30)["test"]
    batch = lorasc.Batch.images(test.images, mean=[vit.MEAN], std=[vit.STD], labels=test.labels)
    with lorasc.Model(output / "merged") as model:
        assert model.label_names == list(fashion.ADAPTED)
        logits = model.predict(batch)
    accuracy = (logits.argmax(1) == test.labels).mean()
    assert accuracy == pytest.approx(report["methods"]["lorasc"]["test_accuracy"])
    peer = AutoModelForImageClassification.from_pretrained(output / "merged").eval()
    with torch.no_grad():
        expected = peer(pixel_values=vit.tensors(test)[0]).logits
    assert relative_error(logits, expected) <= 1e-4


# ---- Against PEFT -------------------------------------------------------------------


def test_lora_is_that_of_peft(backbone: Path) -> None:
    parts = fashion.load(fashion.ADAPTED, train=64, dev=0, test=40)
    normalization = {"mean": [vit.MEAN], "std": [vit.STD]}
    ours, theirs = {}, {}
    for name in ("train", "test"):
        images, labels = parts[name].images, parts[name].labels
        ours[name] = lorasc.Batch.images(images, labels=labels, **normalization)
        floats = vit.tensors(parts[name])[0].numpy()
        theirs[name] = lorasc.Batch.images(floats, labels=labels)
    settings = demo_vision.ADAPTER | {"target_modules": ",".join(ARCHITECTURES["vit"].targets)}
    model = lorasc.Model(backbone)
    adapter = lorasc.Adapter(model, method="lora", num_labels=CLASSES, **settings)
    peer = Peer("vit", "classifier", backbone, CLASSES, settings["r"], settings["lora_alpha"])
    peer.load_from(adapter)
    size, rate = demo_vision.TRAINER["batch_size"], 1e-3
    trainer = lorasc.Trainer(
        model, adapter, batch_size=size, learning_rate=rate, schedule="constant", shuffle=False
    )
    before = trainer.evaluate(ours["test"]).loss
    trainer.run(ours["train"])

    parameters = list(peer.tensors().values())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0)
    losses = []
    for start in [*range(0, len(theirs["train"]), size)] * 3:
        optimizer.zero_grad()
        loss = peer.loss(theirs["train"][start : start + size])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(trainer.history.loss, losses, rtol=1e-3)
    after = trainer.evaluate(ours["test"]).loss
    with torch.no_grad():
        assert after == pytest.approx(peer.loss(theirs["test"]).item(), rel=0.01)
    assert after < before
