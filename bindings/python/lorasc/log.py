"""The library's messages, into Python's logging."""

from __future__ import annotations

import logging
from typing import Any

from ._library import library
from ._signatures import LogFunction
from .errors import check

_installed: Any = None  # what the library calls must not be collected


def log_to(logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
    """Sends the library's messages of at least ``level`` to a logger.

    Args:
        logger: by default the one named "lorasc".
        level: logging.DEBUG, INFO or WARNING.
    """
    target = logger or logging.getLogger("lorasc")

    def log(level: int, message: bytes, _user: object) -> None:
        target.log(level, "%s", message.decode("utf-8", "replace"))

    _install(level, LogFunction(log))


def log_off() -> None:
    """Turns the messages off, as they are at the start."""
    _install(logging.INFO, LogFunction())


def _install(level: int, function: Any) -> None:
    global _installed
    check(library().lorasc_set_log(level, function, None))
    _installed = function
