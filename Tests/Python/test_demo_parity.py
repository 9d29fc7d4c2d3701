"""The demo's LoRA run against PEFT: same first factors, same order of rows, no dropout."""

from __future__ import annotations

import math

import demo
import numpy as np
import torch
from transformers import get_scheduler

import lorasc

import fortunes
from reference import Reference, classification_loss

EPOCHS = 2


def test_loss_curve_and_accuracy(minilm: lorasc.Model, quotations: dict[str, lorasc.Batch]) -> None:
    train, test = quotations["train"], quotations["test"]
    adapter = lorasc.Adapter(minilm, method="lora", num_labels=len(fortunes.TOPICS), **demo.ADAPTER)
    reference = Reference(
        minilm.path,
        len(fortunes.TOPICS),
        targets=demo.ADAPTER["target_modules"],
        r=demo.ADAPTER["r"],
        lora_alpha=demo.ADAPTER["lora_alpha"],
    )
    reference.load_from(adapter)
    settings = demo.TRAINER
    trainer = lorasc.Trainer(minilm, adapter, epochs=EPOCHS, shuffle=False, **settings)
    trainer.run(train)

    parameters = list(reference.tensors().values())
    optimizer = torch.optim.AdamW(parameters, lr=settings["learning_rate"], weight_decay=0.0)
    size = settings["batch_size"]
    steps = EPOCHS * -(-len(train) // size)
    scheduler = get_scheduler(
        settings["schedule"], optimizer, math.ceil(settings["warmup_ratio"] * steps), steps
    )
    losses = []
    for _ in range(EPOCHS):
        for start in range(0, len(train), size):
            batch = train[start : start + size]
            optimizer.zero_grad()
            loss = classification_loss(reference(batch), batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())

    ours = trainer.history.loss
    assert len(ours) == len(losses) == steps
    np.testing.assert_allclose(ours[:50], losses[:50], rtol=1e-3)
    # Late in the run single steps' losses are near 0 and rounding has grown: an epoch's mean
    # is the curve there.
    by_epoch = np.reshape(ours, (EPOCHS, -1)).mean(1)
    np.testing.assert_allclose(by_epoch, np.reshape(losses, (EPOCHS, -1)).mean(1), rtol=0.01)

    with torch.no_grad():
        logits = [reference(test[i : i + 64]) for i in range(0, len(test), 64)]
    theirs = float((torch.cat(logits).argmax(1).numpy() == test.labels).mean())
    assert abs(trainer.evaluate(test).accuracy - theirs) <= 0.01
