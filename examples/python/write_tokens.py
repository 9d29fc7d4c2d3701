"""Writes the fortunes task as token files, for programs without a tokenizer.

    python examples/python/write_tokens.py build/tokens

makes train.tokens, dev.tokens and test.tokens in that folder, which examples/c/finetune.c
reads. A token file is text: the line "lorasc-tokens 1 <rows> <num_labels>", then for each
row "<label> <n> <id> <id> ...".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models import find_model
from tokenizers import Tokenizer

import fortunes


def write_tokens(path: Path, rows: list[list[int]], labels: list[int], num_labels: int) -> None:
    """Writes one token file.

    Args:
        path: the file.
        rows: token ids of each row.
        labels: class of each row, from 0.
        num_labels: number of classes.
    """
    with open(path, "w", encoding="ascii") as file:
        print("lorasc-tokens 1", len(rows), num_labels, file=file)
        for row, label in zip(rows, labels, strict=True):
            print(label, len(row), *row, file=file)


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(description="Write the fortunes task as token files.")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--model", default="minilm", help="whose tokenizer")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(find_model(arguments.model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(fortunes.MAX_LENGTH)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, part in fortunes.load().items():
        rows = [encoding.ids for encoding in tokenizer.encode_batch(part.texts)]
        path = arguments.output / f"{name}.tokens"
        write_tokens(path, rows, part.labels, len(fortunes.TOPICS))
        print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main()
