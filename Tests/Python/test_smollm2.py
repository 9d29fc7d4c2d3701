"""SmolLM2-135M, real weights: against transformers and PEFT, and LoRASC on Debian's fortunes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import loss, outputs
from peft import LoraConfig, get_peft_model
from tiny import relative_error
from transformers import AutoModelForCausalLM

import lorasc

import fortunes

ADAPTER = {"method": "lora", "r": 8, "lora_alpha": 16, "adapter_seed": 3}
STEPS, ROWS, LENGTH = 8, 4, 64


def batches(model: lorasc.Model) -> tuple[list[lorasc.Batch], lorasc.Batch]:
    """Training batches of quotations, and held-out rows."""
    parts = fortunes.load()
    train = model.encode(parts["train"].texts[: STEPS * ROWS], LENGTH)
    return [train[i : i + ROWS] for i in range(0, len(train), ROWS)], model.encode(
        parts["test"].texts[:12], LENGTH
    )


def test_logits_are_those_of_transformers(smollm2: lorasc.Model) -> None:
    peer = AutoModelForCausalLM.from_pretrained(smollm2.path).eval()
    _, held_out = batches(smollm2)
    batch = held_out[:4]
    logits = outputs(peer, batch).detach().numpy()
    lengths = np.diff(batch.offsets)
    expected = np.concatenate([row[:n] for row, n in zip(logits, lengths, strict=True)])
    assert relative_error(smollm2.predict(batch, "token_logits"), expected) <= 1e-4


def test_lora_is_that_of_peft(smollm2: lorasc.Model) -> None:
    train, held_out = batches(smollm2)
    adapter = lorasc.Adapter(smollm2, **ADAPTER)
    trainer = lorasc.Trainer(
        smollm2, adapter, learning_rate=1e-3, schedule="constant", max_batch_tokens=ROWS * LENGTH
    )
    base = AutoModelForCausalLM.from_pretrained(smollm2.path)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
    peer = get_peft_model(base, config).eval()
    own = {
        name.removeprefix("base_model.model.model.").replace(".default", ""): parameter
        for name, parameter in peer.named_parameters()
        if parameter.requires_grad
    }
    assert own.keys() == adapter.tensors().keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(torch.from_numpy(adapter[name]))
    optimizer = torch.optim.AdamW(own.values(), lr=1e-3, weight_decay=0)
    before = trainer.evaluate(held_out).perplexity
    for step, batch in enumerate(train):
        optimizer.zero_grad()
        expected = loss(peer, "lm", batch)
        expected.backward()
        if step == 0:
            trainer.accumulate(batch)
            for name, parameter in own.items():
                if "lora_B" in name:
                    assert relative_error(trainer.gradient(name), parameter.grad) <= 1e-3, name
            trainer.discard_gradients()
        torch.nn.utils.clip_grad_norm_(list(own.values()), 1.0)
        optimizer.step()
        trainer.accumulate(batch)
        assert trainer.apply().loss == pytest.approx(expected.item(), rel=1e-3), step
    after = trainer.evaluate(held_out)
    with torch.no_grad():
        assert after.perplexity == pytest.approx(loss(peer, "lm", held_out).exp().item(), rel=0.01)
    assert after.perplexity < before


def test_lorasc_lowers_the_held_out_perplexity(smollm2: lorasc.Model) -> None:
    train, held_out = batches(smollm2)
    adapter = lorasc.Adapter(smollm2, **(ADAPTER | {"method": "lorasc"}))
    trainer = lorasc.Trainer(
        smollm2,
        adapter,
        learning_rate=2e-3,
        cascade_unit="step",
        cascade_length=STEPS // 2,
        max_steps=STEPS,
        batch_size=ROWS,
        max_batch_tokens=ROWS * LENGTH,
    )
    before = trainer.evaluate(held_out).perplexity
    rows = [row.tolist() for batch in train for row in (batch.row(i) for i in range(len(batch)))]
    trainer.run(lorasc.Batch(rows))
    assert trainer.info.cascade == 2
    assert trainer.evaluate(held_out).perplexity < 0.95 * before
