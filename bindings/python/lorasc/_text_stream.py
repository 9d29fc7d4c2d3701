"""Token ids as text while they come."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .errors import ArgumentError, Status

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.decoders import DecodeStream


class TextStream:
    """New tokens as the text that they add to a prompt, up to a stop string.

    A token may be a part of a character, and a text's end the beginning of a stop string: such
    text is held back until the next tokens tell.

    Args:
        tokenizer: of the model.
        prompt: the ids before; looked at when the first token comes.
        stop: texts that end the stream.
        on_text: gets each piece.

    Raises:
        ArgumentError: an empty stop string.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: list[int],
        stop: Sequence[str],
        on_text: Callable[[str], object] | None,
    ) -> None:
        if "" in stop:
            raise ArgumentError(Status.ARGUMENT, "a stop string is empty", "stop")
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._stop = stop
        self._on_text = on_text
        self._text = ""
        self._held = ""

    def add(self, token: int) -> bool:
        """Takes the next token. True: a stop string is there, and the stream at its end."""
        self._held += self._decoder.step(self._tokenizer, token) or ""
        places = [place for each in self._stop if (place := self._held.find(each)) >= 0]
        if places:
            self._give(min(places))
            self._held = ""
        else:
            self._give(len(self._held) - self._unclear())
        return bool(places)

    @functools.cached_property
    def _decoder(self) -> DecodeStream:
        from tokenizers.decoders import DecodeStream

        # What the decoder is told of a prompt must end with a whole character.
        known = len(self._prompt)
        while known and self._tokenizer.decode(self._prompt[:known]).endswith("\ufffd"):
            known -= 1
        decoder = DecodeStream(ids=self._prompt[:known], skip_special_tokens=True)
        for token in self._prompt[known:]:
            decoder.step(self._tokenizer, token)
        return decoder

    def finish(self) -> str:
        """Gives what was held back; returns the whole text."""
        self._give(len(self._held))
        return self._text

    def _unclear(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max((len(each) for each in self._stop), default=1) - 1
        return next(
            (
                length
                for length in range(min(longest, len(self._held)), 0, -1)
                if any(each.startswith(self._held[-length:]) for each in self._stop)
            ),
            0,
        )

    def _give(self, length: int) -> None:
        piece, self._held = self._held[:length], self._held[length:]
        self._text += piece
        if piece and self._on_text is not None:
            self._on_text(piece)
