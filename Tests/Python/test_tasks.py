"""Losses, batches and options of the tasks, against PyTorch's own arithmetic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import LONGEST, VOCABULARY, build, outputs, random_batch, save
from tiny import make_tiny, random_rows, relative_error
from torch.nn import functional
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM

import lorasc

from reference import pad

PLAIN: dict[str, Any] = {"schedule": "constant", "noise": 0, "max_grad_norm": 0}


def start(folder: Path, trainer: dict[str, Any] | None = None, **options: Any) -> lorasc.Trainer:
    """A trainer on the folder, B away from zero."""
    model = lorasc.Model(folder)
    adapter = lorasc.Adapter(model, method="lora", r=3, **options)
    random = np.random.default_rng(2)
    for name, info in adapter.tensors().items():
        if "lora_B" in name:
            adapter[name] = random.normal(0, 0.2, info.shape).astype(np.float32)
    return lorasc.Trainer(model, adapter, **(PLAIN | (trainer or {})))


def gradients(trainer: lorasc.Trainer, batch: lorasc.Batch) -> dict[str, np.ndarray]:
    """Gradients of one batch, which are dropped again."""
    trainer.accumulate(batch)
    found = {name: trainer.gradient(name) for name in trainer.adapter.tensors()}
    trainer.discard_gradients()
    return found


# ---- Losses -------------------------------------------------------------------------


def test_several_labels_at_once(tmp_path: Path) -> None:
    trainer = start(
        make_tiny(tmp_path),
        head="mean_linear",
        num_labels=4,
        problem_type="multi_label_classification",
    )
    random = np.random.default_rng(0)
    batch = random_rows(random, 6)
    batch.targets = random.integers(0, 2, (6, 4)).astype(np.float32)
    batch.row_weights = np.array([1, 0.5, 2, 0, 1, 1], np.float32)
    logits = torch.from_numpy(trainer.adapter.predict(batch)).requires_grad_()
    targets, weights = torch.from_numpy(batch.targets), torch.from_numpy(batch.row_weights)
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    expected = (each * weights).sum() / weights.sum()
    expected.backward()
    assert trainer.accumulate(batch).loss == pytest.approx(expected.item(), rel=1e-5)
    bias = trainer.gradient("classifier.bias")
    assert relative_error(bias, logits.grad.sum(0)) <= 1e-5
    trainer.discard_gradients()
    evaluation = trainer.evaluate(batch)
    right = ((logits > 0) == (targets > 0.5)).all(1)[weights > 0]
    assert evaluation.accuracy == pytest.approx(right.float().mean().item())


@pytest.mark.parametrize("rows_of_example", [2, 3])
def test_contrastive_loss_is_sentence_transformers(tmp_path: Path, rows_of_example: int) -> None:
    folder = make_tiny(tmp_path)
    trainer = start(
        folder,
        {"similarity_scale": 7, "batch_size": 4},
        head="embedding",
        contrastive_rows=rows_of_example,
        target_modules="all-linear",
    )
    batch = random_rows(np.random.default_rng(1), 4 * rows_of_example)
    embeddings = trainer.adapter.predict(batch, "embedding")
    unit = functional.normalize(torch.from_numpy(embeddings))
    examples = unit.reshape(4, rows_of_example, -1)
    # Positives first, then the negatives, as sentence-transformers lines them up
    others = torch.cat([examples[:, place] for place in range(1, rows_of_example)])
    scores = 7 * examples[:, 0] @ others.T
    expected = functional.cross_entropy(scores, torch.arange(4))
    assert trainer.accumulate(batch).loss == pytest.approx(expected.item(), rel=1e-5)
    trainer.discard_gradients()
    assert trainer.evaluate(batch).loss == pytest.approx(expected.item(), rel=1e-5)
    finite_difference(trainer, batch)


def finite_difference(trainer: lorasc.Trainer, batch: lorasc.Batch) -> None:
    """Each gradient against the loss's slope along it."""
    for name, gradient in gradients(trainer, batch).items():
        norm = float(np.linalg.norm(gradient))
        if norm < 1e-4:
            continue
        values = trainer.adapter[name]

        def loss(step: float, name: str = name, values: Any = values, g: Any = gradient) -> float:
            trainer.adapter[name] = values + step * g / np.linalg.norm(g)
            found = trainer.accumulate(batch).loss
            trainer.discard_gradients()
            return found

        near = (loss(0.01) - loss(-0.01)) / 0.02
        far = (loss(0.02) - loss(-0.02)) / 0.04
        trainer.adapter[name] = values
        assert (4 * near - far) / 3 == pytest.approx(norm, rel=5e-3, abs=1e-4), name


