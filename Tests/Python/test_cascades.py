"""Cascades from Python: accumulation, noise, COLA's chain, slow rules, the host's own loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import relative_error

import lorasc

MODULE = "encoder.layer.1.attention.self.value"


def values(trainer: lorasc.Trainer) -> dict[str, np.ndarray]:
    """The trainable tensors and the merged view of one matrix."""
    found = {name: trainer.adapter[name] for name in trainer.adapter.tensors()}
    return found | {"merged": trainer.merged(f"{MODULE}.weight")}


def assert_same_bits(first: lorasc.Trainer, second: lorasc.Trainer) -> None:
    one, two = values(first), values(second)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_unequal_parts_equal_one_batch(trainer_of, rows: lorasc.Batch) -> None:
    weights = np.linspace(0.1, 3, len(rows)).astype(np.float32)
    batch = lorasc.Batch.packed(rows.tokens, rows.offsets, labels=rows.labels, row_weights=weights)
    whole, parts = (
        trainer_of(schedule="constant", class_weights=[1, 2, 3], target_modules="all-linear")
        for _ in range(2)
    )
    for _ in range(3):
        expected = whole.accumulate(batch)
        for start, stop in ((0, 1), (1, 9), (9, 24)):
            stats = parts.accumulate(batch[start:stop])
        assert stats.rows == expected.rows == 24
        assert stats.loss == pytest.approx(expected.loss, rel=1e-5)
        assert stats.loss_weight == pytest.approx(expected.loss_weight, rel=1e-9)
        for name in whole.adapter.tensors():
            gradient = whole.gradient(name)
            if np.linalg.norm(gradient) > 1e-7:
                assert relative_error(parts.gradient(name), gradient) < 1e-4, name
        assert whole.apply().gradient_norm == pytest.approx(parts.apply().gradient_norm, rel=1e-4)


def test_a_run_splits_batches_over_the_plan(trainer_of, rows: lorasc.Batch) -> None:
    whole = trainer_of(method="lora", epochs=2, batch_size=12, shuffle=False)
    parts = trainer_of(
        method="lora", epochs=2, batch_size=4, shuffle=False, gradient_accumulation_steps=3
    )
    small = trainer_of(method="lora", epochs=2, batch_size=12, shuffle=False, max_batch_tokens=48)
    for trainer in (whole, parts, small):
        trainer.run(rows)
    np.testing.assert_allclose(parts.history.loss, whole.history.loss, rtol=1e-4)
    np.testing.assert_allclose(small.history.loss, whole.history.loss, rtol=1e-4)
    with pytest.raises(lorasc.DataError) as caught:
        small.accumulate(rows)
    assert caught.value.status is lorasc.Status.LIMIT


def test_run_equals_the_hosts_own_loop(trainer_of, rows: lorasc.Batch) -> None:
    run = trainer_of(method="lorasc", epochs=3, batch_size=8, shuffle=False, schedule="constant")
    run.run(rows)
    own = trainer_of(method="lorasc", cascade_unit="none", schedule="constant", rewarmup_steps=1)
    losses = []
    for epoch in range(3):
        for start in range(0, 24, 8):
            own.accumulate(rows[start : start + 8])
            losses.append(own.apply().loss)
        if epoch < 2:
            stats = own.cascade()
            assert stats.cascade == epoch + 2
    np.testing.assert_array_equal(losses, run.history.loss)
    assert_same_bits(run, own)


def test_noise_regenerates(trainer_of, rows: lorasc.Batch) -> None:
    options = {"method": "lorasc", "epochs": 2, "noise": 0.5, "batch_size": 8}
    first, again, other = (trainer_of(**options, seed=seed) for seed in (3, 3, 4))
    for trainer in (first, again, other):
        trainer.run(rows)
    assert_same_bits(first, again)
    assert not np.array_equal(values(first)["merged"], values(other)["merged"])


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_bits(trainer_of, rows: lorasc.Batch, threads: int) -> None:
    options = {"epochs": 2, "hidden_dropout": 0.1, "attention_dropout": 0.1, "batch_size": 8}
    one, more = trainer_of(**options, threads=1), trainer_of(**options, threads=threads)
    one.run(rows)
    more.run(rows)
    assert_same_bits(one, more)


def test_special_cases(trainer_of, rows: lorasc.Batch) -> None:
    """μ = 1 and λ = 0 is COLA; one cascade of that is LoRA; the same bits."""
    common = {"batch_size": 8, "epochs": 3}
    cola = trainer_of(method="cola", **common)
    by_hand = trainer_of(method="lorasc", slow_rate=1, noise=0, **common)
    lora = trainer_of(method="lora", **common)
    one = trainer_of(method="lorasc", slow_rate=1, noise=0, cascade_unit="none", **common)
    for trainer in (cola, by_hand, lora, one):
        trainer.run(rows)
    assert_same_bits(cola, by_hand)
    assert_same_bits(lora, one)


@pytest.mark.parametrize("rule", ["interpolate", "ema"])
def test_weights_of_each_expert(trainer_of, rows: lorasc.Batch, rule: str) -> None:
    """W_T - W_0 is the sum of the experts by algorithm.md's closed-form weights."""
    mu, cascades = 0.3, 4
    trainer = trainer_of(
        method="lorasc",
        slow_rule=rule,
        slow_rate=mu,
        noise=0,
        cascade_unit="none",
        schedule="constant",
        lora_alpha=8,
        r=4,
    )
    start = trainer.model.tensor(f"{MODULE}.weight")
    experts = []
    for cascade in range(cascades):
        for _ in range(3):
            trainer.accumulate(rows)
            trainer.apply()
        a = trainer.adapter[f"{MODULE}.lora_A.weight"]
        b = trainer.adapter[f"{MODULE}.lora_B.weight"]
        experts.append(8 / 4 * b.astype(np.float64) @ a)
        if cascade < cascades - 1:
            trainer.cascade()
            assert not trainer.adapter[f"{MODULE}.lora_B.weight"].any()
            assert trainer.adapter[f"{MODULE}.lora_A.weight"].any()
    weight = {
        "interpolate": lambda k: mu,
        "ema": lambda k: 1 - (1 - mu) ** (cascades - k + 1),
    }[rule]
    expected = sum(weight(k) * expert for k, expert in enumerate(experts, 1))
    change = trainer.merged(f"{MODULE}.weight").astype(np.float64) - start
    assert relative_error(change, expected) < 1e-4


