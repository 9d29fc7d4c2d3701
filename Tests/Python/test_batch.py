"""Batches: packing, zero copy, slices, and arrays that do not fit."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import lorasc


def test_rows_are_packed() -> None:
    batch = lorasc.Batch(
        [[1, 2], [3], [4, 5, 6]], labels=[0, 1, 2], token_types=[[0, 1], [0], [1, 1, 1]]
    )
    assert batch.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.offsets.tolist() == [0, 2, 3, 6]
    assert batch.token_types.tolist() == [0, 1, 0, 1, 1, 1]
    assert len(batch) == 3
    assert batch.row(2).tolist() == [4, 5, 6]
    assert batch.tokens.dtype == np.int32
    assert batch.offsets.dtype == np.int64


def test_right_arrays_are_not_copied() -> None:
    arrays = {
        "tokens": np.arange(6, dtype=np.int32),
        "offsets": np.array([0, 2, 6], np.int64),
        "token_types": np.zeros(6, np.int32),
        "labels": np.array([0, 1], np.int32),
        "targets": np.zeros((2, 3), np.float32),
        "row_weights": np.ones(2, np.float32),
    }
    batch = lorasc.Batch.packed(**arrays)
    struct = batch._struct()
    for name, array in arrays.items():
        assert getattr(batch, name) is array or getattr(batch, name).base is array
        assert getattr(struct, name) == array.ctypes.data


def test_other_arrays_are_converted() -> None:
    batch = lorasc.Batch.packed(np.arange(12)[::2], [0, 3, 6], labels=np.array([0, 1], np.uint8))
    assert batch.tokens.tolist() == [0, 2, 4, 6, 8, 10]
    assert batch.tokens.flags.c_contiguous
    assert batch.labels.dtype == np.int32


def test_slices_are_views_and_select_copies() -> None:
    batch = lorasc.Batch([[1, 2], [3], [4, 5, 6]], labels=[0, 1, 2], row_weights=[1, 2, 3])
    part = batch[1:3]
    assert part.tokens.tolist() == [3, 4, 5, 6]
    assert part.offsets.tolist() == [0, 1, 4]
    assert part.labels.tolist() == [1, 2]
    assert np.shares_memory(part.tokens, batch.tokens)
    chosen = batch.select([2, 0])
    assert chosen.tokens.tolist() == [4, 5, 6, 1, 2]
    assert chosen.row_weights.tolist() == [3, 1]
    assert len(batch[2:1]) == 0
    with pytest.raises(ValueError, match="step"):
        batch[::2]


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"tokens": [1, 2], "offsets": []}, "offsets"),
        ({"tokens": [1, 2], "offsets": [0, 1]}, "offsets"),
        ({"tokens": [1, 2], "offsets": [1, 2]}, "offsets"),
        ({"tokens": [1, 2], "offsets": [0, 3]}, "offsets"),
        ({"tokens": [[1, 2]], "offsets": [0, 2]}, "tokens"),
        ({"tokens": [1.5, 2], "offsets": [0, 2]}, "tokens"),
        ({"tokens": [1, 2**31], "offsets": [0, 2]}, "tokens"),
        ({"tokens": [1, 2], "offsets": [0, 2], "labels": [1, 2]}, "labels"),
        ({"tokens": [1, 2], "offsets": [0, 2], "token_types": [0]}, "token_types"),
        ({"tokens": [1, 2], "offsets": [0, 2], "row_weights": []}, "row_weights"),
        ({"tokens": [1, 2], "offsets": [0, 2], "targets": [[1.0], [2.0]]}, "targets"),
    ],
)
def test_arrays_that_do_not_fit(arguments: dict, subject: str) -> None:
    with pytest.raises(lorasc.DataError) as caught:
        lorasc.Batch.packed(**arguments)
    assert caught.value.subject == subject
    assert caught.value.status is lorasc.Status.SHAPE


def test_token_types_must_match_the_rows() -> None:
    with pytest.raises(lorasc.DataError):
        lorasc.Batch([[1, 2]], token_types=[[0]])


def test_targets_must_be_as_wide_as_the_head(trainer_of) -> None:
    trainer = trainer_of(problem_type="regression", num_labels=3)
    batch = lorasc.Batch([[1, 2]], targets=[[1.0, 2.0]])
    for call in (trainer.accumulate, trainer.run, trainer.evaluate):
        with pytest.raises(lorasc.DataError, match="2 columns for 3 labels"):
            call(batch)


def test_a_dataset_keeps_its_arrays_alive() -> None:
    tokens = np.arange(6, dtype=np.int32)
    batch = lorasc.Batch.packed(tokens, [0, 6])
    gone = weakref.ref(batch.tokens)
    del tokens
    dataset = lorasc.Dataset(batch)
    del batch
    gc.collect()
    assert gone() is not None
    assert len(dataset) == 1
    dataset.close()
    del dataset
    gc.collect()
    assert gone() is None


def test_a_temporary_dataset_lives_through_the_run(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(epochs=1, cascade_unit="none")

    def churn(_progress: lorasc.Progress) -> None:
        gc.collect()
        np.full(rows.tokens.shape, -1, np.int32)  # would reuse freed memory

    trainer.run(rows[0:24], rows[0:8].select(range(8)), progress=churn)


def test_encoding(minilm: lorasc.Model) -> None:
    batch = minilm.encode(["hello world", ("a question", "an answer")], labels=[1, 0])
    assert batch.row(0).tolist() == [101, 7592, 2088, 102]
    assert batch.token_types.tolist() == [0] * 4 + [0] * 4 + [1] * 3
    long = "word " * 600
    with pytest.raises(lorasc.DataError, match="text 1 has 602 tokens") as caught:
        minilm.encode(["short", long])
    assert caught.value.status is lorasc.Status.LIMIT
    assert len(minilm.encode([long], truncate=True).tokens) == 512
    cut = minilm.encode([long, "short"], max_length=16)
    assert len(cut.row(0)) == 16
    assert cut.row(0)[-1] == 102
    assert len(cut.row(1)) == 3
    for length in (0, 513):
        with pytest.raises(lorasc.DataError):
            minilm.encode(["a"], max_length=length)
    with pytest.raises(TypeError):
        minilm.encode("one text")


def test_encoding_without_a_tokenizer(tiny: lorasc.Model) -> None:
    with pytest.raises(lorasc.NotFoundError, match=r"tokenizer\.json"):
        tiny.encode(["text"])


def images(value: float, dtype: type) -> np.ndarray:
    return np.full((2, 3, 12, 12), value, dtype)


@pytest.mark.parametrize(
    ("pixels", "given", "message"),
    [
        (np.zeros((3, 12, 12), np.float32), {}, "rows, channels, height, width"),
        (np.zeros((2, 3, 12, 12, 1), np.float32), {}, "rows, channels, height, width"),
        (images(7, np.int64), {}, "uint8 or floats, not int64"),
        (images(1, np.bool_), {}, "uint8 or floats, not bool"),
        (images(1, np.complex64), {}, "uint8 or floats, not complex64"),
        (images(7, np.uint16), {"mean": [0] * 3, "std": [1] * 3}, "not uint16"),
        (images(1, np.float32), {"mean": [0] * 3, "std": [1] * 3}, "floats take none"),
        (images(1, np.float32), {"mean": [0] * 3}, "floats take none"),
        (images(1, np.float32), {"std": [1] * 3}, "floats take none"),
        (images(7, np.uint8), {}, "uint8 pixels need mean and std"),
        (images(7, np.uint8), {"mean": [0] * 3}, "uint8 pixels need mean and std"),
        (images(7, np.uint8), {"mean": [0] * 3, "std": [1]}, "std must have 3 elements"),
        (images(7, np.uint8), {"mean": [0] * 4, "std": [1] * 3}, "mean must have 3 elements"),
        (images(1, np.float32), {"labels": [0]}, "labels must have 2 elements"),
        (images(1, np.float32), {"targets": [[0.0]]}, "targets must be"),
    ],
)
def test_images_that_do_not_fit(pixels: np.ndarray, given: dict, message: str) -> None:
    with pytest.raises(lorasc.DataError, match=message) as caught:
        lorasc.Batch.images(pixels, **given)
    assert caught.value.status is lorasc.Status.SHAPE
