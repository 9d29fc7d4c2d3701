"""The demo on a decoder: SmolLM2 learns the manner of Debian's fortunes, in three ways.

    python examples/python/demo_language.py [--output build/demo-smollm2] [--epochs 3]
                                            [--model FILE.gguf]

Next-token training on quotations of one topic, on the quantised GGUF file as it is: held-out
perplexity and a completion before and after; LoRA, COLA and LoRASC from the same start, in the
same order of rows, for the same number of steps. Writes report.json, curves.png and what LoRASC
made: merged/ for transformers, merged.gguf and lora.gguf for llama.cpp.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import demo_common
from models import find_model

import lorasc

import fortunes

TOPIC = "definitions"
ROWS = {"train": 80, "dev": 20, "test": 40}
MAX_LENGTH = 64
ADAPTER = {"r": 8, "lora_alpha": 16, "adapter_seed": 1}
TRAINER = {
    "batch_size": 16,
    "max_batch_tokens": 1024,
    "learning_rate": 2e-3,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "seed": 1,
}
"""One cascade an epoch for COLA and LoRASC; everything else is the library's default."""

PROMPT = "Hacker, n.:"
NEW_TOKENS = 40

COLUMNS = (
    "train_loss",
    "test_loss",
    "test_perplexity",
    "test_accuracy",
    "seconds",
    "tokens_per_second",
)


def main() -> int:
    """Runs the demo; the exit status is 1 if the written model predicts otherwise."""
    parser = demo_common.make_parser("build/demo-smollm2", epochs=3)
    parser.add_argument("--model", default="smollm2-gguf", help="a known name, a folder or a file")
    arguments = parser.parse_args()
    model = lorasc.Model(find_model(arguments.model))
    batches = {name: model.encode(texts, MAX_LENGTH) for name, texts in load().items()}
    demo_common.introduce(model, f"the next token of quotations under '{TOPIC}'", batches)

    before = measure_before(model, batches) | {"completion": complete(model)}
    print(f"Before: {PROMPT} {before['completion']}\n", flush=True)
    options = TRAINER | {"epochs": arguments.epochs}
    methods, trainer = demo_common.compare(model, batches, ADAPTER, options, measure)
    demo_common.show_table(before, methods, COLUMNS)
    print(f"After:  {PROMPT} {methods['lorasc']['completion']}\n")

    output = arguments.output
    checked = demo_common.merge_and_check(trainer.adapter, output / "merged", batches["test"])
    files = write_gguf(trainer.adapter, output, batches["test"])
    report = demo_common.make_report(
        "smollm2",
        f"fortunes: next token of quotations under '{TOPIC}'",
        batches,
        trainer,
        ADAPTER | options,
        before=before,
        methods=methods,
        merged=checked,
        gguf=files,
    )
    demo_common.write_report(report, output)
    if files:
        print(f"Written: {output}/merged.gguf, {output}/lora.gguf")
    print(
        '\nNext, open it where you run language models:\n  python -c "from transformers import '
        f"pipeline; print(pipeline('text-generation', '{output}/merged')('{PROMPT}'))\""
    )
    if files:
        print(f"  llama-cli -m {output}/merged.gguf -p '{PROMPT}'")
        print(f"  llama-cli -m {model.path} --lora {output}/lora.gguf -p '{PROMPT}'")
    written = [checked, *([files["lora"]] if files else [])]
    return 0 if all(form["same_predictions"] for form in written) else 1


def complete(writer: lorasc.Model | lorasc.Adapter) -> str:
    """How it goes on with the prompt, greedily, on one line."""
    return " ".join(str(writer.generate(PROMPT, NEW_TOKENS)).split())


def write_gguf(adapter: lorasc.Adapter, output: Path, test: lorasc.Batch) -> dict[str, Any] | None:
    """Writes merged.gguf and lora.gguf, opens them again; None where the model is no GGUF file.

    The merged file holds changed matrices as Q8_0, so it gives other logits than the adapter: its
    perplexity says how little that is.
    """
    if not is_gguf(adapter.model):
        return None
    merged, lora = output / "merged.gguf", output / "lora.gguf"
    adapter.merge(merged)
    adapter.export(lora, "gguf")
    with lorasc.Adapter.load(adapter.model, lora) as again:
        checked = demo_common.check_same(
            "GGUF LoRA written", adapter.predict(test), again.predict(test)
        )
    with lorasc.Model(merged) as model:
        found = evaluate(model, test)
    print(f"Merged GGUF written: perplexity on test {found.perplexity:.2f}, changes as Q8_0.")
    return {"lora": checked, "merged_test_perplexity": found.perplexity}


def is_gguf(model: lorasc.Model) -> bool:
    """Whether it was opened from a file and not from a folder."""
    return Path(model.path).is_file()


def evaluate(model: lorasc.Model, batch: lorasc.Batch) -> lorasc.Evaluation:
    """Loss and accuracy of a model as it is: a fresh adapter changes nothing."""
    with (
        lorasc.Adapter(model, method="lora", **ADAPTER) as adapter,
        lorasc.Trainer(model, adapter, **TRAINER) as trainer,
    ):
        return trainer.evaluate(batch)


def load() -> dict[str, list[str]]:
    """Texts of the topic for each part, chosen by a hash of the text."""
    label = fortunes.TOPICS.index(TOPIC)
    return {
        name: [text for text, own in zip(part.texts, part.labels, strict=True) if own == label][
            : ROWS[name]
        ]
        for name, part in fortunes.load().items()
    }


def measure_before(model: lorasc.Model, batches: demo_common.Batches) -> dict[str, Any]:
    """Perplexity and accuracy of the model as it is."""
    found = {name: evaluate(model, batches[name]) for name in ("dev", "test")}
    print(f"Before: perplexity on test {found['test'].perplexity:.2f}", flush=True)
    return {
        "name": "as it is",
        "dev_accuracy": found["dev"].accuracy,
        "test_accuracy": found["test"].accuracy,
        "test_loss": found["test"].loss,
        "test_perplexity": found["test"].perplexity,
    }


def measure(trainer: lorasc.Trainer, batches: demo_common.Batches) -> dict[str, Any]:
    """Figures of a finished run, for the report."""
    row = demo_common.measure(trainer, batches)
    perplexity = math.exp(row["test_loss"])
    return row | {"test_perplexity": perplexity, "completion": complete(trainer.adapter)}


if __name__ == "__main__":
    sys.exit(main())
