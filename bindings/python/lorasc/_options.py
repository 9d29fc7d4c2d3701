"""The library's options: the table, and Python values as its texts."""

from __future__ import annotations

import ctypes
import json
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _structs as structs
from ._handle import Handle
from ._library import library
from ._tensors import fill_text
from .errors import OptionError, Status, check, encode_text


@dataclass(frozen=True)
class OptionInfo:
    """One row of the table of options.

    Attributes:
        key: the option's name, as a keyword argument.
        type: "integer", "number", "boolean", "choice", "text" or "list".
        default: its value as text.
        minimum: as text, "" where there is none.
        maximum: as text, "" where there is none.
        choices: the words it may be, beside a number's range.
        scope: who takes it: "model", "adapter" or "trainer".
        help: a sentence.
    """

    key: str
    type: str
    default: str
    minimum: str
    maximum: str
    choices: tuple[str, ...]
    scope: str
    help: str


class OptionTable(tuple[OptionInfo, ...]):
    """All options in order; printed, it is a manual."""

    __slots__ = ()

    def find(self, key: str) -> OptionInfo:
        """The option of this name.

        Raises:
            OptionError: there is none.
        """
        for option in self:
            if option.key == key:
                return option
        raise OptionError(Status.OPTION, f"unknown option '{key}'", key)

    def __str__(self) -> str:
        lines = []
        for option in self:
            values = "|".join(option.choices) or option.type
            lines.append(
                f"{option.key} = {option.default or '(empty)'}   [{option.scope}: {values}]"
            )
            lines.append(f"    {option.help}")
        return "\n".join(lines)


def options() -> OptionTable:
    """Every option of the library with its default, range and help."""
    rows = []
    for index in range(library().lorasc_option_count()):
        row = structs.sized(structs.OptionInfo)
        check(library().lorasc_option_describe(index, ctypes.byref(row)))
        choices = row.choices.decode()
        rows.append(
            OptionInfo(
                key=row.key.decode(),
                type=row.type.decode(),
                default=row.default_value.decode(),
                minimum=row.minimum.decode(),
                maximum=row.maximum.decode(),
                choices=tuple(choices.split("|")) if choices else (),
                scope=row.scope.decode(),
                help=row.help.decode(),
            )
        )
    return OptionTable(rows)


def to_text(key: str, value: Any) -> str:
    """A Python value as the library's text: booleans, numbers, strings, and lists of these.

    A mapping becomes a JSON object where the option is text (``rank_pattern``), and else, as
    ``id2label`` often is one, its values in the order of its keys.

    Raises:
        OptionError: a list's item contains a comma, which would make it two items.
        TypeError: a value of another type.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, Mapping):
        if key.endswith("_pattern"):
            return json.dumps(value)
        return to_text(key, [value[k] for k in sorted(value, key=int)])
    if isinstance(value, Iterable):
        items = [to_text(key, item) for item in value]
        for item in items:
            if "," in item:
                raise OptionError(
                    Status.OPTION, f"option {key}: '{item}' contains a comma, as no item may", key
                )
        return ",".join(items)
    raise TypeError(f"option {key}: {value!r} is neither text, number, boolean nor a list")


class Options(Handle):
    """A set of options for the library; None leaves a default.

    Raises:
        OptionError: unknown key or bad value; the subject is the key.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        pointer = ctypes.c_void_p()
        check(library().lorasc_options_create(ctypes.byref(pointer)))
        self._own(pointer, library().lorasc_options_free)
        for key, value in (values or {}).items():
            if value is not None:
                self.set(key, value)

    def set(self, key: str, value: Any) -> None:
        """Sets one option."""
        text = encode_text(to_text(key, value))
        check(library().lorasc_options_set(self._handle, encode_text(key), text))

    def get(self, key: str) -> str:
        """The option's value as text, its default where it was not set."""
        name = encode_text(key)
        return fill_text(lambda *buffer: library().lorasc_options_get(self._handle, name, *buffer))

    def load_json(self, text: str) -> None:
        """Sets every member of a JSON object, all or nothing."""
        check(library().lorasc_options_load_json(self._handle, encode_text(text)))


def refuse_foreign(values: Mapping[str, Any], scopes: tuple[str, ...], owner: str) -> None:
    """Refuses options that ``owner`` would not read, since ignoring them would hide mistakes.

    Raises:
        OptionError: unknown, or of another scope.
    """
    table = options()
    for key in values:
        scope = table.find(key).scope
        if scope not in scopes:
            raise OptionError(
                Status.OPTION, f"option '{key}' is not the {owner}'s but the {scope}'s", key
            )
