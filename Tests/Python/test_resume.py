"""Saving and resuming a run: the same bits, at any step, or a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cascades import assert_same_bits

import lorasc

OPTIONS = {
    "method": "lorasc",
    "epochs": 3,
    "batch_size": 5,
    "cascade_unit": "step",
    "cascade_length": 4,
    "slow_rule": "ema",
    "hidden_dropout": 0.1,
    "classifier_dropout": 0.2,
    "seed": 9,
}
"""15 steps; boundaries after 4, 8 and 12, inside of epochs."""


def stop_at(trainer: lorasc.Trainer, rows: lorasc.Batch, step: int) -> None:
    """Runs until this step is done."""

    def stop(progress: lorasc.Progress) -> None:
        if progress.event is lorasc.Event.STEP and progress.step == step:
            trainer.interrupt()

    with pytest.raises(lorasc.Interrupted):
        trainer.run(rows, progress=stop)
    assert trainer.info.step == step


@pytest.mark.parametrize("step", range(1, 15))
def test_resumed_run_has_the_same_bits(
    trainer_of, rows: lorasc.Batch, tmp_path: Path, step: int
) -> None:
    whole = trainer_of(**OPTIONS)
    whole.run(rows)
    first = trainer_of(**OPTIONS)
    stop_at(first, rows, step)
    first.save(tmp_path / "state")
    second = trainer_of(**OPTIONS)
    second.resume(tmp_path / "state")
    assert second.info == first.info
    second.run(rows)
    assert second.info.step == 15
    assert_same_bits(whole, second)
    joined = first.history.loss.tolist() + second.history.loss.tolist()
    assert joined == whole.history.loss.tolist()


def test_saving_inside_a_callback(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    whole = trainer_of(**OPTIONS)
    whole.run(rows)
    saver = trainer_of(**OPTIONS)

    def save(progress: lorasc.Progress) -> None:
        if progress.event is lorasc.Event.STEP and progress.step in (6, 8):
            saver.save(tmp_path / f"state{progress.step}")

    saver.run(rows, progress=save)
    assert_same_bits(whole, saver)
    for step in (6, 8):
        again = trainer_of(**OPTIONS)
        again.resume(tmp_path / f"state{step}")
        again.run(rows)
        assert_same_bits(whole, again)


def test_the_hosts_own_loop_resumes_in_a_cascade(
    trainer_of, rows: lorasc.Batch, tmp_path: Path
) -> None:
    options = {"method": "lorasc", "schedule": "cosine", "max_steps": 12, "cascade_unit": "none"}

    def loop(trainer: lorasc.Trainer, start: int, stop: int) -> None:
        for step in range(start, stop):
            trainer.accumulate(rows[(step % 4) * 6 : (step % 4) * 6 + 6])
            trainer.apply()
            if step in (3, 8):
                trainer.cascade()

    whole, first, second = (trainer_of(**options) for _ in range(3))
    loop(whole, 0, 12)
    loop(first, 0, 6)
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    loop(second, 6, 12)
    assert_same_bits(whole, second)


def test_in_another_process(trainer_of, tiny_path: Path, tmp_path: Path) -> None:
    code = """
import sys, lorasc
model = lorasc.Model(sys.argv[1])
rows = lorasc.Batch([[i + 1, 2 * i + 1] for i in range(20)], labels=[i % 3 for i in range(20)])
adapter = lorasc.Adapter(model, num_labels=3, r=4)
trainer = lorasc.Trainer(model, adapter, epochs=2, batch_size=4, seed=1)
if sys.argv[3] == "resume":
    trainer.resume(sys.argv[2])
def stop(progress):
    if progress.step == 3 and sys.argv[3] == "save":
        trainer.save(sys.argv[2])
        sys.exit(0)
trainer.run(rows, progress=stop)
print(repr(trainer.evaluate(rows).loss), adapter["classifier.weight"].tobytes().hex())
"""

    def run(mode: str) -> str:
        arguments = [sys.executable, "-c", code, tiny_path, tmp_path / "state", mode]
        return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout

    whole = run("whole")
    assert run("save") == ""
    assert run("resume") == whole


def test_with_accumulated_gradients_there_is_no_saving(
    trainer_of, rows: lorasc.Batch, tmp_path: Path
) -> None:
    trainer = trainer_of(schedule="constant")
    trainer.accumulate(rows)
    for call in (lambda: trainer.save(tmp_path / "state"), trainer.cascade):
        with pytest.raises(lorasc.StateError):
            call()
    assert not (tmp_path / "state").exists()
    trainer.discard_gradients()
    trainer.save(tmp_path / "state")


def test_another_trainers_state_is_refused(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    trainer_of(**OPTIONS).save(tmp_path / "state")
    for key, value in {
        "r": 2,
        "slow_rate": 0.7,
        "seed": 1,
        "learning_rate": 0.5,
        "epochs": 4,
    }.items():
        other = trainer_of(**OPTIONS | {key: value})
        before = {name: other.adapter[name] for name in other.adapter.tensors()}
        with pytest.raises(lorasc.FormatError) as caught:
            other.resume(tmp_path / "state")
        assert caught.value.status is lorasc.Status.MISMATCH, key
        assert key in caught.value.subject
        for name, value_before in before.items():
            np.testing.assert_array_equal(other.adapter[name], value_before)


def test_damaged_states_are_refused(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    trainer = trainer_of(**OPTIONS)
    stop_at(trainer, rows, 6)
    trainer.save(tmp_path / "state")
    good = (tmp_path / "state").read_bytes()
    random = np.random.default_rng(0)
    damaged = [good[:length] for length in (0, 1, 7, 8, 100, len(good) // 2, len(good) - 1)]
    damaged.append(good + b"\0")
    for position in random.integers(0, len(good), 60):
        flipped = bytearray(good)
        flipped[position] ^= 1 << random.integers(8)
        damaged.append(bytes(flipped))
    other = trainer_of(**OPTIONS)
    before = other.info
    for data in damaged:
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(lorasc.FormatError) as caught:
            other.resume(tmp_path / "bad")
        assert "bad" in str(caught.value) or caught.value.subject
        assert other.info == before
    with pytest.raises(lorasc.NotFoundError):
        other.resume(tmp_path / "missing")
    with pytest.raises(lorasc.LorascError):
        other.resume(tmp_path)
    other.resume(tmp_path / "state")


def test_a_place_without_permission(trainer_of, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    trainer = trainer_of()
    user = os.geteuid()
    if user == 0:  # who may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            open(tmp_path / "probe", "w").close()
        with pytest.raises(lorasc.FileAccessError) as caught:
            trainer.save(tmp_path / "state")
    finally:
        os.seteuid(user)
    assert caught.value.errno == 13


def test_save_to_a_folder_that_is_missing(trainer_of, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="state") as caught:
        trainer_of().save(tmp_path / "missing" / "state")
    assert caught.value.status.name in ("IO", "NOT_FOUND")
    assert caught.value.system_error == 2
