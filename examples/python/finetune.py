"""Fine-tunes on texts of your own, in one call.

    python examples/python/finetune.py --data yours.jsonl --output my-model

Each line of the file is an object with "text" and "label". Without --data: Debian's fortunes.
"""

import argparse
import json

from models import find_model

import lorasc

import fortunes

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="minilm", help="a known name, or a model's folder")
parser.add_argument("--data", help='JSON lines with "text" and "label"')
parser.add_argument("--method", default="lorasc", choices=["lora", "cola", "lorasc"])
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--output", default="build/finetuned", help="folder for the merged model")
arguments = parser.parse_args()

if arguments.data:
    with open(arguments.data, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    held_out = len(rows) // 5
else:
    part = fortunes.load()["train"]
    texts, labels, held_out = part.texts, part.names, 160

with lorasc.finetune(
    find_model(arguments.model),
    texts[held_out:],
    labels[held_out:],
    method=arguments.method,
    eval_texts=texts[:held_out],
    eval_labels=labels[:held_out],
    output_dir=arguments.output,
    max_length=128,
    epochs=arguments.epochs,
    learning_rate=3e-3,
) as result:
    evaluation = result.history.evaluations[-1]
    print(f"{held_out} texts held out: accuracy {evaluation.eval_accuracy:.3f}")
    for text, answer in zip(texts[:3], result.predict(texts[:3]), strict=True):
        print(f"{answer}: {' '.join(text.split())[:70]}")
print(f"Merged model: {arguments.output}")
