"""The progress callback that C calls, and the exceptions that pass through it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ._signatures import ProgressFunction
from .progress import Callback, read_progress


class ProgressTrampoline:
    """Hands the library's reports to Python functions, and keeps what they raise.

    C cannot carry an exception: it is stored, the run is stopped by a non-zero return, and
    the caller of run() raises ``error`` again, the same object.

    Attributes:
        function: for lorasc_trainer_run.
        error: what a callback or a signal handler raised, else None.
    """

    def __init__(self, callbacks: list[Callback]) -> None:
        self.error: BaseException | None = None
        self._callbacks = callbacks
        # Why a generator: Python runs signal handlers at the first instruction of a function,
        # where no try block is open yet, so that Ctrl-C would raise KeyboardInterrupt past it,
        # into ctypes, which drops it. A generator resumes inside its try block.
        reports = self._receive()
        next(reports)
        self.function = ProgressFunction(reports.send)

    def _receive(self) -> Generator[int, Any, None]:
        stop = 0
        waiting = True
        while True:
            try:
                while True:
                    struct = yield stop
                    waiting = False
                    progress = read_progress(struct.contents)
                    for callback in self._callbacks:
                        callback(progress)
                    waiting = True
            except BaseException as error:
                if waiting and isinstance(error, GeneratorExit):
                    return  # collected, not raised by a callback
                waiting = True
                if self.error is None:
                    self.error = error
                stop = 1
