"""Instruction data: prompts without a loss, and the completions to learn, as batches."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .batch import IGNORED, Batch
from .chat import Span, read_special_tokens
from .errors import DataError, NotFoundError, Status

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ._encoding import TextEncoding

Row = Mapping[str, Any]
"""{"prompt", "completion"}, both texts or both lists of messages, or {"messages"}."""


@dataclass
class InstructionEncoder:
    """Turns rows of instructions into token ids and labels; see Model.encode_instructions.

    Attributes:
        model: whose tokenizer and chat template are used.
        limit: tokens that a row may have.
        cuts: whether longer rows are cut, else they are refused.
        as_chat: texts are one turn of the user's and one of the assistant's.
        separator: between a prompt and a completion that are texts; belongs to the prompt.
        add_eos: whether a completion that is a text ends with the end-of-sequence token.
        template: options of the chat template.
        was_cut: how many rows were.
    """

    model: TextEncoding
    limit: int
    cuts: bool
    as_chat: bool = False
    separator: str = ""
    add_eos: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    was_cut: int = 0

    def batch(self, rows: Iterable[Row]) -> Batch:
        """All rows, with labels on the tokens of the completions."""
        encoded = []
        for index, row in enumerate(rows):
            try:
                encoded.append(self._fit(*self._encode(row)))
            except DataError as error:
                name = f"row {index}"
                raise DataError(error.status, f"{name}: {error.message}", name) from error
        if not encoded:
            raise DataError(Status.SHAPE, "there are no rows", "rows")
        if self.was_cut:
            warnings.warn(
                f"{self.was_cut} of {len(encoded)} rows were cut to {self.limit} tokens",
                stacklevel=3,
            )
        return Batch([ids for ids, _ in encoded], token_labels=[labels for _, labels in encoded])

    def _encode(self, row: Row) -> tuple[list[int], list[int]]:
        if not isinstance(row, Mapping):
            raise _bad(f"a {type(row).__name__}, not a mapping")
        keys = {"prompt", "completion", "messages"} & row.keys()
        if keys == {"messages"}:
            return self._conversation([], row["messages"], row)
        if keys != {"prompt", "completion"}:
            found = "keys " + ", ".join(map(str, row)) if row else "no keys"
            raise _bad(f"{found}; prompt and completion, or messages, are due")
        prompt, completion = row["prompt"], row["completion"]
        if isinstance(prompt, str) and isinstance(completion, str):
            if not completion:
                raise _bad("the completion is empty")
            if not self.as_chat:
                return self._texts(prompt + self.separator, completion)
            prompt = [{"role": "user", "content": prompt}]
            completion = [{"role": "assistant", "content": completion}]
        return self._conversation(prompt, completion, row)

    def _texts(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """The tokenizer's own first tokens (such as <s>), the texts, the end of sequence."""
        start = len(prompt)
        ids, labels = label_tokens(
            self.model.tokenizer, prompt + completion, [(start, start + len(completion))]
        )
        first = _leading_tokens(self.model.tokenizer)
        if ids[: len(first)] != first:
            ids, labels = first + ids, [IGNORED] * len(first) + labels
        if self.add_eos:
            end = _end_token(self.model)
            if ids[-1:] != [end]:
                ids, labels = [*ids, end], [*labels, end]
        return ids, labels

    def _conversation(self, prompt: Any, completion: Any, row: Row) -> tuple[list[int], list[int]]:
        for messages in (prompt, completion):
            if not isinstance(messages, list | tuple):
                raise _bad("prompt and completion are not both texts or both lists of messages")
        answers = [each for each in completion if _is_answer(each)]
        if not answers:
            raise _bad("no message to learn is the assistant's")
        for message in answers:
            if not message.get("content") and not message.get("tool_calls"):
                raise _bad("the completion is empty: a message of the assistant's has no content")
        options = dict(self.template)
        if row.get("tools") is not None:
            options.setdefault("tools", row["tools"])
        text, spans = self.model.chat_template.render_turns(
            [*prompt, *completion], first=len(prompt), **options
        )
        return label_tokens(self.model.tokenizer, text, spans)

    def _fit(self, ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """Cut to the limit where that is allowed, and with something left to learn."""
        before = next((at for at, label in enumerate(labels) if label != IGNORED), len(labels))
        if before >= self.limit:
            raise DataError(
                Status.LIMIT,
                f"{before} tokens of the prompt alone, and {self.limit} are all a row may have",
                "prompt",
            )
        if len(ids) > self.limit:
            if not self.cuts:
                raise DataError(
                    Status.LIMIT,
                    f"{len(ids)} tokens, the model has {self.limit} positions: give max_length, or "
                    "truncate=True",
                    "tokens",
                )
            self.was_cut += 1
        ids, labels = ids[: self.limit], labels[: self.limit]
        # What is before a row's first token could not predict it
        if all(label == IGNORED for label in labels[1:]):
            raise DataError(Status.NO_LOSS, "no token is left to learn", "completion")
        return ids, labels


def label_tokens(
    tokenizer: Tokenizer, text: str, spans: Iterable[Span]
) -> tuple[list[int], list[int]]:
    """Token ids of a text without special tokens of the tokenizer's own, and their labels.

    A token that starts in a span is its own label, others have none. What precedes a span has the
    tokens that it has alone, as it will be when the model is asked: where the text as a whole would
    be split otherwise (a token that reaches over the span's start), its parts are encoded apart.
    """
    spans = list(spans)

    def encode(start: int, end: int) -> list[tuple[int, int]]:
        found = tokenizer.encode(text[start:end], add_special_tokens=False)
        places = [start + begin for begin, _ in found.offsets]
        return list(zip(found.ids, places, strict=True))

    tokens = encode(0, len(text))
    ids = [token for token, _ in tokens]
    for start, _ in spans:
        before = [token for token, _ in encode(0, start)]
        if ids[: len(before)] != before:
            cuts = [0, *(start for start, _ in spans if start > 0), len(text)]
            parts = [encode(*part) for part in itertools.pairwise(cuts)]
            tokens = [token for part in parts for token in part]
            break
    labels = [
        token if any(start <= place < end for start, end in spans) else IGNORED
        for token, place in tokens
    ]
    return [token for token, _ in tokens], labels


def _leading_tokens(tokenizer: Tokenizer) -> list[int]:
    """The special tokens that the tokenizer puts before every text."""
    found = tokenizer.encode("a")
    pairs = zip(found.ids, found.special_tokens_mask, strict=True)
    return [token for token, _ in itertools.takewhile(lambda pair: pair[1], pairs)]


def _end_token(model: TextEncoding) -> int:
    """The end-of-sequence token, of tokenizer_config.json or else config.json."""
    text = read_special_tokens(model).get("eos_token")
    if text is not None:
        found = model.tokenizer.token_to_id(text)
        if found is not None:
            return int(found)
    given = model.config.get("eos_token_id")
    if isinstance(given, list) and given:
        given = given[0]
    if isinstance(given, int):
        return given
    raise NotFoundError(
        Status.NOT_FOUND,
        f"{model.path}: neither tokenizer_config.json nor config.json names an end-of-sequence "
        "token: give add_eos=False",
        "eos_token",
    )


def _is_answer(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "assistant"


def _bad(why: str) -> DataError:
    return DataError(Status.SHAPE, why, "rows")
