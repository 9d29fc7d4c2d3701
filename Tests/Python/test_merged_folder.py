"""Merged folders, opened by transformers, sentence-transformers and the engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_tiny, random_rows
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import lorasc

from reference import pad

NAMES = ["zero", "one", "two"]


def trained(
    model: lorasc.Model, rows: lorasc.Batch, **options: object
) -> tuple[lorasc.Adapter, np.ndarray]:
    """An adapter after a short run, and its logits on the rows."""
    adapter = lorasc.Adapter(
        model, num_labels=3, id2label=NAMES, target_modules="all-linear", **options
    )
    trainer = lorasc.Trainer(model, adapter, epochs=3, learning_rate=5e-3, batch_size=8)
    trainer.run(rows)
    trainer.close()
    return adapter, adapter.predict(rows)


def token_embeddings(path: Path, batch: lorasc.Batch) -> np.ndarray:
    inputs = pad(batch)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(path).float().eval()(**inputs).last_hidden_state
    return hidden[inputs["attention_mask"].bool()].numpy()


@pytest.mark.parametrize("method", ["lora", "lorasc"])
def test_classifier_opens_in_transformers(
    tiny: lorasc.Model, rows: lorasc.Batch, tmp_path: Path, method: str
) -> None:
    adapter, logits = trained(tiny, rows, method=method, head="classifier")
    folder = tmp_path / "merged"
    report = adapter.merge(folder)
    assert report.changed >= adapter.matched.matched
    assert report.max_change > 0
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(loading.values()), loading
    with torch.no_grad():
        theirs = model.eval()(**pad(rows)).logits.numpy()
    assert np.abs(theirs - logits).max() < 1e-4
    ours = adapter.predict(rows, "token_embedding")
    assert np.abs(token_embeddings(folder, rows) - ours).max() < 1e-4
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.id2label == dict(enumerate(NAMES))
    assert config.label2id == {name: i for i, name in enumerate(NAMES)}
    assert config.problem_type == "single_label_classification"


@pytest.mark.parametrize("head", ["mean_linear", "classifier"])
def test_the_engine_reopens_with_the_same_predictions(
    tiny: lorasc.Model, rows: lorasc.Batch, tmp_path: Path, head: str
) -> None:
    adapter, logits = trained(tiny, rows, head=head)
    adapter.merge(tmp_path / "merged")
    with lorasc.Model(tmp_path / "merged") as again:
        assert (again.info.head, again.info.num_labels) == (head, 3)
        assert again.label_names == NAMES
        np.testing.assert_allclose(again.predict(rows), logits, atol=1e-5)
        # and it can be fine-tuned on, starting from its own head
        more = lorasc.Adapter(again, method="lora")
        assert more.num_labels == 3
        np.testing.assert_allclose(more.predict(rows), logits, atol=1e-5)


@pytest.mark.parametrize("head", ["mean_linear", "classifier"])
def test_minilm_merged(
    minilm: lorasc.Model, quotations: dict[str, lorasc.Batch], tmp_path: Path, head: str
) -> None:
    """Real weights and tokenizer: both heads by the libraries that users have."""
    from sentence_transformers import SentenceTransformer

    batch = quotations["train"][0:64]
    texts = [f"a text with the number {i}" for i in range(12)] + ["Two words.", "x" * 400]
    adapter = lorasc.Adapter(
        minilm, num_labels=10, head=head, id2label=[f"t{i}" for i in range(10)]
    )
    trainer = lorasc.Trainer(minilm, adapter, epochs=2, learning_rate=2e-3, batch_size=16)
    trainer.run(batch)
    trainer.close()
    adapter.merge(tmp_path / "merged")
    ours = adapter.predict(minilm.encode(texts, max_length=128))
    assert (
        np.abs(
            token_embeddings(tmp_path / "merged", batch) - adapter.predict(batch, "token_embedding")
        ).max()
        < 1e-4
    )
    if head == "mean_linear":
        theirs = SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(texts)
    else:
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
        inputs = tokenizer(
            texts, padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        with torch.no_grad():
            theirs = model(**inputs).logits.numpy()
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() < 1e-4
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (minilm.path / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_labels", [0, 3], ids=["plain", "prefixed"])
@pytest.mark.parametrize("shard_size", ["5GB", "20KB"], ids=["whole", "sharded"])
def test_element_types_are_the_bases(
    tmp_path: Path, rows: lorasc.Batch, dtype: torch.dtype, num_labels: int, shard_size: str
) -> None:
    from safetensors.torch import load_file

    path = make_tiny(tmp_path / "base", num_labels=num_labels, dtype=dtype, shard_size=shard_size)
    with lorasc.Model(path) as model:
        adapter, logits = trained(model, rows, head="classifier")
        report = adapter.merge(tmp_path / "merged")
        assert 0 <= report.rounded_away < 1
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    encoder = [tensor for name, tensor in tensors.items() if "encoder" in name]
    assert encoder
    assert {tensor.dtype for tensor in encoder} == {dtype}
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "merged", dtype=torch.float32
    )
    with torch.no_grad():
        theirs = model.eval()(**pad(rows)).logits.numpy()
    rounding = 0.02 if dtype is torch.float16 else 0.2
    assert np.abs(theirs - logits).max() < rounding
    with lorasc.Model(tmp_path / "merged") as again:
        assert np.abs(again.predict(rows) - theirs).max() < 1e-4


def test_regression_head(tiny: lorasc.Model, tmp_path: Path) -> None:
    batch = random_rows(np.random.default_rng(3), 12, targets=1)
    adapter = lorasc.Adapter(tiny, num_labels=1, head="classifier")
    trainer = lorasc.Trainer(tiny, adapter, epochs=2, batch_size=4)
    trainer.run(batch)
    assert np.isnan(trainer.evaluate(batch).accuracy)
    adapter_logits = adapter.predict(batch)
    trainer.close()
    adapter.merge(tmp_path / "merged")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert model.config.problem_type == "regression"
    with torch.no_grad():
        theirs = model(**pad(batch)).logits.numpy()
    assert np.abs(theirs - adapter_logits).max() < 1e-4


def test_an_existing_folder_is_replaced_and_keeps_other_files(
    tiny: lorasc.Model, rows: lorasc.Batch, tmp_path: Path
) -> None:
    adapter, logits = trained(tiny, rows, head="classifier")
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "config.json").write_text("old")
    adapter.merge(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert json.loads((folder / "config.json").read_text())["id2label"]["1"] == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]
    adapter.merge(folder)
    with lorasc.Model(folder) as again:
        np.testing.assert_allclose(again.predict(rows), logits, atol=1e-5)


def test_the_models_own_folder_is_refused(tiny: lorasc.Model, rows: lorasc.Batch) -> None:
    before = {p.name: p.read_bytes() for p in tiny.path.iterdir()}
    adapter = lorasc.Adapter(tiny, num_labels=3)
    for path in (tiny.path, Path(f"{tiny.path}/"), tiny.path / ".." / tiny.path.name):
        with pytest.raises(lorasc.ArgumentError):
            adapter.merge(path)
    assert {p.name: p.read_bytes() for p in tiny.path.iterdir()} == before


def test_places_that_cannot_be_written(tiny: lorasc.Model, tmp_path: Path) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "file", tmp_path / "no" / "such" / "parent", Path("/proc/merged")):
        with pytest.raises(lorasc.LorascError) as caught:
            adapter.merge(path)
        assert caught.value.status in (
            lorasc.Status.IO,
            lorasc.Status.NOT_FOUND,
            lorasc.Status.ARGUMENT,
        )
        assert str(caught.value.subject or "?") in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
