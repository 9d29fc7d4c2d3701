"""Chat templates: a conversation as the text that a model was taught on, by its own template.

Templates are code from wherever the model is from: they run in Jinja's sandbox, on plain JSON data,
with the settings and functions that transformers gives them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from ._jinja import compile_template
from .errors import DataError, FormatError, NotFoundError, Status

if TYPE_CHECKING:
    from ._encoding import TextEncoding

Message = Mapping[str, Any]
"""One turn: "role", "content" and whatever else the template reads."""

Span = tuple[int, int]
"""Characters of a text, from the first to the one after the last."""

_TEMPLATE_FILE = "chat_template.jinja"
_MORE_TEMPLATES = "additional_chat_templates"
_CONFIG = "tokenizer_config.json"
_SPECIAL_TOKENS = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which programs keep what a model thought before it answered."""

_MARKS = ("\ufdd0", "\ufdd1")
"""Characters that Unicode keeps out of texts: around what {% generation %} encloses."""


class ChatTemplate:
    """The chat templates of a model, with its special tokens.

    Args:
        source: a model, or a folder with chat_template.jinja and maybe additional_chat_templates,
            or a tokenizer_config.json whose chat_template is a text or a list of named ones.

    Attributes:
        templates: each template by its name, "default" where there is one only.
        special_tokens: "bos_token", "eos_token", ... as templates read them.

    Raises:
        NotFoundError: there is no template.
        FormatError: a damaged file.
    """

    def __init__(self, source: Path | TextEncoding) -> None:
        self.templates, self._source = _read_templates(source)
        self.special_tokens = read_special_tokens(source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The conversation as text.

        Args:
            messages: its turns.
            add_generation_prompt: end with what precedes an answer of the assistant's.
            template: a template's name, or one itself; by default "tool_use" where there are tools
                and such a template, else "default".
            tools: JSON schemas of functions.
            documents: to answer from, where the template knows about them.
            variables: anything else that the template reads.

        Raises:
            DataError: the template refuses the conversation, or it isn't plain JSON data.
            FormatError: the template is malformed.
            NotFoundError: no template of this name.
        """
        data = {"tools": tools, "documents": documents} | variables
        data["add_generation_prompt"] = add_generation_prompt
        return self._render(self._choose(template, tools), ("", ""), messages, data)

    def render_turns(
        self, messages: Sequence[Message], first: int = 0, **options: Any
    ) -> tuple[str, list[Span]]:
        """The conversation as text, and where in it the assistant's turns are.

        They are what the template encloses in {% generation %}, or without that what an answer
        adds to the text that asks for it: the end of the turn is in it, its header isn't.

        Args:
            messages: the turns.
            first: the message from which on turns are looked for.
            options: of render().

        Raises:
            DataError: the template writes a turn in another way once more turns follow it.
        """
        text = self.render(messages, **options)
        spans = self._marked(text, messages, options)
        if spans is None:
            return text, self._by_beginnings(text, messages, first, options)
        start = 0
        if first:
            start = len(self._beginning(text, messages[:first], False, options))
        return text, [span for span in spans if start <= span[0] < span[1]]

    def _marked(
        self, text: str, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> list[Span] | None:
        """What {% generation %} encloses, or None where the template has none."""
        variables = dict(options)
        template = self._choose(variables.pop("template", None), options.get("tools"))
        if not re.search(r"{%[-+]?\s*generation\b", template):
            return None
        marked = self._render(template, _MARKS, messages, variables)
        spans, start = [], 0
        for removed, found in enumerate(re.finditer("|".join(_MARKS), marked)):
            place = found.start() - removed
            if found.group() == _MARKS[0]:
                start = place
            else:
                spans.append((start, place))
        if re.sub("|".join(_MARKS), "", marked) != text:
            raise self._refused("its {% generation %} changes the text, or the text holds U+FDD0")
        return spans

    def _by_beginnings(
        self, text: str, messages: Sequence[Message], first: int, options: Mapping[str, Any]
    ) -> list[Span]:
        spans = []
        for index in range(first, len(messages)):
            if messages[index].get("role") != "assistant":
                continue
            if index == 0:
                raise self._refused("message 0 is the assistant's: nothing asks for it")
            asked = self._beginning(text, messages[:index], True, options)
            answered = self._beginning(text, messages[: index + 1], False, options)
            spans.append((len(asked), len(answered)))
        return spans

    def _beginning(
        self, text: str, messages: Sequence[Message], asks: bool, options: Mapping[str, Any]
    ) -> str:
        """These messages alone, which must be how the whole text begins."""
        part = self.render(messages, **(dict(options) | {"add_generation_prompt": asks}))
        if not text.startswith(part):
            raise self._refused(
                f"message {len(messages) - 1} is written in another way once others follow, so it "
                "can't be told where the answers are; give all but the last answer as the prompt"
            )
        return part

    def _choose(self, template: str | None, tools: object) -> str:
        if template is None:
            template = "tool_use" if tools is not None and "tool_use" in self.templates else ""
            template = template or "default"
        elif "{" in template:
            return template
        if template not in self.templates:
            raise NotFoundError(
                Status.NOT_FOUND,
                f"{self._source}: no chat template {template}, only "
                + ", ".join(sorted(self.templates)),
                template,
            )
        return self.templates[template]

    def _render(
        self,
        template: str,
        marks: tuple[str, str],
        messages: Sequence[Message],
        variables: Mapping[str, Any],
    ) -> str:
        data = self.special_tokens | dict(variables)
        data["messages"] = [self._prepare(index, each) for index, each in enumerate(messages)]
        if not messages:
            raise self._refused("it has no messages")
        try:
            data = json.loads(json.dumps(data))
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refused(f"it is not plain JSON data: {error}") from error
        try:
            return str(compile_template(template, marks).render(data))
        except TemplateSyntaxError as error:
            raise FormatError(
                Status.FORMAT,
                f"{self._source}: line {error.lineno} of the chat template: {error.message}",
                self._source,
            ) from error
        except TemplateError as error:
            raise self._refused(str(error)) from error
        except Exception as error:  # whatever Python raises at the template's expressions
            raise self._refused(f"{type(error).__name__}: {error}") from error

    def _prepare(self, index: int, message: Message) -> dict[str, Any]:
        """Without keys that hold None, and with what was thought under the names in use."""
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise self._refused(f"message {index} is no mapping with a role")
        known = {key: value for key, value in message.items() if value is not None}
        thought = next((known[name] for name in _REASONING if name in known), None)
        if thought is None:
            return known
        return {"thinking": thought} | known | {"reasoning_content": thought}

    def _refused(self, why: str) -> DataError:
        message = f"the chat template of {self._source} does not take the conversation: {why}"
        return DataError(Status.SHAPE, message, "messages")


def read_special_tokens(source: Path | TextEncoding) -> dict[str, str]:
    """Names as "eos_token" and their texts, from tokenizer_config.json.

    Where that doesn't list the added tokens, as files of old, special_tokens_map.json wins.
    """
    config = _read_json(source, _CONFIG)
    if "added_tokens_decoder" not in config:
        config = config | _read_json(source, "special_tokens_map.json")
    tokens = {}
    for name in _SPECIAL_TOKENS:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens


def _read_templates(source: Path | TextEncoding) -> tuple[dict[str, str], str]:
    """Templates by their names, and where they are from."""
    path = _path(source)
    if path.is_dir():
        more = path / _MORE_TEMPLATES
        texts = {file.stem: _read_text(file) for file in sorted(more.glob("*.jinja"))}
        default = _read(source, _TEMPLATE_FILE)
        if default is not None:
            return texts | {"default": default}, str(path / _TEMPLATE_FILE)
        if texts:
            return texts, str(more)
    where = str(path / _CONFIG if path.is_dir() else path)
    given = _read_json(source, _CONFIG).get("chat_template")
    if given is None:
        raise NotFoundError(
            Status.NOT_FOUND,
            f"{where}: no chat_template, and no {_TEMPLATE_FILE}",
            where,
        )
    if isinstance(given, str):
        return {"default": given}, where
    if isinstance(given, list) and all(isinstance(item, dict) for item in given):
        given = {item.get("name"): item.get("template") for item in given}
    if not isinstance(given, dict) or not all(
        isinstance(text, str) for item in given.items() for text in item
    ):
        raise FormatError(
            Status.FORMAT, f"{where}: chat_template is neither a text nor named texts", where
        )
    return given, where


def _path(source: Path | TextEncoding) -> Path:
    return source if isinstance(source, Path) else source.path


def _read(source: Path | TextEncoding, name: str) -> str | None:
    """A text file, None where there is none."""
    if isinstance(source, Path):
        return _read_text(source / name) if (source / name).is_file() else None
    try:
        return source.file(name)
    except NotFoundError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(Status.FORMAT, f"{path}: {error}", str(path)) from error


def _read_json(source: Path | TextEncoding, name: str) -> dict[str, Any]:
    """An object, empty where there is no file."""
    text, where = _read(source, name), str(_path(source) / name)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(Status.FORMAT, f"{where}: {error}", where) from error
    if not isinstance(value, dict):
        raise FormatError(Status.FORMAT, f"{where}: holds no object", where)
    return value