def test_contrastive_run_learns_and_its_folder_encodes(tmp_path: Path) -> None:
    trainer = start(
        make_tiny(tmp_path / "base"),
        {"batch_size": 4, "epochs": 6, "learning_rate": 1e-2},
        head="embedding",
    )
    batch = random_rows(np.random.default_rng(3), 32)
    before = trainer.evaluate(batch).loss
    trainer.run(batch)
    assert trainer.evaluate(batch).loss < 0.8 * before
    trainer.adapter.merge(tmp_path / "merged")
    peer = AutoModel.from_pretrained(tmp_path / "merged", add_pooling_layer=False).eval()
    inputs = pad(batch)
    hidden = peer(**inputs).last_hidden_state.detach()
    mask = inputs["attention_mask"][:, :, None]
    means = (hidden * mask).sum(1) / mask.sum(1)
    assert relative_error(trainer.adapter.predict(batch, "embedding"), means) <= 1e-4
    assert (tmp_path / "merged" / "modules.json").is_file()


@pytest.mark.parametrize("head", ["lm", "embedding"])
def test_an_adapter_without_labels_comes_back(head: str, tmp_path: Path) -> None:
    with lorasc.Model(save("gpt2", "lm", tmp_path / "base")) as model:
        adapter = lorasc.Adapter(model, head=head, target_modules="c_fc")
        adapter["h.1.mlp.c_fc.lora_B.weight"] = np.full((48, 8), 0.125, np.float32)
        adapter.save(tmp_path / "adapter")
        for options in ({}, {"head": head}):
            again = lorasc.Adapter.load(model, tmp_path / "adapter", **options)
            assert again.info == adapter.info
            batch = lorasc.Batch([[3, 4, 5]])
            np.testing.assert_array_equal(
                again.predict(batch, "embedding"), adapter.predict(batch, "embedding")
            )
        with pytest.raises(lorasc.OptionError):
            lorasc.Adapter.load(model, tmp_path / "adapter", head=head, num_labels=2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_language_loss_in_chunks(tmp_path: Path, smoothing: float) -> None:
    # More tokens than a chunk of the output layer holds
    model = lorasc.Model(save("gpt2", "lm", tmp_path))
    rows = [random_batch("gpt2", "lm", seed).row(0).tolist() for seed in range(60)]
    batch = lorasc.Batch(rows)
    assert len(batch.tokens) > 512
    peer = build("gpt2", "lm", 3)
    adapter = lorasc.Adapter(model, method="lora")
    trainer = lorasc.Trainer(model, adapter, label_smoothing=smoothing, **PLAIN)
    logits = outputs(peer, batch)
    lengths = np.diff(batch.offsets)
    predicted = torch.cat([row[: n - 1] for row, n in zip(logits, lengths, strict=True)])
    labels = torch.cat([torch.tensor(row[1:]) for row in rows])
    expected = functional.cross_entropy(predicted, labels, label_smoothing=smoothing).item()
    assert trainer.accumulate(batch).loss == pytest.approx(expected, rel=1e-5)
    plain = functional.cross_entropy(predicted, labels).item()
    trainer.discard_gradients()
    found = trainer.evaluate(batch)
    assert found.loss == pytest.approx(plain, rel=1e-5)
    assert found.rows == len(labels)
    right = (predicted.argmax(1) == labels).float().mean().item()
    assert found.accuracy == pytest.approx(right, abs=1e-9)


# ---- Rows together ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mistral", "gpt2", "roberta"])
def test_packed_rows_do_not_see_each_other(name: str, tmp_path: Path) -> None:
    head = "token" if name == "roberta" else "lm"
    model = lorasc.Model(save(name, head, tmp_path))
    batch = random_batch(name, head, seed=6)
    batch.token_labels = None
    together = model.predict(batch, "token_logits")
    alone = [model.predict(batch[i : i + 1], "token_logits") for i in range(len(batch))]
    assert relative_error(together, np.concatenate(alone)) <= 1e-6


@pytest.mark.parametrize("recompute", ["selective", "layer"])
@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "vit"])
def test_recomputation_gives_the_same_bits(name: str, recompute: str, tmp_path: Path) -> None:
    head = {"bert": "token", "vit": "classifier"}.get(name, "lm")
    folder = save(name, "none" if head != "lm" else "lm", tmp_path)
    labels = {} if head == "lm" else {"num_labels": 3}
    dropout = {"attention_dropout": 0.1, "hidden_dropout": 0.1}
    batch = random_batch(name, head, seed=1)
    options = {"head": head, "target_modules": "all-linear", "lora_dropout": 0.1, **labels}
    plain = start(folder, dropout, **options)
    remade = start(folder, dropout | {"recompute": recompute}, **options)
    assert remade.info.plan_bytes < plain.info.plan_bytes
    expected = gradients(plain, batch)
    for tensor, gradient in gradients(remade, batch).items():
        assert np.array_equal(gradient, expected[tensor]), tensor


