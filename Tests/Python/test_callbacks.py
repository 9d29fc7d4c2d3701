"""Progress, exceptions through the library, Ctrl-C, interrupts."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lorasc


def test_events_of_a_run(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(method="lorasc", epochs=3, batch_size=8)
    seen: list[lorasc.Progress] = []
    history = trainer.run(rows, rows[0:8], progress=seen.append)
    assert history is trainer.history

    steps = [p for p in seen if p.event is lorasc.Event.STEP]
    assert [p.step for p in steps] == list(range(1, 10))
    assert {p.total_steps for p in seen} == {9}
    assert [p.epoch for p in steps] == [1] * 3 + [2] * 3 + [3] * 3
    assert [p.cascade for p in steps] == [1] * 3 + [2] * 3 + [3] * 3
    assert {p.total_cascades for p in seen} == {3}
    assert steps[-1].tokens == 3 * len(rows.tokens)
    assert all(np.isfinite([p.loss, p.gradient_norm, p.learning_rate]).all() for p in steps)
    assert all(p.eval_loss is None and p.fast_loss is None for p in steps)
    assert all(p.seconds >= p.train_seconds >= 0 and p.seconds_left >= 0 for p in steps)

    evaluations = [p for p in seen if p.event is lorasc.Event.EVALUATION]
    boundaries = [p for p in seen if p.event is lorasc.Event.CASCADE]
    assert {p.step for p in evaluations} | {p.step for p in boundaries} == {3, 6, 9}
    for p in boundaries:
        assert 0 <= p.eval_accuracy <= 1
        assert 0 <= p.fast_accuracy <= 1
        assert p.eval_loss > 0
        assert p.fast_loss > 0
    assert any(p.event is lorasc.Event.EVALUATING for p in seen)
    assert seen[-1].event is lorasc.Event.END

    assert history.step.tolist() == list(range(1, 10))
    assert history.cascade.tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert history.loss.tolist() == [p.loss for p in steps]
    assert history.cascades == boundaries
    assert [p.step for p in history.evaluations] == [3, 6, 9]
    assert len(history) == 9


def test_the_callbacks_answer_is_ignored(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=1)
    trainer.run(rows, progress=lambda progress: True)
    assert trainer.history.last.event is lorasc.Event.END


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_comes_out_unchanged(trainer_of, rows: lorasc.Batch, kind: type) -> None:
    trainer = trainer_of(epochs=4)
    mine = kind("mine")

    def fail(progress: lorasc.Progress) -> None:
        if progress.step == 3:
            raise mine

    with pytest.raises(kind) as caught:
        trainer.run(rows, progress=fail)
    assert caught.value is mine
    assert trainer.info.step == 3
    trainer.run(rows)
    assert trainer.info.step == 24
    assert trainer.history.step.tolist() == list(range(1, 25))


def test_a_stopped_run_goes_on_with_the_same_bits(trainer_of, rows: lorasc.Batch) -> None:
    whole = trainer_of(epochs=3, seed=7)
    whole.run(rows)
    parts = trainer_of(epochs=3, seed=7)

    def stop(progress: lorasc.Progress) -> None:
        if progress.event is lorasc.Event.STEP:
            parts.interrupt()

    for step in range(1, 18):
        with pytest.raises(lorasc.Interrupted) as caught:
            parts.run(rows, progress=stop)
        assert caught.value.status is lorasc.Status.INTERRUPTED
        assert parts.info.step == step
    parts.run(rows)
    for name in whole.adapter.tensors():
        np.testing.assert_array_equal(whole.adapter[name], parts.adapter[name])
    assert whole.history.loss.tolist() == parts.history.loss.tolist()


@pytest.mark.parametrize("send", [signal.raise_signal, lambda s: os.kill(os.getpid(), s)])
def test_ctrl_c_from_a_callback(trainer_of, rows: lorasc.Batch, send) -> None:
    trainer = trainer_of(epochs=50)

    def press(progress: lorasc.Progress) -> None:
        if progress.step == 2:
            send(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.run(rows, progress=press)
    assert trainer.info.step <= 3


@pytest.mark.parametrize("progress", [None, lambda progress: None])
def test_ctrl_c_from_outside_stops_within_a_step(trainer_of, rows: lorasc.Batch, progress) -> None:
    """At many moments, since Python's signal handlers run at any instruction."""
    trainer = trainer_of(max_steps=10**7, cascade_unit="none", schedule="constant")
    delays: list[float] = []

    def run_with_ctrl_c_after(seconds: float) -> None:
        def press() -> None:
            delays.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Timer(seconds, press).start()
        trainer.run(rows, progress=progress)

    for attempt in range(100):
        with pytest.raises(KeyboardInterrupt):
            run_with_ctrl_c_after(0.002 + attempt * 0.0003)
        delays[-1] = time.monotonic() - delays[-1]
    assert np.median(delays) < 0.5
    assert 0 < trainer.info.step < 10**6


