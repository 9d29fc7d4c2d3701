"""Rows and losses of the program's own: functions over numpy arrays."""

from __future__ import annotations

import gc
import re
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lorasc


class Reader:
    """Gives rows of a batch by their numbers; remembers what it was asked for."""

    def __init__(self, rows: lorasc.Batch) -> None:
        self.rows = rows
        self.asked: list[np.ndarray] = []

    def __call__(self, numbers: np.ndarray) -> lorasc.Batch:
        self.asked.append(numbers)
        return self.rows.select(numbers)


def cross_entropy(outputs: lorasc.LossOutputs) -> float:
    """The built-in loss, in the order of its sums."""
    logits = outputs.logits.astype(np.float64)
    items = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(logits).sum(axis=1))
    weights = np.where(outputs.labels >= 0, outputs.weights, 0)
    if outputs.gradient is not None:
        share = np.exp(logits - log_total[:, None])
        share[items, outputs.labels] -= 1
        outputs.gradient[:] = share * weights[:, None]
    return float(weights @ (log_total - logits[items, outputs.labels]))


def same(a: lorasc.Trainer, b: lorasc.Trainer) -> None:
    for name in a.adapter.tensors():
        np.testing.assert_array_equal(a.adapter[name], b.adapter[name])


# ---- Rows -------------------------------------------------------------------------


def test_rows_of_a_function_train_to_the_same_bits(trainer_of, rows: lorasc.Batch) -> None:
    options = {"method": "lorasc", "epochs": 3, "batch_size": 8, "max_batch_tokens": 40}
    memory, asked = trainer_of(**options), trainer_of(**options)
    reader = Reader(rows)
    data = lorasc.Dataset.from_function(len(rows), reader)
    assert len(data) == len(rows)
    assert data.batch is None
    memory.run(rows, rows)
    asked.run(data, data)
    same(memory, asked)
    assert [p.eval_loss for p in memory.history.evaluations] == [
        p.eval_loss for p in asked.history.evaluations
    ]
    assert memory.evaluate(rows).loss == asked.evaluate(data).loss
    assert all(len(numbers) <= 8 for numbers in reader.asked)
    first = np.concatenate(reader.asked)[: len(rows)]
    assert sorted(first) == list(range(len(rows)))
    assert first.tolist() != sorted(first)


def test_targets_and_arrays_without_copies(trainer_of, rows: lorasc.Batch) -> None:
    targets = np.random.default_rng(1).normal(size=(len(rows), 3)).astype(np.float32)
    options = {"problem_type": "regression", "epochs": 1, "shuffle": False, "batch_size": 24}
    memory, asked = trainer_of(**options), trainer_of(**options)
    whole = lorasc.Batch.packed(rows.tokens, rows.offsets, targets=targets)
    assert whole.tokens is rows.tokens
    memory.run(whole)
    asked.run(lorasc.Dataset.from_function(len(rows), lambda numbers: whole))
    same(memory, asked)
    narrow = lorasc.Batch.packed(rows.tokens, rows.offsets, targets=targets[:, :2])
    with pytest.raises(lorasc.DataError, match="2 columns for 3 labels"):
        asked.evaluate(lorasc.Dataset.from_function(len(rows), lambda numbers: narrow))


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_a_reader_raises_comes_out_unchanged(
    trainer_of, rows: lorasc.Batch, kind: type
) -> None:
    trainer, whole = trainer_of(epochs=2), trainer_of(epochs=2)
    mine = kind("mine")
    reader = Reader(rows)
    fails = True

    def read(numbers: np.ndarray) -> lorasc.Batch:
        if fails and len(reader.asked) == 3:
            raise mine
        return reader(numbers)

    data = lorasc.Dataset.from_function(len(rows), read)
    with pytest.raises(kind) as caught:
        trainer.run(data)
    assert caught.value is mine
    assert "in read" in "".join(traceback.format_tb(mine.__traceback__))
    assert trainer.info.step == 3
    fails = False
    trainer.run(data)
    whole.run(rows)
    same(whole, trainer)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda rows, numbers: None, TypeError, "must return a Batch, not NoneType"),
        (lambda rows, numbers: rows.select(numbers[1:]), lorasc.DataError, "3 rows where 4"),
        (lambda rows, numbers: rows, lorasc.DataError, "24 rows where 4"),
        (lambda rows, numbers: lorasc.Batch([[10**6]] * 4), lorasc.DataError, "vocabulary"),
        (lambda rows, numbers: lorasc.Batch([[1]] * 4), lorasc.DataError, "labels"),
        (lambda rows, numbers: lorasc.Batch([[1], []] * 2), lorasc.DataError, "row 1 is empty"),
    ],
)
def test_bad_answers(trainer_of, rows: lorasc.Batch, answer, error: type, message: str) -> None:
    trainer = trainer_of()
    data = lorasc.Dataset.from_function(len(rows), lambda numbers: answer(rows, numbers))
    for call in (trainer.run, trainer.evaluate):
        with pytest.raises(error, match=message):
            call(data)
    assert trainer.info.step == 0
    trainer.run(rows)


