"""Bad input: each kind its status, and a message that names the offender."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import VOCABULARY, make_tiny

import lorasc

S = lorasc.Status


@pytest.fixture
def folder(tiny_path: Path, tmp_path: Path) -> Path:
    """A copy of the small model, to be damaged."""
    return Path(shutil.copytree(tiny_path, tmp_path / "model"))


def edit_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def edit_weights(folder: Path, change: Callable[[bytes], bytes]) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))


def replace_tensor(folder: Path, name: str, value: float) -> None:
    """Writes one number into a tensor."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[name].flat[5] = value
    save_file(tensors, folder / "model.safetensors")


def refuse(path: Path, *statuses: S) -> str:
    with pytest.raises(lorasc.LorascError) as caught:
        lorasc.Model(path)
    assert caught.value.status in statuses, (caught.value.status, str(caught.value))
    assert len(str(caught.value)) > 10
    return f"{caught.value} / {caught.value.subject}"


def test_missing_folder_and_files(folder: Path, tmp_path: Path) -> None:
    assert "nowhere" in refuse(tmp_path / "nowhere", S.NOT_FOUND)
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refuse(folder, S.NOT_FOUND)
    (folder / "config.json").unlink()
    assert "config.json" in refuse(folder, S.NOT_FOUND)
    (folder / "config.json").mkdir()
    assert "config.json" in refuse(folder, S.IO, S.FORMAT)
    file = tmp_path / "file"
    file.write_text("{}")
    assert "file" in refuse(file, S.IO, S.NOT_FOUND, S.FORMAT)


@pytest.mark.parametrize("share", [0, 1e-4, 1e-3, 0.1, 0.5, 0.999, 1 - 1e-5])
def test_truncated_weights(folder: Path, share: float) -> None:
    edit_weights(folder, lambda data: data[: int(len(data) * share)])
    assert "model.safetensors" in refuse(folder, S.FORMAT)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_header_lengths(folder: Path, length: int) -> None:
    edit_weights(folder, lambda data: struct.pack("<Q", length) + data[8:])
    assert "model.safetensors" in refuse(folder, S.FORMAT)