@pytest.mark.parametrize("rate", [0, 0.5])
def test_gpt2_drops_embeddings_by_a_rate_of_their_own(rate: float, tmp_path: Path) -> None:
    folder = save("gpt2", "lm", tmp_path)
    path = folder / "config.json"
    rates = {"embd_pdrop": rate, "resid_pdrop": 0, "attn_pdrop": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | rates))
    trainer = start(folder, {"hidden_dropout": "from_config"}, head="lm")
    batch = random_batch("gpt2", "lm", seed=1)
    losses = set()
    for _ in range(3):
        losses.add(trainer.accumulate(batch).loss)
        trainer.discard_gradients()
    assert len(losses) == (3 if rate else 1)


@pytest.mark.parametrize("cut", ["right", "left"])
def test_long_rows_are_refused_or_cut(cut: str, tmp_path: Path) -> None:
    folder = save("gpt2", "lm", tmp_path)
    long = np.random.default_rng(0).integers(0, VOCABULARY, LONGEST + 7).tolist()
    batch = lorasc.Batch([long, long[:5]])
    with pytest.raises(lorasc.DataError, match=r"row 0 has 31 tokens.*24 positions"):
        lorasc.Model(folder).predict(batch)
    model = lorasc.Model(folder, truncation=cut)
    kept = long[:LONGEST] if cut == "right" else long[-LONGEST:]
    expected = model.predict(lorasc.Batch([kept, long[:5]]))
    assert np.array_equal(model.predict(batch), expected)
    adapter = lorasc.Adapter(model, method="lora")
    trainer = lorasc.Trainer(model, adapter, **PLAIN)
    loss = trainer.accumulate(batch).loss
    trainer.discard_gradients()
    assert trainer.accumulate(lorasc.Batch([kept, long[:5]])).loss == loss


# ---- Held in 16 bits ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "method"), [("llama", "lorasc"), ("gpt2", "dora")])
def test_a_16_bit_backbone_is_its_widened_self(
    name: str, method: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    build(name, "lm", 3).to(dtype).save_pretrained(tmp_path)
    batch = random_batch(name, "lm", seed=5)
    bits = []
    for held in ("auto", "float32"):
        # oneDNN would pack the widened matrices, and its packed products round differently.
        model = lorasc.Model(tmp_path, dtype=held, products="openblas")
        adapter = lorasc.Adapter(model, method=method, target_modules="all-linear", r=3)
        trainer = lorasc.Trainer(
            model, adapter, max_steps=6, cascade_unit="step", cascade_length=3, learning_rate=1e-2
        )
        trainer.run(batch)
        names = [name for name in adapter.tensors() if "lora" in name]
        merged = trainer.merged(names[0].split(".lora_")[0] + ".weight")
        bits.append([merged, *(adapter[name] for name in names)])
    for ours, widened in zip(*bits, strict=True):
        assert np.array_equal(ours, widened)


def test_a_backbone_is_converted_by_option(tmp_path: Path) -> None:
    folder = save("llama", "lm", tmp_path)
    batch = random_batch("llama", "lm", seed=5)
    rounded = build("llama", "lm", 3)
    for module in rounded.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            module.weight.data = module.weight.data.bfloat16().float()
    logits = outputs(rounded, batch).detach().numpy()
    lengths = np.diff(batch.offsets)
    expected = logits[np.arange(len(lengths)), lengths - 1]
    found = lorasc.Model(folder, dtype="bfloat16").predict(batch)
    assert relative_error(found, expected) <= 1e-5


# ---- Images -------------------------------------------------------------------------


def test_byte_pixels_are_normalised(tmp_path: Path) -> None:
    folder = save("vit", "classifier", tmp_path)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (4, 3, 12, 12), np.uint8)
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.25])
    model = lorasc.Model(folder)
    floats = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    expected = model.predict(lorasc.Batch.images(floats.astype(np.float32)))
    found = model.predict(lorasc.Batch.images(pixels, mean=mean, std=std))
    assert relative_error(found, expected) <= 1e-6
    pooled = lorasc.Adapter(model, head="mean_linear", num_labels=2)
    assert pooled.predict(lorasc.Batch.images(pixels, mean=mean, std=std)).shape == (4, 2)


