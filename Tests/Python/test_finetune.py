"""lorasc.finetune, and the example programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from programs import run_example

import lorasc

import fortunes

TEXTS = ["good movie", "bad film", "great fun", "awful mess", "lovely plot", "dull story"] * 4
NAMES = ["positive", "negative"] * 12


def test_names_of_classes(minilm_path: Path, tmp_path: Path) -> None:
    seen: list[lorasc.Progress] = []
    with lorasc.finetune(
        minilm_path,
        TEXTS,
        NAMES,
        eval_texts=TEXTS[:6],
        eval_labels=NAMES[:6],
        output_dir=tmp_path / "merged",
        progress=seen.append,
        epochs=4,
        learning_rate=5e-3,
        batch_size=8,
    ) as result:
        assert result.label_names == ["negative", "positive"]
        assert result.predict(TEXTS[:6]) == NAMES[:6]
        assert result.history.evaluations[-1].eval_accuracy == 1
        assert seen[-1].event is lorasc.Event.END
        result.save(tmp_path / "again")
    with lorasc.Model(tmp_path / "merged") as model:
        assert model.label_names == ["negative", "positive"]
        assert model.classify(TEXTS[:6]) == NAMES[:6]
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}


def test_class_numbers_and_regression(minilm_path: Path) -> None:
    options = {"epochs": 1, "progress": None, "method": "lora"}
    with lorasc.finetune(minilm_path, TEXTS, [0, 2] * 12, **options) as result:
        assert result.label_names is None
        assert result.adapter.num_labels == 3
        assert result.predict(TEXTS[:2]).dtype.kind == "i"
    with lorasc.finetune(minilm_path, TEXTS, [0.0, 1.5] * 12, **options) as result:
        assert result.predict(TEXTS[:2]).shape == (2,)
        assert result.predict(TEXTS[:2]).dtype == np.float32
    pairs = [(text, "yes") for text in TEXTS]
    with lorasc.finetune(minilm_path, pairs, NAMES, **options) as result:
        assert len(result.predict(pairs[:3])) == 3


def test_mistakes(minilm_path: Path) -> None:
    with pytest.raises(ValueError, match="24 texts, but 23 labels"):
        lorasc.finetune(minilm_path, TEXTS, NAMES[1:])
    with pytest.raises(ValueError, match="come together"):
        lorasc.finetune(minilm_path, TEXTS, NAMES, eval_texts=TEXTS)
    with pytest.raises(ValueError, match="neutral"):
        lorasc.finetune(minilm_path, TEXTS, NAMES, eval_texts=["a"], eval_labels=["neutral"])
    with pytest.raises(lorasc.OptionError, match="lr"):
        lorasc.finetune(minilm_path, TEXTS, NAMES, lr=1)
    with pytest.raises(lorasc.OptionError):
        lorasc.finetune(minilm_path, TEXTS, NAMES, method="ia3")
    with pytest.raises(lorasc.DataError, match="max_length"):
        lorasc.finetune(minilm_path, ["word " * 600], ["a"])


def test_finetune_example(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = [json.dumps({"text": t, "label": n}) for t, n in zip(TEXTS, NAMES, strict=True)]
    data.write_text("\n".join(lines) + "\n")
    output = tmp_path / "model"
    printed = run_example(
        repository, "finetune.py", "--data", data, "--output", output, "--epochs", 2
    )
    assert "accuracy" in printed
    with lorasc.Model(output) as model:
        assert set(model.classify(TEXTS)) <= {"positive", "negative"}


def test_token_files(repository: Path, minilm: lorasc.Model, tmp_path: Path) -> None:
    run_example(repository, "write_tokens.py", tmp_path)
    for name, part in fortunes.load().items():
        lines = (tmp_path / f"{name}.tokens").read_text().splitlines()
        assert lines[0] == f"lorasc-tokens 1 {len(part)} {len(fortunes.TOPICS)}"
        batch = minilm.encode(part.texts, fortunes.MAX_LENGTH)
        for row, line in enumerate(lines[1:]):
            label, count, *ids = map(int, line.split())
            assert (label, count) == (part.labels[row], len(ids))
            assert ids == batch.row(row).tolist()


def test_the_task_is_what_it_says() -> None:
    parts = fortunes.load()
    texts = [text for part in parts.values() for text in part.texts]
    assert len(texts) == len(set(texts))
    for name, count in (("train", 80), ("dev", fortunes.DEV), ("test", fortunes.TEST)):
        labels = np.array(parts[name].labels)
        assert (np.bincount(labels) == count).all()
    again = fortunes.load()
    assert {k: v.texts for k, v in again.items()} == {k: v.texts for k, v in parts.items()}


def test_demo(repository: Path, tmp_path: Path) -> None:
    """The demo's program on one epoch: what it prints and writes."""
    printed = run_example(repository, "demo.py", "--output", tmp_path, "--epochs", 1)
    for part in ("Before", "LoRA ", "COLA ", "LoRASC", "test accuracy", "are the same", "Next"):
        assert part in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"] == "minilm"
    assert report["task"]
    assert report["rows"].keys() == {"train", "dev", "test"}
    assert report["steps"] == 50
    assert report["methods"].keys() == {"lora", "cola", "lorasc"}
    for row in report["methods"].values():
        for key in ("train_loss", "test_loss", "seconds", "tokens_per_second"):
            assert row[key] > 0
        assert 0.1 < row["dev_accuracy"] < 1
        assert 0.1 < row["test_accuracy"] < 1
        assert len(row["curve"]["loss"]) == 50
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with lorasc.Model(tmp_path / "merged") as model:
        assert model.label_names == list(fortunes.TOPICS)