def test_same_a_returns(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(method="lorasc", reinit="same_a", cascade_unit="none", schedule="constant")
    name = f"{MODULE}.lora_A.weight"
    first = trainer.adapter[name]
    trainer.accumulate(rows)
    trainer.apply()
    trainer.accumulate(rows)
    trainer.apply()
    assert not np.array_equal(trainer.adapter[name], first)
    trainer.cascade()
    np.testing.assert_array_equal(trainer.adapter[name], first)


def test_cola_is_its_independent_chain(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    """Train LoRA, save the merged model, open it anew, train again from the next A.

    By an optimizer without state, since the head's goes on in COLA and cannot in the chain.
    """
    common = {
        "schedule": "constant",
        "head": "classifier",
        "optimizer": "sgd",
        "momentum": 0,
        "learning_rate": 0.1,
    }
    cola = trainer_of(method="cola", cascade_unit="none", rewarmup_ratio=0, **common)
    link = trainer_of(method="lora", **common)
    cascades = 3
    for cascade in range(1, cascades + 1):
        for _ in range(4):
            cola.accumulate(rows)
            link.accumulate(rows)
            assert cola.apply().loss == link.apply().loss
        assert_same_bits(cola, link)
        if cascade == cascades:
            break
        link.adapter.merge(tmp_path / f"link{cascade}")
        cola.cascade()
        link = trainer_of(lorasc.Model(tmp_path / f"link{cascade}"), method="lora", **common)
        for name in cola.adapter.tensors():
            link.adapter[name] = cola.adapter[name]
