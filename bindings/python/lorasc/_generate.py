"""Generation: texts that a model or an adapter goes on with."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from ._callback import Trampoline
from ._library import library
from ._signatures import TokenFunction
from ._text_stream import TextStream
from .batch import as_array
from .errors import ArgumentError, NotFoundError, Status, check

if TYPE_CHECKING:
    from .model import Model

Prompt = str | Sequence[int] | npt.NDArray[np.integer]


@dataclass(frozen=True)
class Generation:
    """What was generated; as a string its text.

    Attributes:
        tokens: the new ids, without the stop token that ended them.
        text: the same as text, without special tokens, up to the stop string that ended it; None
            where the model's folder has no tokenizer.
        stopped: whether a stop token or stop string ended it, and not max_new_tokens.
    """

    tokens: list[int]
    text: str | None
    stopped: bool

    def __str__(self) -> str:
        return str(self.tokens) if self.text is None else self.text


class TextGenerator:
    """What generates: a model, or an adapter on one."""

    def _generating(self) -> tuple[Model, int | None]:
        """The model and the adapter's handle."""
        raise NotImplementedError

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int = 128,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        stop_tokens: Sequence[int] | None = None,
        on_token: Callable[[int], object] | None = None,
        on_text: Callable[[str], object] | None = None,
    ) -> Generation:
        """Goes on with a text, token by token; for decoders with the head "lm".

        An adapter is seen as its merged view. Ctrl-C stops at the next token.

        Args:
            prompt: a text, or token ids. A text gets the special tokens that its tokenizer adds;
                ids are taken as they are.
            max_new_tokens: at most so many. The prompt and all of them but the last need a
                position each.
            temperature: logits are divided by it; 0: always the likeliest token.
            top_p: draw among the likeliest tokens that make up this probability.
            top_k: draw among the likeliest so many; 0: all.
            repetition_penalty: logits of tokens that are there already are divided by it, negative
                ones multiplied; 1: none.
            seed: the same seed, settings and prompt give the same tokens.
            stop: texts that end the generation; neither they nor what follows are in its text.
            stop_tokens: ids that end it, by default the eos_token_id of the folder's
                generation_config.json or else config.json; [] for none.
            on_token: gets each new id at once. What it returns is ignored; what it raises ends
                the generation and is raised here.
            on_text: gets the text, piece by piece, as soon as it is clear that it is part of it.

        Raises:
            DataError: an empty prompt (SHAPE), an id outside the vocabulary (TOKEN), more tokens
                than the model has positions (LIMIT).
            ArgumentError: a setting out of range.
            StateError: the model or the adapter has no head "lm".
            NotFoundError: the folder has no tokenizer, and a text needs one.
        """
        model, adapter = self._generating()
        ids = model.tokenizer.encode(prompt).ids if isinstance(prompt, str) else prompt
        tokens = as_array("prompt", ids if len(ids) else np.zeros(0, np.int32), np.int32)
        stops = None if stop_tokens is None else as_array("stop_tokens", stop_tokens, np.int32)
        settings = structs.sized(structs.Generation)
        settings.max_new_tokens = _int32(max_new_tokens)
        settings.temperature = temperature
        settings.top_p = top_p
        settings.top_k = _int32(top_k)
        settings.repetition_penalty = repetition_penalty
        settings.seed = _seed(seed)
        if stops is not None:
            settings.stop_tokens = stops.ctypes.data
            settings.stop_count = len(stops)
        stream = _stream(model, tokens, [stop] if isinstance(stop, str) else list(stop), on_text)
        made: list[int] = []

        def receive(token: int) -> bool:
            made.append(token)
            if on_token is not None:
                on_token(token)
            return stream is not None and stream.add(token)

        trampoline = Trampoline(TokenFunction, receive)
        status = library().lorasc_generate(
            model._handle,
            adapter,
            tokens.ctypes.data,
            len(tokens),
            ctypes.byref(settings),
            trampoline.function,
            None,
            None,
            0,
            None,
        )
        if trampoline.error is not None:
            raise trampoline.error
        found = status == Status.CANCELLED
        if not found:
            check(status)
        text = None if stream is None else stream.finish()
        return Generation(made, text, stopped=found or len(made) < max_new_tokens)


def _stream(
    model: Model,
    prompt: npt.NDArray[np.int32],
    stop: list[str],
    on_text: Callable[[str], object] | None,
) -> TextStream | None:
    try:
        tokenizer = model.tokenizer
    except NotFoundError:
        if stop or on_text is not None:
            raise
        return None
    return TextStream(tokenizer, prompt.tolist(), stop, on_text)


def _int32(value: int) -> int:
    """As C can take it: what doesn't fit is out of range there too."""
    return max(-(2**31), min(operator.index(value), 2**31 - 1))


def _seed(value: int) -> int:
    if not 0 <= operator.index(value) < 2**64:
        raise ArgumentError(Status.ARGUMENT, f"seed {value} is not in 0 to 2^64 - 1", "seed")
    return value
