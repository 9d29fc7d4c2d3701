"""Bad batches for each head: refused by every call, and nothing changes by them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import LONGEST, VOCABULARY, random_batch, save
from tiny import make_tiny, random_rows

import lorasc
from lorasc import _structs as structs
from lorasc._library import library

S = lorasc.Status
HEADS = {"lm": "gpt2", "token": "roberta", "classifier": "vit", "embedding": "bert"}
LABELS = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model for each head."""
    found = {}
    for head, name in HEADS.items():
        folder = tmp_path_factory.mktemp(head)
        found[head] = make_tiny(folder) if head == "embedding" else save(name, head, folder)
    return found


@pytest.fixture
def trainer_for(folders: dict[str, Path]) -> Iterator[Callable[[str], lorasc.Trainer]]:
    """Makes a trainer for a head."""
    made: list[lorasc.Trainer] = []

    def make(head: str) -> lorasc.Trainer:
        model = lorasc.Model(folders[head], threads=1)
        labels = {"num_labels": LABELS} if head in ("token", "classifier") else {}
        adapter = lorasc.Adapter(model, head=head, r=2, **labels)
        made.append(lorasc.Trainer(model, adapter, schedule="constant", max_batch_tokens=256))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()
        trainer.adapter.close()
        trainer.model.close()


def good(head: str) -> lorasc.Batch:
    if head == "embedding":
        return random_rows(np.random.default_rng(0), 4)
    return random_batch(HEADS[head], head, seed=1, rows=4)


def images(value: float = 0.5, dtype: Any = np.float32) -> np.ndarray:
    return np.full((2, 3, 12, 12), value, dtype)


def spoiled(place: tuple[int, ...], value: float) -> np.ndarray:
    pixels = images()
    pixels[place] = value
    return pixels


def bytes_with(mean: Any = (0, 0, 0), std: Any = (1, 1, 1)) -> lorasc.Batch:
    pixels = images(7, np.uint8)
    return lorasc.Batch.images(pixels, mean=mean, std=std, labels=[0, 1])


def tokens(head: str, rows: list[list[int]], **given: Any) -> lorasc.Batch:
    if head == "token":
        given.setdefault("token_labels", [[0] * len(row) for row in rows])
    return lorasc.Batch(rows, **given)


WRONG_SHAPES = [(2, 3, 12, 16), (2, 3, 13, 12), (2, 3, 24, 6), (2, 12, 12, 3), (2, 1, 12, 12)]
WRONG_SHAPES += [(2, 4, 12, 12), (2, 3, 0, 12), (2, 0, 12, 12)]
NAN, INF = float("nan"), float("inf")
ROW = [[1, 2, 3], [4, 5]]
FIRST, LAST = [-(2**31), -(2**31) + 1], [2**31 - 1]

