"""Exceptions: classes, status, subject, threads."""

from __future__ import annotations

import pickle
import threading

import pytest

import lorasc
from lorasc.errors import make_error


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        ("ARGUMENT", (ValueError,)),
        ("OPTION", (ValueError, lorasc.OptionError)),
        ("SHAPE", (ValueError, lorasc.DataError)),
        ("LABEL", (ValueError, lorasc.DataError)),
        ("TOKEN", (ValueError, lorasc.DataError)),
        ("MEMORY", (MemoryError,)),
        ("NOT_FOUND", (FileNotFoundError, OSError, KeyError)),
        ("IO", (OSError,)),
        ("NONFINITE", (ArithmeticError,)),
        ("INTERRUPTED", (lorasc.Interrupted,)),
        ("INTERNAL", (lorasc.LorascError,)),
    ],
)
def test_natural_classes(status: str, kinds: tuple[type, ...]) -> None:
    error = make_error(lorasc.Status[status], "a message", "subject", 13)
    for kind in (*kinds, lorasc.LorascError, RuntimeError):
        assert isinstance(error, kind)
    assert str(error) == "a message"
    assert error.subject == "subject"
    assert error.system_error == 13
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.status, copy.subject) == (type(error), error.status, error.subject)


def test_a_status_of_a_newer_library() -> None:
    error = make_error(77, "new")
    assert type(error) is lorasc.LorascError
    assert error.status == 77


def test_message_subject_and_errno(tmp_path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        lorasc.Model(missing)
    error = caught.value
    assert error.status is lorasc.Status.NOT_FOUND
    assert str(missing) in str(error)
    assert str(missing) in error.subject


def test_last_error_is_the_threads_own() -> None:
    """Many threads failing on different options each see their own."""
    wrong: list[str] = []

    def fail(name: str) -> None:
        for _ in range(300):
            try:
                lorasc.Options({name: 1})
            except lorasc.OptionError as error:
                if error.subject != name or name not in str(error):
                    wrong.append(f"{name}: {error}")

    threads = [threading.Thread(target=fail, args=(f"no_such_{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