# ---- Bad input ----------------------------------------------------------------------


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    model = lorasc.Model(save("vit", "classifier", tmp_path))
    wrong = lorasc.Batch.images(np.zeros((2, 3, 16, 16), np.float32))
    with pytest.raises(lorasc.DataError, match=r"3 x 16 x 16.*the model takes 3 x 12 x 12"):
        model.predict(wrong)
    with pytest.raises(lorasc.DataError, match="takes pixels, not tokens"):
        model.predict(lorasc.Batch([[1, 2]]))
    bad = np.zeros((2, 3, 12, 12), np.float32)
    bad[1, 2, 3, 4] = np.nan
    with pytest.raises(lorasc.NonFiniteError, match="row 1"):
        model.predict(lorasc.Batch.images(bad))
    bytes_ = np.zeros((2, 3, 12, 12), np.uint8)
    with pytest.raises(lorasc.LorascError, match="pixel_std"):
        model.predict(lorasc.Batch.images(bytes_, mean=[0, 0, 0], std=[1, 0, 1]))
    with pytest.raises(lorasc.DataError, match="mean and std"):
        lorasc.Batch.images(bytes_)


def test_pixels_for_a_text_model(tmp_path: Path) -> None:
    model = lorasc.Model(save("gpt2", "lm", tmp_path))
    with pytest.raises(lorasc.DataError, match="takes tokens, not pixels"):
        model.predict(lorasc.Batch.images(np.zeros((1, 3, 4, 4), np.float32)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token_labels": [[0, VOCABULARY, 1]]}, "label 61 in row 0"),
        ({"token_labels": [[0, -2, 1]]}, "label -2 in row 0"),
        ({"token_weights": [[1, np.nan, 1]]}, "weight in row 0"),
        ({"token_weights": [[1, -1, 1]]}, "weight in row 0"),
        ({"token_labels": [[-100, -100, -100]]}, "nothing in the batch"),
        ({"token_weights": [[1, 0, 0]]}, "nothing in the batch"),
    ],
)
def test_bad_token_labels(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    trainer = start(save("gpt2", "lm", tmp_path))
    with pytest.raises(lorasc.LorascError, match=message):
        trainer.accumulate(lorasc.Batch([[1, 2, 3]], **given))


def test_a_row_of_one_token_predicts_nothing(tmp_path: Path) -> None:
    trainer = start(save("gpt2", "lm", tmp_path))
    with pytest.raises(lorasc.LorascError, match="nothing in the batch"):
        trainer.accumulate(lorasc.Batch([[4], [5]]))


def test_rows_of_an_example_stay_together(tmp_path: Path) -> None:
    trainer = start(make_tiny(tmp_path), {"max_batch_tokens": 8}, head="embedding")
    with pytest.raises(lorasc.DataError, match="no multiple of 2"):
        trainer.accumulate(lorasc.Batch([[1], [2], [3]]))
    with pytest.raises(lorasc.DataError, match="max_batch_tokens 8"):
        trainer.run(lorasc.Batch([[1, 2, 3]] * 4))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target_modules": "embed_tokens"}, "output layer too"),
        ({"target_modules": "lm_head"}, "lm_head"),
        ({"head": "embedding", "num_labels": 3}, "num_labels"),
        ({"problem_type": "regression"}, "problem_type"),
        ({"modules_to_save": "embed_tokens"}, "embed_tokens"),
    ],
)
def test_options_that_do_not_go_with_a_tied_decoder(
    options: dict[str, Any], error: str, tmp_path: Path
) -> None:
    model = lorasc.Model(save("qwen2-yarn", "lm", tmp_path))
    with pytest.raises(lorasc.LorascError, match=error):
        lorasc.Adapter(model, **options)