BOTH = (
    [
        # Of heads "lm" and "token"
        ({"token_labels": [[0, top, 1], [1, 1]]}, S.LABEL, "row 0")
        for top in (-1, -2, -99, -101, VOCABULARY, *FIRST, *LAST)
    ]
    + [
        ({"token_weights": [[1, 1, 1], [1, weight]]}, S.NONFINITE, "row 1")
        for weight in (-1, -1e-30, NAN, INF, -INF)
    ]
    + [({"row_weights": [1, weight]}, S.NONFINITE, "row 1") for weight in (-1, NAN, INF)]
    + [
        ({"token_labels": [[-100] * 3, [-100] * 2]}, S.NO_LOSS, "nothing in"),
        ({"token_weights": [[0] * 3, [0] * 2]}, S.NO_LOSS, "nothing in"),
        ({"row_weights": [0, 0]}, S.NO_LOSS, "nothing in"),
        ({"token_types": [[0, 0, 1], [0, 0]]}, S.TOKEN, "row 0"),
        ({"token_types": [[0, 0, -1], [0, 0]]}, S.TOKEN, "row 0"),
    ]
)
CASES: list[tuple[str, Callable[[], lorasc.Batch], S, str]] = [
    (head, lambda head=head, given=given: tokens(head, ROW, **given), status, message)
    for head in ("lm", "token")
    for given, status, message in BOTH
]
CASES += [
    (head, lambda head=head, rows=rows: tokens(head, rows), status, message)
    for head in ("lm", "token")
    for rows, status, message in [
        ([[1, 2], [3, -1]], S.TOKEN, "row 1"),
        ([[1, VOCABULARY]], S.TOKEN, str(VOCABULARY)),
        ([[2**31 - 1, 1]], S.TOKEN, "row 0"),
        ([[1], [], [2]], S.SHAPE, "row 1 is empty"),
        ([], S.SHAPE, "0 rows"),
        ([[1, 2], [1] * (LONGEST + 40)], S.LIMIT, "row 1 has"),
    ]
]
CASES += [
    ("lm", lambda: lorasc.Batch([[4], [5]]), S.NO_LOSS, "nothing in"),
    ("lm", lambda: lorasc.Batch.images(images()), S.SHAPE, "tokens, not pixels"),
    ("token", lambda: lorasc.Batch(ROW), S.LABEL, "token_labels"),
    ("token", lambda: lorasc.Batch(ROW, labels=[0, 1]), S.LABEL, "token_labels"),
    ("token", lambda: lorasc.Batch.images(images()), S.SHAPE, "tokens, not pixels"),
    ("embedding", lambda: lorasc.Batch([[1], [2], [3]]), S.SHAPE, "no multiple of 2"),
    ("embedding", lambda: lorasc.Batch([[1]]), S.SHAPE, "no multiple of 2"),
    ("embedding", lambda: lorasc.Batch(ROW, row_weights=[0, 0]), S.NO_LOSS, "nothing in"),
    ("embedding", lambda: lorasc.Batch(ROW, row_weights=[1, NAN]), S.NONFINITE, "row 1"),
    ("embedding", lambda: lorasc.Batch.images(images()), S.SHAPE, "tokens, not pixels"),
    ("classifier", lambda: lorasc.Batch(ROW, labels=[0, 1]), S.SHAPE, "pixels, not tokens"),
    ("classifier", lambda: lorasc.Batch.images(images()), S.LABEL, "labels"),
    ("classifier", lambda: lorasc.Batch.images(images()[:0], labels=[]), S.SHAPE, "0 rows"),
]
CASES += [
    (
        "classifier",
        lambda labels=labels: lorasc.Batch.images(images(), labels=labels),
        S.LABEL,
        "row 1",
    )
    for labels in ([0, -1], [0, LABELS], [0, 2**31 - 1], [0, -99])
]
CASES += [
    ("classifier", lambda: lorasc.Batch.images(images(), labels=[-100] * 2), S.NO_LOSS, "nothing"),
    *(
        (
            "classifier",
            lambda value=value: lorasc.Batch.images(spoiled((1, 2, 3, 4), value), labels=[0, 1]),
            S.NONFINITE,
            "row 1",
        )
        for value in (NAN, INF, -INF)
    ),
    *(
        (
            "classifier",
            lambda shape=shape: lorasc.Batch.images(np.zeros(shape, np.float32), labels=[0, 1]),
            S.SHAPE,
            "the model takes 3 x 12 x 12",
        )
        for shape in WRONG_SHAPES
    ),
    *(
        ("classifier", lambda std=std: bytes_with(std=std), S.ARGUMENT, "pixel_std")
        for std in ((1, 0, 1), (1, 1, -1), (NAN, 1, 1), (1, INF, 1), (1, -0.0, 1))
    ),
    *(
        ("classifier", lambda mean=mean: bytes_with(mean=mean), S.ARGUMENT, "pixel_mean")
        for mean in ((0, NAN, 0), (-INF, 0, 0))
    ),
]


@pytest.mark.parametrize(
    ("head", "make", "status", "message"),
    CASES,
    ids=[f"{head}-{index}-{status.name}" for index, (head, _, status, _) in enumerate(CASES)],
)
def test_refused_by_every_call(
    head: str, make: Callable[[], lorasc.Batch], status: S, message: str, trainer_for: Any
) -> None:
    trainer = trainer_for(head)
    before = {name: trainer.adapter[name] for name in trainer.adapter.tensors()}
    batch = make()
    calls: list[Callable[[], Any]] = [
        lambda: trainer.accumulate(batch),
        lambda: trainer.evaluate(batch),
        lambda: trainer.run(batch),
        lambda: trainer.run(good(head), batch),
    ]
    # Labels and weights don't concern a prediction, nor does what makes an example
    concerns_loss = status in (S.LABEL, S.NO_LOSS) or "weight" in repr(batch)
    if not concerns_loss and "multiple" not in message:
        calls.append(lambda: trainer.adapter.predict(batch, "token_embedding"))
    for call in calls[:3] + calls[4:]:
        with pytest.raises(lorasc.LorascError, match=message) as caught:
            call()
        assert caught.value.status is status
        with pytest.raises(lorasc.StateError):
            trainer.apply()
    for name, values in before.items():
        np.testing.assert_array_equal(trainer.adapter[name], values)
    with pytest.raises(lorasc.LorascError) as caught:
        calls[3]()
    assert caught.value.status is status
    fresh = trainer_for(head)
    fresh.accumulate(good(head))
    fresh.apply()


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        ({"token_labels": [[1, 2, 3], [1]]}, "token_labels"),
        ({"token_labels": [[1, 2, 3]]}, "token_labels"),
        ({"token_labels": [[1.0, 2.0, 3.5], [1, 1]]}, "token_labels"),
        ({"token_labels": [[1, 2, 2**31], [1, 1]]}, "token_labels"),
        ({"token_weights": [[1.0, 1.0], [1.0, 1.0, 1.0]]}, "token_weights"),
        ({"token_weights": []}, "token_weights"),
        ({"row_weights": [1.0]}, "row_weights"),
        ({"labels": [1, 2, 3]}, "labels"),
        ({"token_types": [[0], [0]]}, "token_types"),
    ],
)
def test_lists_that_do_not_fit(given: dict[str, Any], subject: str) -> None:
    with pytest.raises(lorasc.DataError) as caught:
        lorasc.Batch(ROW, **given)
    assert (caught.value.status, caught.value.subject) == (S.SHAPE, subject)


