"""Teaches a decoder to answer: prompts and completions, in one call.

    python examples/python/instruct.py --data yours.jsonl --output my-model

Each line of the file is {"prompt": "...", "completion": "..."}, or {"messages": [...]} as chats are
kept. Texts go through the model's chat template as a question and its answer; --plain joins them
with a new line instead. Without --data: fortunes that define a word, asked for by that word.
"""

import argparse
import itertools
import re

from models import find_model

import lorasc

import fortunes

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="smollm2", help="a known name, or a model's folder")
parser.add_argument("--data", help="JSON lines")
parser.add_argument("--rows", type=int, default=200, help="of the file, a fifth of them held out")
parser.add_argument("--plain", action="store_true", help="use no chat template")
parser.add_argument("--method", default="lorasc", choices=["lora", "cola", "lorasc"])
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--max-length", type=int, default=256, help="tokens a row is cut to")
parser.add_argument("--output", default="build/instructed", help="folder for the merged model")
arguments = parser.parse_args()


def definitions() -> list[dict[str, str]]:
    """Fortunes of the form "word: what it is"."""
    part = fortunes.load()["train"]
    found = (re.fullmatch(r"([^:\n]{2,40}):\s+(.+)", text, re.DOTALL) for text in part.texts)
    return [
        {"prompt": f"Define: {match[1]}", "completion": " ".join(match[2].split())}
        for match in found
        if match
    ]


source = lorasc.read_jsonl(arguments.data) if arguments.data else definitions()
rows = list(itertools.islice(source, arguments.rows))
held_out = max(1, len(rows) // 5)

with lorasc.finetune(
    find_model(arguments.model),
    rows[held_out:],
    eval_texts=rows[:held_out],
    method=arguments.method,
    output_dir=arguments.output,
    max_length=arguments.max_length,
    as_chat=not arguments.plain,
    separator="\n" if arguments.plain else "",
    epochs=arguments.epochs,
    batch_size=8,
    learning_rate=1e-3,
) as result:
    print(
        f"{len(rows) - held_out} rows learned; perplexity of the answers on {held_out} held out: "
        f"before {result.before.perplexity:.2f}, after {result.perplexity:.2f}"
    )
print(f"Merged model: {arguments.output}")