def test_transposed_modules_are_not_trained_in_full(tmp_path: Path) -> None:
    model = lorasc.Model(save("gpt2", "lm", tmp_path))
    with pytest.raises(lorasc.FormatError, match="stored transposed"):
        lorasc.Adapter(model, modules_to_save="c_proj")


def test_heads_that_a_model_does_not_have(tmp_path: Path) -> None:
    encoder = lorasc.Model(make_tiny(tmp_path / "encoder"))
    with pytest.raises(lorasc.OptionError, match="needs an output layer"):
        lorasc.Adapter(encoder, head="lm")
    images = lorasc.Model(save("vit", "classifier", tmp_path / "vit"))
    with pytest.raises(lorasc.OptionError, match="not offered for vit"):
        lorasc.Adapter(images, head="token")


# ---- Estimates ----------------------------------------------------------------------

MEASURE = """
import sys, lorasc
def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
folder, options = sys.argv[1], eval(sys.argv[2])
lorasc.build_info()
before = resident()
model = lorasc.Model(folder)
adapter_keys = ("r", "target_modules", "num_labels", "head", "method")
adapter = lorasc.Adapter(model, **{k: v for k, v in options.items() if k in adapter_keys})
rest = {k: v for k, v in options.items() if k not in adapter_keys}
trainer = lorasc.Trainer(model, adapter, max_steps=4, cascade_unit="step", cascade_length=2, **rest)
tokens = options["max_batch_tokens"]
row = model.info.maximum_positions
rows = [[5 + i % 7 for i in range(row)]] * (tokens // row)
labels = None if options["head"] == "lm" else [i % 2 for i in range(len(rows))]
batch = lorasc.Batch(rows, labels=labels)
for _ in range(2):
    trainer.accumulate(batch)
    trainer.apply()
trainer.cascade()
trainer.accumulate(batch)
print(resident() - before, model.estimate(**options).total_bytes)
"""


@pytest.mark.parametrize("recompute", ["none", "layer"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_estimate_is_what_training_takes(name: str, recompute: str, tmp_path: Path) -> None:
    wide = {"hidden_size": 512, "intermediate_size": 1024, "max_position_embeddings": 256}
    if name == "bert":
        folder = make_tiny(tmp_path, **wide, num_hidden_layers=4, vocab_size=5000)
    else:
        sizes = {"num_hidden_layers": 4, "vocab_size": 5000, "num_key_value_heads": 4}
        config = LlamaConfig(**wide, **sizes, num_attention_heads=8)
        LlamaForCausalLM(config).save_pretrained(tmp_path)
        folder = tmp_path
    options = {
        "head": "lm" if name == "llama" else "mean_linear",
        "method": "lorasc",
        "target_modules": "all-linear",
        "r": 16,
        "max_batch_tokens": 4096,
        "recompute": recompute,
    }
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), repr(options)],
        check=True,
        capture_output=True,
        text=True,
    )
    used, estimated = map(int, run.stdout.split())
    # The head has room for rows of one token each, whose pages these long rows never touch.
    assert 0.85 * estimated <= used <= 1.05 * estimated


def test_a_memory_limit_refuses_an_overrun(tmp_path: Path) -> None:
    model = lorasc.Model(save("llama", "lm", tmp_path))
    options = {"max_batch_tokens": 1 << 20}
    needed = model.estimate(**options).total_bytes >> 20
    adapter = lorasc.Adapter(model)
    with pytest.raises(lorasc.DataError, match=f"would take {needed} MiB"):
        lorasc.Trainer(model, adapter, memory_limit=needed, **options)
    lorasc.Trainer(model, adapter, memory_limit=200)
    one = model.estimate(max_batch_tokens=64)
    two = model.estimate(max_batch_tokens=128)
    assert two.step_flops > 1.9 * one.step_flops > 1.9 * one.forward_flops > 0
    parts = [getattr(one, name) for name in vars(one) if name.endswith("_bytes")]
    assert sum(parts) == 2 * one.total_bytes
