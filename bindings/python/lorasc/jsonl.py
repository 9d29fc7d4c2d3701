"""Data files of JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from .errors import FormatError, Status


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, one after another; blank lines are left out.

    Raises:
        FormatError: a line is no JSON object; it is named.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                message = f"{os.fspath(path)}: line {number} is no JSON: {error}"
                raise FormatError(Status.FORMAT, message, f"line {number}") from error
            if not isinstance(value, dict):
                message = f"{os.fspath(path)}: line {number} holds no object"
                raise FormatError(Status.FORMAT, message, f"line {number}")
            yield value
