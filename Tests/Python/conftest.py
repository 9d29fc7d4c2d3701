"""Fixtures of all tests: models, adapters, data."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import lorasc

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "examples" / "python"))

from models import find_model  # noqa: E402

import fortunes  # noqa: E402


def pytest_configure() -> None:
    """Ctrl-C as in a terminal.

    A shell starts its background jobs with SIGINT ignored, and Python then raises no
    KeyboardInterrupt.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return find_model("minilm")


@pytest.fixture(scope="session")
def smollm2() -> Iterator[lorasc.Model]:
    """SmolLM2-135M, real weights."""
    with lorasc.Model(find_model("smollm2")) as model:
        yield model


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> Iterator[lorasc.Model]:
    with lorasc.Model(minilm_path) as model:
        yield model


@pytest.fixture(scope="session")
def quotations(minilm: lorasc.Model) -> dict[str, lorasc.Batch]:
    """The demo's task, encoded."""
    return {
        name: minilm.encode(part.texts, fortunes.MAX_LENGTH, labels=part.labels)
        for name, part in fortunes.load().items()
    }


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BERT in the form of transformers, without a head."""
    from tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_path: Path) -> Iterator[lorasc.Model]:
    with lorasc.Model(tiny_path) as model:
        yield model


@pytest.fixture
def trainer_of(tiny: lorasc.Model) -> Iterator[Callable[..., lorasc.Trainer]]:
    """Makes trainers on the small model, from adapter and trainer options together."""
    made: list[lorasc.Trainer] = []
    scopes = {option.key: option.scope for option in lorasc.options()}

    def make(model: lorasc.Model = tiny, **options: object) -> lorasc.Trainer:
        values = {"num_labels": 3, "r": 4, "learning_rate": 1e-2, "batch_size": 4} | options
        mine = {key: value for key, value in values.items() if scopes[key] == "adapter"}
        rest = {key: value for key, value in values.items() if scopes[key] != "adapter"}
        made.append(lorasc.Trainer(model, lorasc.Adapter(model, **mine), **rest))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()
        trainer.adapter.close()


@pytest.fixture
def rows() -> lorasc.Batch:
    """24 rows for the small model with labels of 3 classes that can be learned."""
    from tiny import random_rows

    return random_rows(np.random.default_rng(5), 24, labels=3)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets that are not in the repository."""
    folder = Path(os.environ.get("LORASC_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        warnings.warn(f"LORASC_DATA: {folder} is absent, so tests on it are SKIPPED", stacklevel=1)
        pytest.skip(f"LORASC_DATA: no folder {folder}")
    return folder