@pytest.mark.parametrize("count", [0, -1, 2**31, 2**64 + 1])
def test_bad_counts(count: int) -> None:
    with pytest.raises(lorasc.DataError, match="rows"):
        lorasc.Dataset.from_function(count, lambda numbers: lorasc.Batch([]))


def test_a_closed_dataset(trainer_of, rows: lorasc.Batch) -> None:
    data = lorasc.Dataset.from_function(len(rows), Reader(rows))
    data.close()
    with pytest.raises(lorasc.HandleError, match="this Dataset is closed"):
        trainer_of().run(data)


def test_one_dataset_in_two_threads_and_nested(trainer_of, rows: lorasc.Batch) -> None:
    """Each call raises its own errors."""
    trainers = [trainer_of(epochs=3) for _ in range(2)]
    whole, inner = trainer_of(epochs=3), trainer_of(epochs=1)
    nested: list[float] = []

    def read(numbers: np.ndarray) -> lorasc.Batch:
        if threading.current_thread() is threading.main_thread() and not nested:
            nested.append(0.0)
            nested[0] = inner.evaluate(data).loss
        return rows.select(numbers)

    data = lorasc.Dataset.from_function(len(rows), read)
    thread = threading.Thread(target=trainers[0].run, args=(data,))
    thread.start()
    trainers[1].run(data)
    thread.join()
    whole.run(rows)
    for trainer in trainers:
        same(whole, trainer)
    assert nested == [inner.evaluate(rows).loss]


