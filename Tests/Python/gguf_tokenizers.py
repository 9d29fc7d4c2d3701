"""Tokenizers by transformers and SentencePiece, and the metadata that GGUF files have of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordPieceTrainer
from transformers import (
    BertTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

import fortunes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""tokenizer.ggml.token_type."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<think>", "    ")
"""Tokens that aren't special, but found before anything else."""

EDGES = (
    *("", " ", "   ", "\n", "\n\n \n", "\t\t x", "\r\n\r\n \r x", "x  ", "  x", " " * 600 + "x"),
    *("a\0b\0", "\u200b\u00a0\u3000x\u2028y", "\ufeffbom \ufffd", "\x7f\x1b[0m"),
    *("é e\u0301 e\u0323\u0301 x\u0302\u0233", "naïve café CAFÉ ÄÖÜß İstanbul ǅ", "ﬁ ① Ⅳ ½ ٣"),
    *(
        "👩‍👩‍👧‍👦 🇩🇪 😶‍🌫️ 🦙.cpp \U0001f999",
        "中文字符テスト한국어 中 文",
        "أهلا وسهلا",
        "हिन्दी ไทย ខ្មែរ",
    ),
    *("3 33 333 3333 12345678 3.14", "I'VE don't 'S y'all'd've", "a" * 300, "ha" * 200 + "!"),
    *("Ω≈ç√∫˜µ≤≥÷", "HelloWorld helloWORLD fooBar_baz", "x=(1);/*c*/\n\tif(a&&b){}", "[PAD3000]"),
)
MARKED = (
    "<|endoftext|>a<|im_end|> b <|im_start|>",
    "x<think>y    z     </s> <unk>",
    "[CLS] a [SEP][MASK] [UNK]",
)
"""Texts that hold special tokens."""


def texts() -> list[str]:
    """Every quotation of Debian's fortunes, and texts that are hard to split."""
    files = sorted(path for path in fortunes.FOLDER.iterdir() if not path.suffix)
    found = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    return [*(text for file in found for text in file.split("\n%\n")), *EDGES]


@dataclass
class Source:
    """A tokenizer and what a GGUF file says of it."""

    encode: Callable[[str], list[int]]
    metadata: dict[str, Any]
    marked: Sequence[str] = MARKED
    architecture: str = "llama"

    @property
    def size(self) -> int:
        """Rows of the embedding."""
        return len(self.metadata["tokenizer.ggml.tokens"])


