"""Exceptions: every status of the library as a Python error."""

from __future__ import annotations

import enum

from ._library import library


class Status(enum.IntEnum):
    """lorasc_status: the kinds of failure."""

    OK = 0
    ARGUMENT = 1
    HANDLE = 2
    OPTION = 3
    STATE = 4
    BUSY = 5
    LIMIT = 6
    BUFFER = 7
    MEMORY = 8
    IO = 20
    NOT_FOUND = 21
    FORMAT = 22
    UNSUPPORTED = 23
    ARCHITECTURE = 24
    MISMATCH = 25
    SHAPE = 40
    TOKEN = 41
    LABEL = 42
    NO_MATCH = 43
    NO_LOSS = 44
    NONFINITE = 45
    INTERRUPTED = 60
    CANCELLED = 61
    INTERNAL = 90


class LorascError(RuntimeError):
    """A call to the library failed.

    Attributes:
        status: what kind of failure; a plain int if the library is newer than this package.
        message: one sentence that names the offender.
        subject: the offender alone: a tensor, an option, a path; may be "".
        system_error: errno of the system call that failed, else 0.
    """

    def __init__(self, status: int, message: str, subject: str = "", system_error: int = 0) -> None:
        super().__init__(message)
        self.status = _status(status)
        self.message = message
        self.subject = subject
        self.system_error = system_error
        if isinstance(self, OSError):
            OSError.__setattr__(self, "errno", system_error or None)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (int(self.status), self.message, self.subject, self.system_error)


class ArgumentError(LorascError, ValueError):
    """A value out of range, or text that C cannot take."""


class OptionError(LorascError, ValueError):
    """An unknown option, a bad value, options that contradict; the subject is the key."""


class DataError(LorascError, ValueError):
    """A batch or target rule that does not fit: SHAPE, TOKEN, LABEL, NO_MATCH, NO_LOSS, LIMIT."""


class HandleError(LorascError):
    """An object was used after close()."""


class StateError(LorascError):
    """Not possible now, e.g. nothing accumulated."""


class BusyError(LorascError):
    """The object is in use by another call, perhaps of another thread."""


class OutOfMemoryError(LorascError, MemoryError):
    """The allocator refused."""


class FileAccessError(LorascError, OSError):
    """The system refused to read or write; ``errno`` says why."""


class NotFoundError(LorascError, FileNotFoundError, KeyError):
    """No such file, folder or tensor."""


class FormatError(LorascError, ValueError):
    """A damaged, malformed, unsupported or mismatched file."""


class NonFiniteError(LorascError, ArithmeticError):
    """NaN or infinity in weights, loss or gradient; the subject is the tensor."""


class Interrupted(LorascError):
    """interrupt() was called; run() again goes on where it stopped."""


_CLASSES: dict[int, type[LorascError]] = {
    Status.ARGUMENT: ArgumentError,
    Status.HANDLE: HandleError,
    Status.OPTION: OptionError,
    Status.STATE: StateError,
    Status.BUSY: BusyError,
    Status.LIMIT: DataError,
    Status.MEMORY: OutOfMemoryError,
    Status.IO: FileAccessError,
    Status.NOT_FOUND: NotFoundError,
    Status.FORMAT: FormatError,
    Status.UNSUPPORTED: FormatError,
    Status.ARCHITECTURE: FormatError,
    Status.MISMATCH: FormatError,
    Status.SHAPE: DataError,
    Status.TOKEN: DataError,
    Status.LABEL: DataError,
    Status.NO_MATCH: DataError,
    Status.NO_LOSS: DataError,
    Status.NONFINITE: NonFiniteError,
    Status.INTERRUPTED: Interrupted,
}


def _status(number: int) -> int:
    try:
        return Status(number)
    except ValueError:
        return number


def make_error(status: int, message: str, subject: str = "", system_error: int = 0) -> LorascError:
    """The exception of the class that belongs to a status."""
    return _CLASSES.get(status, LorascError)(status, message, subject, system_error)


def check(status: int) -> None:
    """Raises the calling thread's last error unless ``status`` is OK."""
    if status == Status.OK:
        return
    last = library().lorasc_last_error().contents
    message = (last.message or b"").decode("utf-8", "replace")
    subject = (last.subject or b"").decode("utf-8", "replace")
    if last.status != status or not message:
        message = library().lorasc_status_name(status).decode()
    raise make_error(status, message, subject, last.system_error)


def encode_text(text: str) -> bytes:
    """UTF-8 for the library.

    Raises:
        ArgumentError: the text contains a NUL, where C would silently end it.
    """
    if "\0" in text:
        raise ArgumentError(Status.ARGUMENT, f"text contains a NUL character: {text!r}", text)
    return text.encode("utf-8", "surrogateescape")