def test_the_example_of_the_documentation(trainer_of, rows: lorasc.Batch, repository: Path) -> None:
    """Its loss is num_labels / 2 times the built-in one of regression."""
    text = (repository / "docs" / "callbacks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    targets = np.random.default_rng(2).normal(size=(len(rows), 3))
    weights = np.linspace(0.5, 2, len(rows))
    whole = lorasc.Batch.packed(rows.tokens, rows.offsets, targets=targets, row_weights=weights)

    class Store:
        def load(self, numbers: np.ndarray) -> lorasc.Batch:
            return whole.select(numbers)

        def __len__(self) -> int:
            return len(whole)

    options = {"problem_type": "regression", "optimizer": "sgd", "max_grad_norm": 0, "epochs": 2}
    plain = trainer_of(learning_rate=0.15, **options)
    own = trainer_of(learning_rate=0.1, **options)
    plain.run(whole)
    exec(code, {"lorasc": lorasc, "store": Store(), "trainer": own})
    np.testing.assert_allclose(own.history.loss, plain.history.loss * 1.5, rtol=1e-4)
    assert own.evaluate(whole).loss == pytest.approx(1.5 * plain.evaluate(whole).loss, rel=1e-4)


# ---- Losses -----------------------------------------------------------------------


def test_the_built_in_loss_as_a_function(trainer_of, rows: lorasc.Batch) -> None:
    """Its gradient differs by float64 rounding at most, before it is one of float32."""
    plain, own = trainer_of(schedule="constant"), trainer_of(schedule="constant")
    own.set_loss(cross_entropy)
    for _ in range(2):
        a, b = plain.accumulate(rows), own.accumulate(rows)
        assert b.loss == pytest.approx(a.loss, rel=1e-12)
        assert b.loss_weight == a.loss_weight
        for name in plain.adapter.tensors():
            wanted = plain.gradient(name)
            bound = 1e-6 * np.abs(wanted).max() + 1e-12
            np.testing.assert_allclose(own.gradient(name), wanted, rtol=0, atol=bound)
        plain.apply()
        own.apply()
    a, b = plain.evaluate(rows), own.evaluate(rows)
    assert b.loss == pytest.approx(a.loss, rel=1e-5)
    assert b.accuracy == a.accuracy
    own.set_loss(None)
    assert own.evaluate(rows).loss == pytest.approx(b.loss, rel=1e-12)


def test_what_a_loss_sees(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(schedule="constant")
    weights = np.linspace(0, 2, len(rows), dtype=np.float32)
    labels = rows.labels.copy()
    labels[3] = lorasc.IGNORED
    batch = lorasc.Batch.packed(rows.tokens, rows.offsets, labels=labels, row_weights=weights)
    seen: list[object] = []

    def look(outputs: lorasc.LossOutputs) -> tuple[float, float]:
        assert outputs.logits.shape == (len(rows), 3)
        assert outputs.targets is None
        assert outputs.places is None
        assert outputs.labels.tolist() == labels.tolist()
        assert outputs.weights.tolist() == weights.tolist()
        assert outputs.rows.tolist() == list(range(len(rows)))
        assert outputs.loss_weight == pytest.approx(weights.sum() - weights[3])
        for array in (outputs.logits, outputs.labels, outputs.weights, outputs.rows):
            assert not array.flags.writeable
            assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            outputs.logits[0, 0] = 1
        seen.append(outputs.gradient is not None)
        if outputs.gradient is not None:
            assert not outputs.gradient.any()
            outputs.gradient[:] = 1
        return 6.0, 3.0

    trainer.set_loss(look)
    stats = trainer.accumulate(batch)
    assert (stats.loss, stats.loss_weight) == (2.0, 3.0)
    np.testing.assert_allclose(trainer.gradient("classifier.bias"), len(rows) / 3, rtol=1e-6)
    trainer.discard_gradients()
    assert trainer.evaluate(batch).loss == 2.0
    assert seen == [True, False]


def test_tokens_of_a_language_model(tmp_path: Path, trainer_of) -> None:
    from chat_models import byte_tokenizer, make_chat_model

    with lorasc.Model(make_chat_model(tmp_path, byte_tokenizer())) as model:
        vocabulary = model.info.vocabulary_size
        random = np.random.default_rng(3)
        batch = lorasc.Batch([random.integers(0, vocabulary, n) for n in (5, 9, 2, 7)])
        options = {"model": model, "head": "lm", "num_labels": 0, "schedule": "constant"}
        plain, own = trainer_of(**options), trainer_of(**options)
        seen: list[tuple[int, int, int]] = []

        def loss(outputs: lorasc.LossOutputs) -> float:
            assert outputs.logits.shape[1] == vocabulary
            seen.extend(zip(outputs.rows, outputs.places, outputs.labels, strict=True))
            return cross_entropy(outputs)

        own.set_loss(loss)
        a, b = plain.accumulate(batch), own.accumulate(batch)
        assert b.loss == pytest.approx(a.loss, rel=1e-5)
        expected = [
            (row, place, batch.row(row)[place])
            for row in range(len(batch))
            for place in range(1, len(batch.row(row)))
        ]
        assert seen == expected
        for name in plain.adapter.tensors():
            wanted = plain.gradient(name)
            bound = 1e-4 * np.abs(wanted).max() + 1e-12
            np.testing.assert_allclose(own.gradient(name), wanted, rtol=0, atol=bound)
        own.discard_gradients()
        assert np.isnan(own.evaluate(batch).perplexity)


CALLS: list[Callable[[lorasc.Trainer, lorasc.Batch], object]] = [
    lambda trainer, rows: trainer.run(rows),
    lambda trainer, rows: trainer.accumulate(rows),
    lambda trainer, rows: trainer.evaluate(rows),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_what_a_loss_raises_comes_out_unchanged(
    trainer_of, rows: lorasc.Batch, kind: type, call
) -> None:
    trainer = trainer_of(epochs=1, schedule="constant")
    mine = kind("mine")

    def fail(outputs: lorasc.LossOutputs) -> float:
        raise mine

    trainer.set_loss(fail)
    for _ in range(2):
        with pytest.raises(kind) as caught:
            call(trainer, rows)
        assert caught.value is mine
    assert "in fail" in "".join(traceback.format_tb(mine.__traceback__))
    trainer.set_loss(None)
    trainer.run(rows)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda outputs: None, TypeError, "NoneType"),
        (lambda outputs: float("nan"), lorasc.NonFiniteError, "loss is nan"),
        (lambda outputs: (1.0, -1.0), lorasc.NonFiniteError, "weight"),
        (lambda outputs: outputs.gradient.fill(np.inf) or 1.0, lorasc.NonFiniteError, "gradient"),
    ],
)
def test_bad_losses_add_nothing(trainer_of, rows: lorasc.Batch, answer, error, message) -> None:
    trainer = trainer_of(schedule="constant")
    trainer.set_loss(answer)
    with pytest.raises(error, match=message):
        trainer.accumulate(rows)
    with pytest.raises(lorasc.StateError):
        trainer.apply()


