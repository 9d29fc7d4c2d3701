"""Jinja as chat templates expect it: transformers' settings and functions, in a sandbox."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %}: what an assistant wrote, between marks."""

    tags = {"generation"}  # noqa: RUF012, a class attribute by Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, end = (
            nodes.Output([nodes.TemplateData(mark)], lineno=line)
            for mark in self.environment.generation_marks  # type: ignore[attr-defined]
        )
        return [start, nodes.Scope(body, lineno=line), end]


@functools.cache
def _environment(marks: tuple[str, str]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.extend(generation_marks=marks)
    # Jinja's own filter escapes for HTML
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


@functools.lru_cache(maxsize=64)
def compile_template(template: str, marks: tuple[str, str]) -> Any:
    """A template, ready to render; ``marks`` stand around what {% generation %} encloses."""
    return _environment(marks).from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)