def test_flipped_header_bytes_never_crash(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0] + 8
    random = np.random.default_rng(0)
    opened = 0
    for position in random.integers(0, size, 300):
        flipped = bytearray(data)
        flipped[position] ^= 1 << random.integers(8)
        (folder / "model.safetensors").write_bytes(flipped)
        try:
            lorasc.Model(folder).close()
            opened += 1
        except lorasc.LorascError as error:
            assert error.status is not S.INTERNAL  # noqa: PT017
    assert opened < 100


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ({"model_type": "mamba"}, (S.ARCHITECTURE,)),
        ({"model_type": 7}, (S.ARCHITECTURE, S.FORMAT)),
        ({"model_type": None}, (S.ARCHITECTURE, S.FORMAT)),
        ({"hidden_size": 64}, (S.FORMAT,)),
        ({"hidden_size": 0}, (S.FORMAT,)),
        ({"hidden_size": -32}, (S.FORMAT,)),
        ({"hidden_size": 1e300}, (S.FORMAT,)),
        ({"hidden_size": "32"}, (S.FORMAT,)),
        ({"num_attention_heads": 5}, (S.FORMAT,)),
        ({"num_attention_heads": 0}, (S.FORMAT,)),
        ({"num_hidden_layers": 3}, (S.FORMAT, S.NOT_FOUND)),
        ({"num_hidden_layers": 2**40}, (S.FORMAT, S.NOT_FOUND)),
        ({"vocab_size": 98}, (S.FORMAT,)),
        ({"hidden_act": "no such function"}, (S.UNSUPPORTED,)),
        ({"position_embedding_type": "relative_key"}, (S.UNSUPPORTED,)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_configurations(folder: Path, values: dict, statuses: tuple[S, ...]) -> None:
    edit_config(folder, **values)
    key = next(iter(values))
    message = refuse(folder, *statuses)
    if S.NOT_FOUND not in statuses:
        assert key in message or str(values[key]) in message


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a":1,"a":2}', "[" * 100000, "\xff", '{"a":1e999}']
)
def test_configurations_that_are_no_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in refuse(folder, S.FORMAT, S.ARCHITECTURE, S.LIMIT)


def test_missing_tensor_and_pickles(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert "encoder.layer.1.output.dense.weight" in refuse(folder, S.FORMAT, S.NOT_FOUND)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refuse(folder, S.NOT_FOUND, S.UNSUPPORTED)


def test_shards_that_leave_their_folder(folder: Path) -> None:
    outside = folder.parent / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refuse(folder, S.FORMAT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(folder: Path, value: float) -> None:
    name = "encoder.layer.0.attention.self.query.weight"
    replace_tensor(folder, name, value)
    assert name in refuse(folder, S.NONFINITE)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**31 - 1, -(2**31)])
def test_token_ids_out_of_range(tiny: lorasc.Model, trainer_of, token: int) -> None:
    batch = lorasc.Batch([[1, 2], [3, token]], labels=[0, 1])
    trainer = trainer_of(schedule="constant")
    for call in (
        lambda: tiny.predict(batch, "embedding"),
        lambda: trainer.accumulate(batch),
        lambda: trainer.evaluate(batch),
        lambda: trainer_of().run(batch),
    ):
        with pytest.raises(lorasc.DataError) as caught:
            call()
        assert caught.value.status is S.TOKEN
        assert str(token) in str(caught.value)
    with pytest.raises(lorasc.StateError):
        trainer.apply()


def test_segment_ids_out_of_range(tiny: lorasc.Model) -> None:
    for segment in (-1, 2, 2**31 - 1):
        with pytest.raises(lorasc.DataError):
            tiny.predict(lorasc.Batch([[1, 2]], token_types=[[0, segment]]), "embedding")


def test_rows_of_no_or_too_many_tokens(tiny: lorasc.Model, trainer_of) -> None:
    trainer = trainer_of(schedule="constant")
    empty = lorasc.Batch([[1], [], [2]], labels=[0, 1, 2])
    for call in (
        lambda: tiny.predict(empty, "embedding"),
        lambda: trainer.accumulate(empty),
        lambda: lorasc.Dataset(empty),
    ):
        with pytest.raises(lorasc.DataError) as caught:
            call()
        assert caught.value.status is S.SHAPE
    long = lorasc.Batch([[1] * 41], labels=[0])
    for call in (lambda: tiny.predict(long, "embedding"), lambda: trainer.accumulate(long)):
        with pytest.raises(lorasc.DataError) as caught:
            call()
        assert caught.value.status is S.LIMIT
    exact = lorasc.Batch([[1] * 40], labels=[0])
    trainer.accumulate(exact)


def test_offsets_that_fall(tiny: lorasc.Model) -> None:
    batch = lorasc.Batch.packed(np.ones(6, np.int32), [0, 5, 2, 6])
    with pytest.raises(lorasc.DataError) as caught:
        tiny.predict(batch, "embedding")
    assert caught.value.status is S.SHAPE


@pytest.mark.parametrize("label", [-1, 3, -99, 2**31 - 1])
def test_labels_out_of_range(trainer_of, label: int) -> None:
    trainer = trainer_of(schedule="constant")
    batch = lorasc.Batch([[1, 2], [3]], labels=[0, label])
    for call in (trainer.accumulate, trainer.evaluate):
        with pytest.raises(lorasc.DataError) as caught:
            call(batch)
        assert caught.value.status is S.LABEL
        assert str(label) in str(caught.value)


def test_missing_labels_and_losses(trainer_of) -> None:
    trainer = trainer_of(schedule="constant")
    with pytest.raises(lorasc.DataError) as caught:
        trainer.accumulate(lorasc.Batch([[1, 2]]))
    assert caught.value.status is S.LABEL
    nothing = [
        lorasc.Batch([[1], [2]], labels=[lorasc.IGNORED] * 2),
        lorasc.Batch([[1], [2]], labels=[0, 1], row_weights=[0, 0]),
    ]
    for batch in nothing:
        with pytest.raises(lorasc.DataError) as caught:
            trainer.accumulate(batch)
        assert caught.value.status is S.NO_LOSS


def test_weights_and_targets_that_are_no_numbers(trainer_of) -> None:
    trainer = trainer_of(schedule="constant")
    for weight in (np.nan, np.inf, -1):
        with pytest.raises(lorasc.LorascError):
            trainer.accumulate(lorasc.Batch([[1], [2]], labels=[0, 1], row_weights=[1, weight]))
    regression = trainer_of(schedule="constant", problem_type="regression", num_labels=1)
    for target in (np.nan, np.inf):
        with pytest.raises(lorasc.LorascError):
            regression.accumulate(lorasc.Batch([[1], [2]], targets=[0, target]))
    with pytest.raises(lorasc.StateError):
        regression.apply()


def step(trainer: lorasc.Trainer, batch: lorasc.Batch) -> None:
    trainer.accumulate(batch)
    trainer.apply()


def test_a_gradient_that_overflows_leaves_the_weights(trainer_of, rows: lorasc.Batch) -> None:
    trainer = trainer_of(schedule="constant", problem_type="regression", num_labels=1)
    name = "classifier.weight"
    before = trainer.adapter[name]
    batch = lorasc.Batch([[1, 2]], targets=[3e38])
    with pytest.raises(lorasc.NonFiniteError):
        step(trainer, batch)
    np.testing.assert_array_equal(trainer.adapter[name], before)


def test_target_rules_without_a_match(tiny: lorasc.Model) -> None:
    lists = (["q", "uery"], ["classifier", "query"])
    for rule in ("no_such", *lists, r"encoder\.layer\.7.*", "classifier"):
        with pytest.raises(lorasc.DataError) as caught:
            lorasc.Adapter(tiny, target_modules=rule)
        assert caught.value.status is S.NO_MATCH
        text = rule if isinstance(rule, str) else rule[0]
        assert text in str(caught.value)
    adapter = lorasc.Adapter(tiny, target_modules="no_such", allow_no_match=True)
    assert adapter.matched.matched == 0
    assert {*adapter.tensors()} == {"classifier.weight", "classifier.bias"}
    with pytest.raises(lorasc.LorascError):
        lorasc.Adapter(tiny, target_modules="(")


@pytest.mark.parametrize(
    "options",
    [
        {"r": 0},
        {"r": 10**9},
        {"lora_alpha": 0},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"num_labels": -1},
        {"num_labels": 3, "id2label": ["a", "b"]},
        {"modules_to_save": ["no_such"]},
        {"problem_type": "ranking"},
    ],
    ids=str,
)
def test_adapter_options(tiny: lorasc.Model, options: dict) -> None:
    with pytest.raises(lorasc.LorascError) as caught:
        lorasc.Adapter(tiny, **options)
    assert caught.value.status in (S.OPTION, S.NO_MATCH)
    assert caught.value.subject in {*options, *options.get("modules_to_save", [])}