def test_arrays_that_are_kept_are_an_error(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(schedule="constant")
    kept: list[object] = []

    def keep(outputs: lorasc.LossOutputs) -> float:
        kept.append(outputs.logits[1:].T)
        return 1.0

    trainer.set_loss(keep)
    with pytest.raises(lorasc.StateError, match="keep copies"):
        trainer.accumulate(rows)

    def keep_in_a_cycle(outputs: lorasc.LossOutputs) -> float:
        cycle: list[object] = [outputs.logits]
        cycle.append(cycle)
        return 1.0

    gc.disable()
    try:
        trainer.set_loss(keep_in_a_cycle)
        trainer.accumulate(rows)
    finally:
        gc.enable()


def test_ctrl_c_in_a_loss(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=50)

    def press(outputs: lorasc.LossOutputs) -> float:
        signal.raise_signal(signal.SIGINT)
        return 1.0

    trainer.set_loss(press)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(rows)


def test_the_trainer_is_busy_meanwhile(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=1)

    def intrude(*_: object) -> float:
        for call in (
            lambda: trainer.evaluate(rows),
            lambda: trainer.set_loss(None),
            lambda: trainer.adapter.predict(rows),
        ):
            with pytest.raises(lorasc.BusyError):
                call()
        return 1.0

    def read(numbers: np.ndarray) -> lorasc.Batch:
        intrude()
        return rows.select(numbers)

    trainer.set_loss(intrude)
    trainer.run(lorasc.Dataset.from_function(len(rows), read))


def test_a_second_thread_does_not_get_the_first_ones_error(trainer_of, rows) -> None:
    trainer = trainer_of(epochs=1)
    others: list[BaseException] = []

    def fail(outputs: lorasc.LossOutputs) -> float:
        def intrude() -> None:
            try:
                trainer.evaluate(rows)
            except Exception as error:
                others.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        raise ValueError("mine")

    trainer.set_loss(fail)
    with pytest.raises(ValueError, match="mine"):
        trainer.run(rows)
    assert [type(error) for error in others] == [lorasc.BusyError]


def test_states_say_that_there_was_a_loss(trainer_of, rows: lorasc.Batch, tmp_path: Path) -> None:
    whole, first, second = (trainer_of(epochs=2, method="lorasc") for _ in range(3))
    for trainer in (whole, first):
        trainer.set_loss(cross_entropy)
    whole.run(rows)

    class Stop(Exception):
        pass

    def stop(progress: lorasc.Progress) -> None:
        if progress.step == 4:
            raise Stop

    with pytest.raises(Stop):
        first.run(rows, progress=stop)
    first.save(tmp_path / "state")
    with pytest.raises(lorasc.FormatError, match="a loss of the host's") as caught:
        second.resume(tmp_path / "state")
    assert (caught.value.status, caught.value.subject) == (lorasc.Status.MISMATCH, "loss")
    second.set_loss(cross_entropy)
    second.resume(tmp_path / "state")
    second.run(rows)
    same(whole, second)


def test_options_of_the_built_in_loss_are_refused(trainer_of) -> None:
    for options in ({"label_smoothing": 0.1}, {"class_weights": "1,2,3"}):
        with pytest.raises(lorasc.OptionError, match=next(iter(options))):
            trainer_of(**options).set_loss(cross_entropy)
