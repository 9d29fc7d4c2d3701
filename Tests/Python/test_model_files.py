"""Folders that transformers writes, opened by the engine: names, types, shards, heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SIZES, make_tiny, random_rows, relative_error
from transformers import AutoModel, AutoModelForSequenceClassification

import lorasc

from reference import pad


def compare(path: Path, limit: float = 1e-4) -> None:
    """Token embeddings, their means and the head's logits against transformers."""
    batch = random_rows(
        np.random.default_rng(2), 7, longest=SIZES["max_position_embeddings"], token_types=True
    )
    inputs = pad(batch)
    mask = inputs["attention_mask"].bool()
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(path).float().eval()(**inputs).last_hidden_state
    with lorasc.Model(path) as model:
        tokens = model.predict(batch, "token_embedding")
        assert np.abs(tokens - hidden[mask].numpy()).max() < limit
        means = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        assert np.abs(model.predict(batch, "embedding") - means.numpy()).max() < limit
        if model.info.head == "none":
            with pytest.raises(lorasc.StateError):
                model.predict(batch)
            return
        whole = AutoModelForSequenceClassification.from_pretrained(path).float().eval()
        with torch.no_grad():
            logits = whole(**inputs).logits.numpy()
        assert model.info.num_labels == logits.shape[1]
        assert relative_error(model.predict(batch), logits) < limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_labels", [0, 5], ids=["plain", "prefixed"])
@pytest.mark.parametrize("shard_size", ["5GB", "20KB"], ids=["whole", "sharded"])
def test_types_names_and_shards(
    tmp_path: Path, dtype: torch.dtype, num_labels: int, shard_size: str
) -> None:
    make_tiny(tmp_path, num_labels=num_labels, dtype=dtype, shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size != "5GB")
    compare(tmp_path)


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_attention_heads": 1, "hidden_size": 7, "intermediate_size": 5},
        {"num_attention_heads": 3, "hidden_size": 33, "intermediate_size": 31},
        {"num_hidden_layers": 5, "layer_norm_eps": 1e-5},
        {"type_vocab_size": 2, "hidden_act": "relu"},
    ],
)
def test_odd_sizes(tmp_path: Path, sizes: dict) -> None:
    compare(make_tiny(tmp_path, num_labels=4, **sizes))


def test_tensors_are_those_of_the_file(tiny: lorasc.Model) -> None:
    theirs = AutoModel.from_pretrained(tiny.path).state_dict()
    ours = tiny.tensors()
    assert ours.keys() == {name for name in theirs if "position_ids" not in name}
    for name, info in ours.items():
        assert info.shape == tuple(theirs[name].shape)
        np.testing.assert_array_equal(tiny.tensor(name), theirs[name].numpy())


def test_minilm_info(minilm: lorasc.Model) -> None:
    info = minilm.info
    assert (info.architecture, info.layers, info.hidden_size, info.heads) == ("bert", 6, 384, 12)
    assert (info.intermediate_size, info.vocabulary_size) == (1536, 30522)
    assert (info.maximum_positions, info.head, info.num_labels) == (512, "none", 0)
    theirs = AutoModel.from_pretrained(minilm.path)
    assert info.parameters == sum(p.numel() for p in theirs.parameters())


def test_minilm_embeddings(minilm: lorasc.Model, quotations: dict[str, lorasc.Batch]) -> None:
    batch = quotations["dev"][0:24]
    inputs = pad(batch)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(minilm.path).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"].bool()
    ours = minilm.predict(batch, "token_embedding")
    assert np.abs(ours - hidden[mask].numpy()).max() < 1e-4


def test_threads_and_batching_do_not_change_bits(
    minilm_path: Path, quotations: dict[str, lorasc.Batch]
) -> None:
    batch = quotations["dev"][0:50]
    answers = []
    for threads in (1, 2, 4):
        with lorasc.Model(minilm_path, threads=threads) as model:
            answers.append(model.predict(batch, "embedding"))
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    with lorasc.Model(minilm_path) as model:
        alone = np.concatenate([model.predict(batch[i : i + 1], "embedding") for i in range(50)])
    assert relative_error(alone, answers[0]) < 1e-5


def test_many_threads_share_a_model(minilm: lorasc.Model, quotations) -> None:
    from concurrent.futures import ThreadPoolExecutor

    batch = quotations["dev"][0:16]
    expected = minilm.predict(batch, "embedding")
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: minilm.predict(batch, "embedding"), range(12)):
            np.testing.assert_array_equal(answer, expected)