# ---- Straight at the C boundary ---------------------------------------------------------


def change_struct(batch: lorasc.Batch, **members: Any) -> structs.Batch:
    struct = batch._struct()
    for name, value in members.items():
        setattr(struct, name, value)
    return struct


SOME = np.zeros(4096, np.float32)
ADDRESS = SOME.ctypes.data


@pytest.mark.parametrize(
    ("head", "members", "status", "message"),
    [
        ("classifier", {"tokens": ADDRESS}, S.ARGUMENT, "tokens and pixels"),
        ("classifier", {"offsets": ADDRESS}, S.ARGUMENT, "tokens and pixels"),
        ("lm", {"pixels": ADDRESS}, S.ARGUMENT, "tokens and pixels"),
        ("classifier", {"token_labels": ADDRESS}, S.ARGUMENT, "token_labels"),
        ("classifier", {"token_weights": ADDRESS}, S.ARGUMENT, "token_weights"),
        ("classifier", {"token_types": ADDRESS}, S.ARGUMENT, "token_types"),
        ("classifier", {"pixel_type": 2}, S.ARGUMENT, "pixel_type of the batch is 2"),
        ("classifier", {"pixel_type": 2**32 - 1}, S.ARGUMENT, "pixel_type"),
        ("classifier", {"pixel_type": 1}, S.ARGUMENT, "pixel_mean and pixel_std"),
        ("classifier", {"pixel_mean": ADDRESS}, S.ARGUMENT, "no pixel_mean"),
        ("classifier", {"pixel_std": ADDRESS}, S.ARGUMENT, "no pixel_std"),
        ("classifier", {"channels": 0}, S.SHAPE, "images of 0 x 12 x 12"),
        ("classifier", {"height": 2**32 - 1}, S.SHAPE, "4294967295"),
        ("classifier", {"width": 2**31}, S.SHAPE, "2147483648"),
        ("classifier", {"channels": 2**32 - 1}, S.SHAPE, "4294967295"),
        ("classifier", {"pixels": None}, S.ARGUMENT, "tokens of the batch is NULL"),
        ("classifier", {"rows": 1 << 40}, S.LIMIT, "max_batch_tokens"),
        ("classifier", {"rows": (1 << 40) + 1}, S.SHAPE, "rows"),
        ("lm", {"rows": 0}, S.SHAPE, "0 rows"),
        ("lm", {"rows": 2**64 - 1}, S.SHAPE, "rows"),
        ("lm", {"tokens": None}, S.ARGUMENT, "tokens of the batch is NULL"),
        ("lm", {"offsets": None}, S.ARGUMENT, "offsets of the batch is NULL"),
        ("lm", {"struct_size": 0}, S.ARGUMENT, "struct_size"),
        ("lm", {"struct_size": 24}, S.ARGUMENT, "struct_size"),
        ("lm", {"struct_size": 2**32 - 1}, S.ARGUMENT, "struct_size"),
    ],
)
def test_structs_that_contradict(
    head: str, members: dict[str, Any], status: S, message: str, trainer_for: Any
) -> None:
    trainer = trainer_for(head)
    batch = good(head)
    struct = change_struct(batch, **members)
    start = time.monotonic()
    with pytest.raises(lorasc.LorascError, match=message) as caught:
        lorasc.errors.check(
            library().lorasc_trainer_accumulate(trainer._handle, ctypes.byref(struct), None)
        )
    assert caught.value.status is status
    assert time.monotonic() - start < 10
    with pytest.raises(lorasc.StateError):
        trainer.apply()
    trainer.accumulate(batch)


def test_an_older_struct_has_no_labels_of_tokens(trainer_for: Any) -> None:
    """A program built before the members were there: the labels are the tokens."""
    trainer = trainer_for("lm")
    batch = lorasc.Batch([[1, 2, 3, 4]], token_labels=[[-100, -100, 7, 8]])
    stats = structs.sized(structs.Stats)
    struct = change_struct(batch, struct_size=structs.Batch.token_labels.offset)
    lorasc.errors.check(
        library().lorasc_trainer_accumulate(
            trainer._handle, ctypes.byref(struct), ctypes.byref(stats)
        )
    )
    assert stats.loss_weight == 3
    trainer.discard_gradients()
    assert trainer.accumulate(lorasc.Batch([[1, 2, 3, 4]])).loss == stats.loss
