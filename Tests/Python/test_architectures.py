"""Every architecture against transformers and PEFT: loss, gradients, ten steps, merged folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, Peer, auto_class, loss, outputs, random_batch, save
from tiny import relative_error

import lorasc

CASES = [(name, head) for name, form in ARCHITECTURES.items() for head in form.heads]
LABELS = 3
TOLERANCE = 1e-4


def adapt(
    name: str, head: str, folder: Path, **options: object
) -> tuple[lorasc.Model, lorasc.Adapter]:
    """The folder under the engine, with an adapter whose B is not zero."""
    model = lorasc.Model(folder)
    labels = {} if head == "lm" else {"num_labels": LABELS}
    adapter = lorasc.Adapter(
        model,
        method="lora",
        head=head,
        r=4,
        lora_alpha=12,
        target_modules=",".join(ARCHITECTURES[name].targets),
        **labels,
        **options,
    )
    random = np.random.default_rng(1)
    for tensor, info in adapter.tensors().items():
        if "lora_B" in tensor:
            adapter[tensor] = random.normal(0, 0.1, info.shape).astype(np.float32)
    return model, adapter


@pytest.mark.parametrize(("name", "head"), CASES)
def test_loss_gradients_and_ten_steps(name: str, head: str, tmp_path: Path) -> None:
    folder = save(name, "none" if head != "lm" else "lm", tmp_path)
    model, adapter = adapt(name, head, folder)
    peer = Peer(name, head, folder, LABELS, r=4, alpha=12)
    peer.load_from(adapter)
    trainer = lorasc.Trainer(
        model, adapter, learning_rate=1e-3, schedule="constant", max_grad_norm=0, noise=0
    )
    batch = random_batch(name, head, seed=1)
    expected = peer.loss(batch)
    expected.backward()
    assert trainer.accumulate(batch).loss == pytest.approx(expected.item(), rel=TOLERANCE)
    for tensor, parameter in peer.tensors().items():
        assert relative_error(trainer.gradient(tensor), parameter.grad) <= TOLERANCE, tensor
    trainer.discard_gradients()

    optimizer = torch.optim.AdamW(peer.tensors().values(), lr=1e-3, weight_decay=0)
    for step in range(10):
        batch = random_batch(name, head, seed=step)
        optimizer.zero_grad()
        expected = peer.loss(batch)
        expected.backward()
        optimizer.step()
        trainer.accumulate(batch)
        assert trainer.apply().loss == pytest.approx(expected.item(), rel=TOLERANCE), step


@pytest.mark.parametrize(("name", "head"), CASES)
def test_merged_folder_opens_in_transformers(name: str, head: str, tmp_path: Path) -> None:
    folder = save(name, "none" if head != "lm" else "lm", tmp_path / "base")
    _, adapter = adapt(name, head, folder)
    adapter.merge(tmp_path / "merged")
    peer = auto_class(name, head).from_pretrained(tmp_path / "merged", attn_implementation="eager")
    batch = random_batch(name, head, seed=3)
    ours = adapter.predict(batch, "token_logits" if head == "lm" else "logits")
    expected = outputs(peer.eval(), batch).detach().numpy()
    if head != "classifier":
        lengths = np.diff(batch.offsets)
        expected = np.concatenate(
            [row[:length] for row, length in zip(expected, lengths, strict=True)]
        )
        if head == "lm" and batch.token_labels is not None:
            expected = expected[batch.token_labels != lorasc.IGNORED]
    assert relative_error(ours, expected) <= TOLERANCE
    with lorasc.Model(tmp_path / "merged") as merged:
        assert name.startswith(merged.info.architecture)
        again = merged.predict(batch, "token_logits" if head == "lm" else "logits")
        assert relative_error(again, ours) <= 1e-6


@pytest.mark.parametrize(("name", "head"), [case for case in CASES if case[1] == "lm"])
def test_language_loss_is_that_of_the_folder(name: str, head: str, tmp_path: Path) -> None:
    folder = save(name, head, tmp_path)
    model, adapter = adapt(name, head, folder)
    for tensor, info in adapter.tensors().items():
        if "lora_B" in tensor:
            adapter[tensor] = np.zeros(info.shape, np.float32)
    peer = auto_class(name, head).from_pretrained(folder, attn_implementation="eager").eval()
    batch = random_batch(name, head, seed=4)
    trainer = lorasc.Trainer(model, adapter)
    found = trainer.evaluate(batch)
    expected = loss(peer, head, batch).item()
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert found.perplexity == pytest.approx(np.exp(expected), rel=1e-4)
    following = model.predict(batch)
    lengths = np.diff(batch.offsets)
    last = outputs(peer, batch).detach().numpy()[np.arange(len(lengths)), lengths - 1]
    assert relative_error(following, last) <= 1e-5