@pytest.mark.parametrize(
    "options",
    [
        {"slow_rate": 0},
        {"slow_rate": 1.5},
        {"learning_rate": -1},
        {"learning_rate": float("inf")},
        {"class_weights": [1, 2]},
        {"class_weights": [1, -2, 1]},
        {"class_weights": "a,b,c"},
        {"cascade_unit": "list"},
        {"cascade_unit": "list", "cascade_list": [3, 0]},
        {"slow_rates": [0.5, 2]},
        {"eps": 0},
        {"beta1": 1},
        {"max_batch_tokens": 0},
    ],
    ids=str,
)
def test_trainer_options(tiny: lorasc.Model, options: dict) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    with pytest.raises(lorasc.OptionError) as caught:
        lorasc.Trainer(tiny, adapter, **options)
    key = "cascade_list" if "cascade_unit" in options else next(iter(options))
    assert caught.value.subject == key


def test_tensors_in_and_out(tiny: lorasc.Model) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    name = "classifier.weight"
    before = adapter[name]
    for value in (np.nan, np.inf):
        bad = before.copy()
        bad[1, 2] = value
        with pytest.raises(lorasc.NonFiniteError) as caught:
            adapter[name] = bad
        assert caught.value.subject == name
    with pytest.raises(lorasc.DataError):
        adapter[name] = before.T
    np.testing.assert_array_equal(adapter[name], before)
    for call in (lambda: adapter["no_such"], lambda: adapter.__setitem__("no_such", 1)):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.value.subject == "no_such"
    with pytest.raises(lorasc.NotFoundError):
        tiny.tensor("no_such")


def test_learning_rates(trainer_of) -> None:
    trainer = trainer_of()
    trainer.learning_rate = 0
    for rate in (-1, float("nan"), float("inf")):
        with pytest.raises(lorasc.ArgumentError):
            trainer.learning_rate = rate
    assert trainer.learning_rate == 0


def test_another_models_adapter(tiny: lorasc.Model, tmp_path: Path) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    with lorasc.Model(make_tiny(tmp_path, hidden_size=16)) as other:
        with pytest.raises(lorasc.LorascError) as caught:
            lorasc.Trainer(other, adapter)
        assert caught.value.status in (S.MISMATCH, S.ARGUMENT)


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(lorasc.ArgumentError, match="NUL"):
        lorasc.Model("a\0b")
    refuse(Path("/" + "x" * 5000), S.IO, S.NOT_FOUND, S.ARGUMENT)
    refuse(Path(""), S.NOT_FOUND, S.IO, S.ARGUMENT)
    make_tiny(tmp_path / "Grüße 模型")
    lorasc.Model(tmp_path / "Grüße 模型").close()


def test_short_buffers_say_what_they_need(tiny: lorasc.Model) -> None:
    """Straight at the C boundary, which the classes always give enough room."""
    import ctypes

    from lorasc._library import library

    name = b"embeddings.LayerNorm.weight"
    need, buffer = ctypes.c_size_t(), np.full(32, -7, np.float32)
    call = library().lorasc_model_tensor
    address = buffer.ctypes.data
    assert call(tiny._handle, name, None, 0, ctypes.byref(need)) == S.OK
    assert need.value == 32
    assert call(tiny._handle, name, address, 31, ctypes.byref(need)) == S.BUFFER
    assert (need.value, set(buffer)) == (32, {-7.0})
    assert call(tiny._handle, None, address, 32, ctypes.byref(need)) == S.ARGUMENT
    assert call(tiny._handle, name, address, 2**64 - 1, ctypes.byref(need)) in (S.OK, S.ARGUMENT)