def split(pattern: str) -> list[Any]:
    """Pre-tokenizers of a byte-level BPE with a pattern of its own."""
    return [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


GPT2 = [pre_tokenizers.ByteLevel(add_prefix_space=False)]


@dataclass
class ByteLevel:
    """How a byte-level BPE splits texts, and transformers' class for it."""

    pre: list[Any] = field(default_factory=lambda: GPT2)
    tokenizer: Any = None
    normalizer: Any = None
    architecture: str = "llama"
    ignores_merges: bool = False


BYTE_LEVEL = {
    "gpt-2": ByteLevel(tokenizer=GPT2Tokenizer, architecture="gpt2"),
    "mpt": ByteLevel(tokenizer=GPTNeoXTokenizer, normalizer=normalizers.NFC()),
    "smollm": ByteLevel([pre_tokenizers.Digits(individual_digits=True), *GPT2]),
    "llama-bpe": ByteLevel(split(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"]), ignores_merges=True),
    "tekken": ByteLevel(split(GGUF_PRE_TOKENIZER_SPLITS["tekken"]), ignores_merges=True),
    "qwen2": ByteLevel(
        split(GGUF_PRE_TOKENIZER_SPLITS["qwen2"]),
        Qwen2Tokenizer,
        normalizers.NFC(),
        architecture="qwen2",
    ),
}


def byte_level(name: str) -> Source:
    """Trained on the fortunes; its vocabulary is filled up to an even number of rows."""
    form = BYTE_LEVEL[name]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(form.pre)
    if form.normalizer is not None:
        trained.normalizer = form.normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(texts(), trainer)
    vocabulary, merges = trained.get_vocab(), merges_of(trained)
    if form.ignores_merges:
        # A word that no merge makes, and a token all the same
        vocabulary["Ġzzyzx"] = len(vocabulary)
    if form.tokenizer is not None:
        tokenizer = form.tokenizer(vocab=dict(vocabulary), merges=merges, **roles(SPECIAL[0]))
    else:
        trained.model = models.BPE(dict(vocabulary), merges, ignore_merges=form.ignores_merges)
        trained.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained, **roles(SPECIAL[0]))
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    whole = tokenizer.get_vocab()
    kinds = dict.fromkeys(SPECIAL, CONTROL) | dict.fromkeys(ADDED, USER_DEFINED)
    metadata = {
        "model": "gpt2",
        "pre": name,
        "merges": [" ".join(pair) for pair in merges],
        "bos_token_id": whole[SPECIAL[0]],
        "eos_token_id": whole[SPECIAL[0]],
    } | listed(whole, kinds)
    return Source(
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        prefixed(metadata),
        architecture=form.architecture,
    )


def roles(token: str) -> dict[str, str]:
    """One token for all that a language model needs."""
    return {f"{role}_token": token for role in ("bos", "eos", "unk", "pad")}


def merges_of(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def listed(vocabulary: dict[str, int], kinds: dict[str, int], rows: int = 3072) -> dict[str, Any]:
    """Tokens and types by their ids, with fillers for rows that no token has."""
    names = {index: token for token, index in vocabulary.items()}
    tokens = [names.get(index, f"[PAD{index}]") for index in range(rows)]
    types = [
        UNUSED if index not in names else kinds.get(token, NORMAL)
        for index, token in enumerate(tokens)
    ]
    return {"tokens": tokens, "token_type": types}


def prefixed(values: dict[str, Any]) -> dict[str, Any]:
    """Keys with a dot are left alone."""
    return {key if "." in key else f"tokenizer.ggml.{key}": values[key] for key in values}


def word_piece(name: str) -> Source:
    """BERT's: "uncased" or "cased"."""
    lowers = name == "uncased"
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=lowers)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = WordPieceTrainer(vocab_size=3072, special_tokens=special, show_progress=False)
    trained.train_from_iterator(texts(), trainer)
    vocabulary = trained.get_vocab()
    tokenizer = BertTokenizer(vocab=dict(vocabulary), do_lower_case=lowers)
    metadata = listed(vocabulary, dict.fromkeys(special, CONTROL), len(vocabulary))
    metadata["tokens"] = [
        token
        if kind == CONTROL
        else token.removeprefix("##")
        if token.startswith("##")
        else "\u2581" + token
        for token, kind in zip(metadata["tokens"], metadata["token_type"], strict=True)
    ]
    ids = dict(zip(("padding", "unknown", "cls", "seperator", "mask"), range(5), strict=True))
    metadata |= {f"{role}_token_id": index for role, index in ids.items()}
    return Source(
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        prefixed({"model": "bert", "pre": "default"} | metadata),
        architecture="bert",
    )


def sentence_piece(folder: Path) -> Source:
    """SentencePiece's BPE as Llama's; texts that hold its special tokens are none of its own."""
    corpus = folder / "corpus.txt"
    lines = [line for text in texts() for line in text.splitlines() if line and "\0" not in line]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=3072,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=0.9995,
        minloglevel=2,
    )
    processor = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = range(processor.vocab_size())

    def kind(index: int) -> int:
        checks = {
            UNKNOWN: processor.is_unknown,
            CONTROL: processor.is_control,
            BYTE: processor.is_byte,
            UNUSED: processor.is_unused,
        }
        return next((kind for kind, check in checks.items() if check(index)), NORMAL)

    return Source(
        processor.encode,
        prefixed(
            {
                "model": "llama",
                "pre": "default",
                "tokens": [processor.id_to_piece(index) for index in ids],
                "scores": [processor.get_score(index) for index in ids],
                "token_type": [kind(index) for index in ids],
                "bos_token_id": processor.bos_id(),
                "eos_token_id": processor.eos_id(),
                "unknown_token_id": processor.unk_id(),
                "add_bos_token": True,
                "add_eos_token": False,
            }
        ),
        marked=(),
    )