def test_another_signals_handler_may_raise(trainer_of, rows: lorasc.Batch) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    trainer = trainer_of(max_steps=10**7, cascade_unit="none")
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            trainer.run(rows)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_in_a_script(tiny_path: Path) -> None:
    """A whole process: SIGINT gives a traceback that ends in KeyboardInterrupt."""
    code = f"""
import lorasc
model = lorasc.Model({str(tiny_path)!r})
adapter = lorasc.Adapter(model, num_labels=2)
trainer = lorasc.Trainer(model, adapter, max_steps=10**7, cascade_unit="none")
print("ready", flush=True)
trainer.run(lorasc.Batch([[1, 2, 3]] * 8, labels=[0, 1] * 4), progress=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in errors


def test_interrupt_from_another_thread(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(max_steps=10**7, cascade_unit="none")
    timer = threading.Timer(0.1, trainer.interrupt)
    timer.start()
    with pytest.raises(lorasc.Interrupted):
        trainer.run(rows)
    timer.join()


def test_interrupt_before_a_run_stops_that_run(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=1)
    trainer.interrupt()
    with pytest.raises(lorasc.Interrupted):
        trainer.run(rows)
    trainer.run(rows)
    assert trainer.history.last.event is lorasc.Event.END


def test_what_a_callback_may_call(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    trainer = trainer_of(epochs=1, schedule="constant", cascade_unit="none")
    busy: list[str] = []

    def look(progress: lorasc.Progress) -> None:
        if progress.event is not lorasc.Event.STEP:
            return
        trainer.learning_rate = trainer.learning_rate / 2
        trainer.save(tmp_path / "state")
        assert trainer.merged("encoder.layer.0.attention.self.query.weight").shape == (32, 32)
        for call in (lambda: trainer.evaluate(rows), trainer.apply, lambda: trainer.run(rows)):
            with pytest.raises(lorasc.BusyError):
                call()
            busy.append("yes")

    trainer.run(rows, progress=look)
    assert len(busy) == 3 * 6
    rates = trainer.history.learning_rate
    np.testing.assert_allclose(rates[1:] / rates[:-1], 0.5)


def test_a_second_thread_meets_busy(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(max_steps=10**7, cascade_unit="none")
    statuses: list[object] = []

    def intrude() -> None:
        for call in (
            lambda: trainer.accumulate(rows),
            lambda: trainer.adapter.predict(rows),
            lambda: trainer.save("/nonexistent/state"),
        ):
            try:
                call()
                statuses.append("OK")
            except lorasc.LorascError as error:
                statuses.append(error.status.name)
        trainer.interrupt()

    thread = threading.Timer(0.1, intrude)
    thread.start()
    with pytest.raises(lorasc.Interrupted):
        trainer.run(rows)
    thread.join()
    assert statuses == ["BUSY"] * 3


def test_closing_inside_a_callback_is_survived(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=2)

    def close(progress: lorasc.Progress) -> None:
        if progress.step == 2:
            trainer.close()
            raise RuntimeError("closed it")

    with pytest.raises(RuntimeError, match="closed it"):
        trainer.run(rows, progress=close)
    assert trainer.closed


def test_bar_on_a_terminal_and_lines_elsewhere(trainer_of, rows: lorasc.Batch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for file in (Terminal(), io.StringIO()):
        trainer = trainer_of(method="lorasc", epochs=2)
        bar = lorasc.ProgressBar("mine", file, interval=0)
        trainer.run(rows, rows[0:8], bar)
        bar.close()
        text = file.getvalue()
        assert ("\r" in text) == file.isatty()
        for part in (
            r"mine",
            r"loss \d",
            r"tokens/s",
            r"cascade 2/2",
            r"accuracy 0",
            r"12/12",
            "left",
        ):
            assert re.search(part, text), (part, text)


def test_progress_true_shows_a_bar(trainer_of, rows: lorasc.Batch, capsys) -> None:
    trainer_of(epochs=1).run(rows, rows[0:8], progress=True)
    captured = capsys.readouterr()
    assert "loss" in captured.err
    assert captured.out == ""


def test_the_library_prints_nothing(trainer_of, rows: lorasc.Batch, capfd, tmp_path) -> None:
    trainer = trainer_of(epochs=1)
    trainer.run(rows)
    trainer.adapter.merge(tmp_path / "merged")
    with pytest.raises(lorasc.LorascError):
        trainer.resume(tmp_path / "missing")
    assert capfd.readouterr() == ("", "")


def test_messages_go_to_logging(trainer_of, caplog) -> None:
    lorasc.log_to(level=10)
    try:
        with caplog.at_level(10, "lorasc"):
            trainer_of(slow_rule="ema_factors")
        assert "ema_factors" in caplog.text
        caplog.clear()
        lorasc.log_off()
        trainer_of(slow_rule="ema_factors")
        assert caplog.text == ""
    finally:
        lorasc.log_off()
