"""A real task from Debian's fortunes: tell from its text which topic file a quotation is from.

Ten large files on a subject or of a style of their own. Left out: grab-bags (cookie,
fortunes, miscellaneous, people, wisdom, platitudes) and files that overlap with these ten
(linux, perl, education).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("/usr/share/games/fortunes")
TOPICS = (
    "art",
    "computers",
    "definitions",
    "knghtbrd",
    "men-women",
    "politics",
    "science",
    "songs-poems",
    "work",
    "zippy",
)
MAX_LENGTH = 64
"""Tokens a text is cut to."""

TRAIN, DEV, TEST = 80, 20, 80
"""Texts of a topic in each part."""


@dataclass
class Part:
    """Texts and the numbers of their topics, in an order that mixes the topics."""

    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def names(self) -> list[str]:
        """The topics' names, one for each text."""
        return [TOPICS[label] for label in self.labels]


def load(folder: Path = FOLDER) -> dict[str, Part]:
    """The parts "train", "dev" and "test".

    A text's place follows from a hash of the text alone: in each topic the TRAIN lowest
    hashes are for training, the next ones for dev and test.

    Raises:
        FileNotFoundError: a topic file is missing; `apt install fortunes` has them.
    """
    parts = {"train": Part(), "dev": Part(), "test": Part()}
    rows = []
    for label, texts in enumerate(_read_topics(folder)):
        ranked = sorted(texts, key=_hash)
        for rank, text in enumerate(ranked[: TRAIN + DEV + TEST]):
            name = "train" if rank < TRAIN else "dev" if rank < TRAIN + DEV else "test"
            rows.append((_hash(text), name, text, label))
    for _, name, text, label in sorted(rows):
        parts[name].texts.append(text)
        parts[name].labels.append(label)
    return parts


def _read_topics(folder: Path) -> list[list[str]]:
    """Each topic's texts: once each, and none that is in two topics."""
    topics: list[dict[str, str]] = []
    for topic in TOPICS:
        file = folder / topic
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; `apt install fortunes` has it")
        texts = re.split(r"^%$\n?", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        topics.append({_words(text): text.strip("\n") for text in texts if text.strip()})
    counts: dict[str, int] = {}
    for texts in topics:
        for words in texts:
            counts[words] = counts.get(words, 0) + 1
    return [[text for words, text in texts.items() if counts[words] == 1] for texts in topics]


def _words(text: str) -> str:
    """What makes two texts the same: their words, whatever the case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
