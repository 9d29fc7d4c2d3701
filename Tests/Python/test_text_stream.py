"""Tokens as text while they come: characters of several tokens, stop strings, special tokens."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import lorasc
from lorasc._text_stream import TextStream


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token for each byte, and a special one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


def stream(
    tokenizer: Tokenizer, prompt: list[int], new: list[int], stop: list[str]
) -> tuple[list[str], int, str]:
    """The pieces, how many tokens were taken, and the text."""
    pieces: list[str] = []
    text = TextStream(tokenizer, prompt, stop, pieces.append)
    taken = next((count for count, token in enumerate(new, 1) if text.add(token)), len(new))
    whole = text.finish()
    assert whole == "".join(pieces)
    return pieces, taken, whole


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text).ids


def test_a_character_comes_whole(tokenizer: Tokenizer) -> None:
    pieces, _, _ = stream(tokenizer, ids(tokenizer, "é"), ids(tokenizer, "aé😀b"), [])
    assert pieces == ["a", "é", "😀", "b"]


def test_a_prompt_may_end_inside_a_character(tokenizer: Tokenizer) -> None:
    smile = ids(tokenizer, "😀")
    for cut in range(1, 4):
        new = smile[cut:] + ids(tokenizer, "!")
        pieces, _, _ = stream(tokenizer, ids(tokenizer, "Hé ") + smile[:cut], new, [])
        assert pieces == ["😀", "!"]


def test_an_unfinished_character_is_left_out(tokenizer: Tokenizer) -> None:
    _, _, text = stream(tokenizer, [], ids(tokenizer, "ab😀")[:-1], [])
    assert text == "ab"


def test_special_tokens_are_no_text(tokenizer: Tokenizer) -> None:
    pieces, _, _ = stream(tokenizer, ids(tokenizer, "<s>"), ids(tokenizer, "a<s>b"), [])
    assert pieces == ["a", "b"]


def test_what_may_become_a_stop_string_is_held_back(tokenizer: Tokenizer) -> None:
    given = ids(tokenizer, "x\nUsed\nUser: y")
    pieces, taken, text = stream(tokenizer, [], given, ["\nUser:"])
    assert pieces == ["x", "\nUsed"]
    assert (taken, text) == (len("x\nUsed\nUser:"), "x\nUsed")
    # At the end it was none.
    assert stream(tokenizer, [], ids(tokenizer, "x\nUse"), ["\nUser:"])[2] == "x\nUse"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abc", ["b"], "a"),
        ("abc", ["abc"], ""),
        ("abcabd", ["abd"], "abc"),
        ("aaab", ["aab"], "a"),
        ("one two three", ["three", "two"], "one "),
        ("one two", ["two", "ne"], "o"),
        ("ab", ["abc", "b"], "a"),
        ("é😀", ["😀"], "é"),
        ("abc", ["d"], "abc"),
    ],
)
def test_the_text_ends_before_the_first_stop_string(tokenizer, text, stop, expected) -> None:
    assert stream(tokenizer, [], ids(tokenizer, text), stop)[2] == expected


def test_an_empty_stop_string_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(lorasc.ArgumentError):
        TextStream(tokenizer, [], ["a", ""], None)


def test_ids_that_the_tokenizer_lacks_are_no_text(tokenizer: Tokenizer) -> None:
    """A model's vocabulary may be larger than its tokenizer's."""
    pieces, _, _ = stream(tokenizer, [9999], [9999, *ids(tokenizer, "a"), 9999], [])
    assert pieces == ["a"]
