"""Writes prompts and completions as token files, for programs without a tokenizer.

    python examples/python/write_prompts.py yours.jsonl build/prompts

makes train.prompts and dev.prompts in that folder, which examples/c/language_model.c reads: text,
the line "lorasc-prompts 1 <rows>", then for each row "<n> <p> <id> <id> ...", n ids of which the
first p are the prompt. Each line of the data is {"prompt": "...", "completion": "..."} or
{"messages": [...]}; see examples/python/instruct.py.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from models import find_model

import lorasc


def write_prompts(path: Path, batch: lorasc.Batch) -> None:
    """Writes one file: a row's prompt is what precedes its first token with a loss."""
    with open(path, "w", encoding="ascii") as file:
        print("lorasc-prompts 1", len(batch), file=file)
        for row in range(len(batch)):
            ids = batch.row(row)
            labels = batch[row : row + 1].token_labels
            prompt = int(np.argmax(labels != lorasc.IGNORED))
            print(len(ids), prompt, *ids, file=file)


def main() -> None:
    """Writes the two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="JSON lines")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--model", default="smollm2", help="whose tokenizer and chat template")
    parser.add_argument("--rows", type=int, default=200, help="of the data, a fifth for dev")
    parser.add_argument("--plain", action="store_true", help="use no chat template")
    parser.add_argument("--max-length", type=int, default=256, help="tokens a row is cut to")
    arguments = parser.parse_args()
    rows = list(itertools.islice(lorasc.read_jsonl(arguments.data), arguments.rows))
    held_out = max(1, len(rows) // 5)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with lorasc.Model(find_model(arguments.model)) as model:
        for name, part in (("train", rows[held_out:]), ("dev", rows[:held_out])):
            batch = model.encode_instructions(
                part,
                arguments.max_length,
                as_chat=not arguments.plain,
                separator="\n" if arguments.plain else "",
            )
            path = arguments.output / f"{name}.prompts"
            write_prompts(path, batch)
            print(f"{path}: {len(batch)} rows")


if __name__ == "__main__":
    main()
