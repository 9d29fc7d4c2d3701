"""Texts and conversations as batches of token ids."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .batch import Batch
from .errors import DataError, NotFoundError, Status
from .reports import ModelInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .chat import ChatTemplate, Message
    from .instructions import Row

Text = str | tuple[str, str]
"""A text, or a pair of texts for tasks on two."""


class TextEncoding:
    """What a model's files say of texts: its tokenizer and its chat template.

    Attributes:
        path: the folder or GGUF file.
        info: of the model; its positions are what a row may have.
    """

    path: Path
    info: ModelInfo

    def file(self, name: str) -> str:
        """A text file by its name; see Model.file()."""
        raise NotImplementedError

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """config.json as it is."""
        config: dict[str, Any] = json.loads(self.file("config.json"))
        return config

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.json, with its built-in padding and truncation off.

        Raises:
            NotFoundError: the model has none.
        """
        return self._load_tokenizer(None)

    @functools.cached_property
    def _truncating(self) -> dict[int, Tokenizer]:
        return {}

    def _load_tokenizer(self, max_length: int | None) -> Tokenizer:
        from tokenizers import Tokenizer  # here, so that token ids alone need no tokenizer

        try:
            text = self.file("tokenizer.json")
        except NotFoundError as error:
            file = str(self.path / "tokenizer.json")
            raise NotFoundError(
                Status.NOT_FOUND, f"{file}: no such file, so texts cannot be encoded", file
            ) from error
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        if max_length is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(max_length)
        return tokenizer

    def encode(
        self,
        texts: Sequence[Text],
        max_length: int | None = None,
        *,
        truncate: bool = False,
        labels: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        row_weights: npt.ArrayLike | None = None,
    ) -> Batch:
        """Tokenizes texts (or pairs of texts) into a batch, special tokens included.

        Args:
            texts: one row each.
            max_length: cut rows to this many tokens, at most the model's positions.
            truncate: cut rows to the model's positions where max_length is not given.
            labels: see Batch.
            targets: see Batch.
            row_weights: see Batch.

        Raises:
            DataError: a row is longer than the model's positions and nothing says to cut it.
            NotFoundError: the model has no tokenizer.json.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, not one text")
        limit, cuts = self._row_limit(max_length, truncate)
        if cuts and limit not in self._truncating:
            self._truncating[limit] = self._load_tokenizer(limit)
        tokenizer = self._truncating[limit] if cuts else self.tokenizer
        encodings = tokenizer.encode_batch(list(texts))
        rows = [encoding.ids for encoding in encodings]
        self._refuse_long(rows, "text", limit)
        types = [encoding.type_ids for encoding in encodings]
        return Batch(
            rows,
            labels=labels,
            targets=targets,
            row_weights=row_weights,
            token_types=types if any(any(row) for row in types) else None,
        )

    @functools.cached_property
    def chat_template(self) -> ChatTemplate:
        """The model's chat templates.

        Raises:
            NotFoundError: the model has none.
        """
        from .chat import ChatTemplate  # here, so that models without chat need no Jinja

        return ChatTemplate(self)

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, **options: Any
    ) -> str:
        """A conversation as text by the model's template, as transformers' method of this name.

        The text holds the special tokens already: encode_chat() adds none to them, encode() would.

        Args:
            messages: [{"role": "user", "content": "..."}, ...].
            add_generation_prompt: end with what precedes an answer of the assistant's.
            options: of ChatTemplate.render(): ``template``, ``tools``, ``documents``, variables of
                the template's own.

        Raises:
            NotFoundError: the model has no template.
            DataError: the template refuses the conversation.
        """
        return self.chat_template.render(
            messages, add_generation_prompt=add_generation_prompt, **options
        )

    def encode_chat(
        self,
        conversations: Sequence[Message] | Sequence[Sequence[Message]],
        max_length: int | None = None,
        *,
        truncate: bool = False,
        add_generation_prompt: bool = False,
        **options: Any,
    ) -> Batch:
        """Conversations as a batch by the model's chat template, a row each; without labels.

        Args:
            conversations: lists of messages, or one such list.
            max_length: cut rows at their end to this many tokens.
            truncate: cut rows to the model's positions where max_length is not given.
            add_generation_prompt: see apply_chat_template().
            options: likewise.

        Raises:
            DataError: a row is too long, or refused by the template.
        """
        limit, cuts = self._row_limit(max_length, truncate)
        is_one = bool(conversations) and isinstance(conversations[0], Mapping)
        texts = [
            self.apply_chat_template(
                messages,  # type: ignore[arg-type]
                add_generation_prompt=add_generation_prompt,
                **options,
            )
            for messages in ([conversations] if is_one else conversations)
        ]
        rows = [found.ids for found in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        if cuts:
            rows = [row[:limit] for row in rows]
        self._refuse_long(rows, "conversation", limit)
        return Batch(rows)

    def encode_instructions(
        self,
        rows: Iterable[Row],
        max_length: int | None = None,
        *,
        truncate: bool = False,
        as_chat: bool = False,
        separator: str = "",
        add_eos: bool = True,
        **options: Any,
    ) -> Batch:
        """Prompts and completions as a batch for the head "lm"; only completions have a loss.

        A row is {"prompt": text, "completion": text}, or the same with lists of messages, or
        {"messages": [...]}; other keys are left alone. Messages become text by the model's chat
        template, and each turn of the assistant's carries the loss (of a row with a prompt those
        of the completion).

        Args:
            rows: any iterable, such as lorasc.read_jsonl().
            max_length: cut rows at their end to this many tokens; a warning says how many were.
            truncate: cut rows to the model's positions where max_length is not given.
            as_chat: put texts through the chat template too, as a user's turn and an answer.
            separator: between a prompt and a completion that are texts, as part of the prompt.
            add_eos: end a completion that is a text with the end-of-sequence token, which teaches
                to stop; a chat template ends its turns itself.
            options: of the chat template, see apply_chat_template().

        Raises:
            DataError: naming the row: other keys or types, an empty completion, a prompt that
                alone fills the row, a row that is too long where nothing says to cut it.
            NotFoundError: there is no chat template, or no tokenizer.json.
        """
        from .instructions import InstructionEncoder

        limit, cuts = self._row_limit(max_length, truncate)
        encoder = InstructionEncoder(
            self, limit, cuts, as_chat, separator, add_eos, template=options
        )
        return encoder.batch(rows)

    def _row_limit(self, max_length: int | None, truncate: bool) -> tuple[int, bool]:
        """Tokens that a row may have, and whether longer ones are cut."""
        positions = self.info.maximum_positions
        if max_length is None:
            return positions, truncate
        if not 1 <= max_length <= positions:
            raise DataError(
                Status.LIMIT, f"max_length {max_length} is not in 1 to {positions}", "max_length"
            )
        return max_length, True

    def _refuse_long(self, rows: Sequence[Sequence[int]], kind: str, limit: int) -> None:
        for index, row in enumerate(rows):
            if len(row) > limit:
                raise DataError(
                    Status.LIMIT,
                    f"{kind} {index} has {len(row)} tokens, the model {limit} positions: give "
                    "max_length, or truncate=True",
                    f"{kind} {index}",
                )
