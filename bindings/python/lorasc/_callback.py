"""The callbacks that C calls, and the exceptions that pass through them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ._signatures import ProgressFunction
from .progress import Callback, read_progress


class Trampoline:
    """Hands what C tells to a Python function, and keeps what that raises.

    C cannot carry an exception: it is stored, the call is stopped by a non-zero return, and
    the caller raises ``error`` again, the same object.

    Args:
        kind: the C function's type, of one argument.
        receive: gets the argument; where its answer is true, the call is stopped.

    Attributes:
        function: for the library.
        error: what ``receive`` or a signal handler raised, else None.
    """

    def __init__(self, kind: Callable[..., Any], receive: Callable[[Any], object]) -> None:
        self.error: BaseException | None = None
        self._receive = receive
        # Why a generator: Python runs signal handlers at the first instruction of a function,
        # where no try block is open yet, so that Ctrl-C would raise KeyboardInterrupt past it,
        # into ctypes, which drops it. A generator resumes inside its try block.
        answers = self._answer()
        next(answers)
        self.function = kind(answers.send)

    def take(self) -> BaseException | None:
        """The error, and forgets it."""
        error, self.error = self.error, None
        return error

    def _answer(self) -> Generator[int, Any, None]:
        stop = 0
        waiting = True
        while True:
            try:
                while True:
                    told = yield stop
                    waiting = False
                    stop = int(bool(self._receive(told)))
                    waiting = True
            except BaseException as error:
                if waiting and isinstance(error, GeneratorExit):
                    return  # collected, not raised by a callback
                waiting = True
                if self.error is None:
                    self.error = error
                stop = 1


def progress_trampoline(callbacks: list[Callback]) -> Trampoline:
    """For lorasc_trainer_run: hands its reports to these, whose answers are ignored."""

    def receive(struct: Any) -> None:
        progress = read_progress(struct.contents)
        for callback in callbacks:
            callback(progress)

    return Trampoline(ProgressFunction, receive)
