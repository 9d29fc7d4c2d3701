"""Life of the objects: closing, context managers, order of frees, fork, exit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lorasc


def test_context_managers_close(tiny_path: Path, rows: lorasc.Batch) -> None:
    with lorasc.Model(tiny_path) as model, lorasc.Adapter(model, num_labels=3) as adapter:
        with lorasc.Trainer(model, adapter) as trainer, lorasc.Dataset(rows) as dataset:
            assert not trainer.closed
            assert len(dataset) == 24
        assert trainer.closed
        assert dataset.closed
    assert adapter.closed
    assert model.closed


def test_close_twice_and_use_after_close(tiny_path: Path, rows: lorasc.Batch) -> None:
    model = lorasc.Model(tiny_path)
    adapter = lorasc.Adapter(model, num_labels=3)
    trainer = lorasc.Trainer(model, adapter)
    dataset, options = lorasc.Dataset(rows), lorasc.Options()
    for item in (trainer, adapter, model, dataset, options):
        item.close()
        item.close()
    calls = [
        model.tensors,
        lambda: model.predict(rows, "embedding"),
        lambda: lorasc.Adapter(model),
        adapter.tensors,
        lambda: adapter["x"],
        lambda: adapter.merge("nowhere"),
        lambda: trainer.accumulate(rows),
        lambda: trainer.run(rows),
        lambda: trainer.info,
        trainer.interrupt,
        lambda: len(dataset),
        lambda: options.get("r"),
    ]
    for call in calls:
        with pytest.raises(lorasc.HandleError) as caught:
            call()
        assert caught.value.status is lorasc.Status.HANDLE


@pytest.mark.parametrize("order", ["mat", "mta", "amt", "atm", "tma", "tam"])
def test_any_order_of_frees(tiny_path: Path, rows: lorasc.Batch, order: str) -> None:
    model = lorasc.Model(tiny_path)
    adapter = lorasc.Adapter(model, num_labels=3)
    trainer = lorasc.Trainer(model, adapter, schedule="constant")
    items = {"m": model, "a": adapter, "t": trainer}
    for letter in order:
        items.pop(letter).close()
        if "t" in items:
            trainer.accumulate(rows)


def test_collected_objects_are_freed(tiny_path: Path) -> None:
    """Thousands of handles: a leak would meet the limit of handles or memory."""
    model = lorasc.Model(tiny_path)
    for _ in range(2000):
        adapter = lorasc.Adapter(model, num_labels=3)
        del adapter
    gc.collect()


def test_adapter_is_free_again_after_its_trainer(tiny: lorasc.Model) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    trainer = lorasc.Trainer(tiny, adapter)
    with pytest.raises(lorasc.BusyError):
        lorasc.Trainer(tiny, adapter)
    trainer.close()
    lorasc.Trainer(tiny, adapter).close()


def test_interpreter_exit_with_open_objects(tiny_path: Path) -> None:
    code = f"""
import lorasc
model = lorasc.Model({str(tiny_path)!r})
adapter = lorasc.Adapter(model, num_labels=2)
trainer = lorasc.Trainer(model, adapter)
data = lorasc.Dataset(lorasc.Batch([[1, 2]], labels=[0]))
cycle = [trainer, data]; cycle.append(cycle)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_child_every_call_is_refused(tiny: lorasc.Model, rows: lorasc.Batch) -> None:
    adapter = lorasc.Adapter(tiny, num_labels=3)
    trainer = lorasc.Trainer(tiny, adapter, schedule="constant")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        for call in (tiny.tensors, lambda: trainer.accumulate(rows), lorasc.Options):
            try:
                call()
                answers.append("OK")
            except lorasc.LorascError as error:
                answers.append(error.status.name)
            except BaseException as error:
                answers.append(repr(error))
        trainer.close()
        os.write(writer, " ".join(answers).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answers = pipe.read().split()
    os.waitpid(child, 0)
    # tensors() counts first, and a count of 0 lists nothing: any answer but a crash will do
    assert answers[0] in ("STATE", "OK")
    assert answers[1:] == ["STATE", "STATE"]
    trainer.accumulate(rows)


def test_wrong_kind_freed_and_foreign_handles(tiny: lorasc.Model) -> None:
    """Straight at the C boundary, which the classes never let through."""
    import ctypes

    from lorasc import _structs
    from lorasc._library import library
    from lorasc.errors import check

    info = _structs.sized(_structs.ModelDescription)
    options = lorasc.Options()
    freed = options._handle
    options.close()
    adapter = lorasc.Adapter(tiny)
    for handle in (None, 1, 0xDEADBEEF, 2**63, freed, adapter._handle):
        with pytest.raises(lorasc.HandleError):
            check(library().lorasc_model_info(handle, ctypes.byref(info)))
        library().lorasc_model_free(handle)
    assert adapter.tensors()
    with pytest.raises(lorasc.ArgumentError):
        check(library().lorasc_model_info(tiny._handle, None))
