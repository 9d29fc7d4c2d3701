"""The engines of the benchmarks, each in a process of its own that steps when it is told to.

    python Benchmarks/engines.py <engine> <job.json>

The engine is "lorasc", "peft" or "attach", the library's layers inside PyTorch. After its first
step it writes a line of JSON, and another for each line that it reads: of a number of steps the
seconds of each and the last loss, of `merge <folder>` the seconds that merging and saving takes; at
the input's end its peak of resident memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STARTED = time.perf_counter()
LEARNING_RATE = 1e-4

Arrays = dict[str, np.ndarray]
Step = Callable[[Arrays], float]
"""One training step on a batch, which gives its loss."""

Merge = Callable[[str], object]
"""Writes the merged model into a folder."""


def lorasc_engine(job: dict[str, Any]) -> tuple[Callable[[Arrays], Any], Step, Merge]:
    """The library: makes a batch, steps, merges."""
    import lorasc

    model = lorasc.Model(job["model"], threads=job["threads"])
    adapter = lorasc.Adapter(model, adapter_seed=1, **job["options"])
    if "save_adapter" in job:
        adapter.save(job["save_adapter"])
    settings = {
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "max_grad_norm": 0,
        "compute_dtype": job["dtype"],
    }
    trainer = lorasc.Trainer(
        model,
        adapter,
        **({"noise": 0, "max_batch_tokens": job["tokens"]} | settings | job.get("trainer", {})),
    )

    def prepare(batch: Arrays) -> lorasc.Batch:
        if "pixels" in batch:
            return lorasc.Batch.images(**batch)
        return lorasc.Batch.packed(**batch)

    def step(rows: lorasc.Batch) -> float:
        trainer.accumulate(rows)
        return trainer.apply().loss

    return prepare, step, adapter.merge


def peft_engine(job: dict[str, Any]) -> tuple[Callable[[Arrays], Any], Step, Merge]:
    """PyTorch and PEFT, from the adapter that the library saved."""
    from peft import PeftModel

    return torch_engine(
        job, lambda base: PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)
    )


def attach_engine(job: dict[str, Any]) -> tuple[Callable[[Arrays], Any], Step, Merge]:
    """PyTorch with the library's layers in place of the adapted ones."""
    import lorasc.torch

    def adapt(base: Any) -> Any:
        options = {key: job["options"][key] for key in ("r", "lora_alpha", "target_modules")}
        lorasc.torch.attach(base, "lora", threads=job["threads"], **options)
        base.classifier.requires_grad_(True)
        return base

    return torch_engine(job, adapt)


def torch_engine(
    job: dict[str, Any], adapt: Callable[[Any], Any]
) -> tuple[Callable[[Arrays], Any], Step, Merge]:
    """PyTorch and a transformers model with adapters; rows padded to the longest.

    bfloat16 is autocast, or the backbone's weights in it (PEFT leaves factors in float32).
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    options = job["options"]
    is_language = options["head"] == "lm"
    if is_language:
        kind = transformers.AutoModelForCausalLM
    elif job["images"]:
        kind = transformers.AutoModelForImageClassification
    else:
        kind = transformers.AutoModelForSequenceClassification
    changes = {"attn_implementation": job["attention"], "dtype": torch.float32}
    if job["bfloat16_weights"]:
        changes["dtype"] = torch.bfloat16
    autocasts = job["dtype"] == "bfloat16" and not job["bfloat16_weights"]
    if not is_language:
        changes["num_labels"] = options["num_labels"]
        changes |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    base = kind.from_pretrained(job["model"], **changes)
    model = adapt(base).train()
    optimizer = torch.optim.AdamW(
        [one for one in model.parameters() if one.requires_grad], lr=LEARNING_RATE, weight_decay=0
    )
    run = torch.compile(model) if job["compile"] else model

    def prepare(batch: Arrays) -> dict[str, torch.Tensor]:
        labels = {}
        if "labels" in batch:
            labels["labels"] = torch.from_numpy(batch["labels"].astype(np.int64))
        if "pixels" in batch:
            return {"pixel_values": torch.from_numpy(batch["pixels"]).to(base.dtype)} | labels
        rows = np.split(batch["tokens"], batch["offsets"][1:-1])
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (tokens, seen) in zip(rows, zip(ids, mask, strict=True), strict=True):
            tokens[: len(row)] = torch.from_numpy(row)
            seen[: len(row)] = 1
        if is_language:
            labels["labels"] = ids
        masked = {} if bool(mask.all()) else {"attention_mask": mask}
        return {"input_ids": ids} | masked | labels

    def step(inputs: dict[str, torch.Tensor]) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocasts):
            loss = run(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def merge(folder: str) -> None:
        model.merge_and_unload().save_pretrained(folder)

    return prepare, step, merge


ENGINES = {"lorasc": lorasc_engine, "peft": peft_engine, "attach": attach_engine}


def peak_mebibytes() -> float:
    """The most memory that this process has held so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Does as asked."""
    job = json.loads(Path(sys.argv[2]).read_text())
    prepare, step, merge = ENGINES[sys.argv[1]](job)
    batches = []
    for path in job["batches"]:
        with np.load(path) as file:
            batches.append(prepare(dict(file)))
    loss = step(batches[0])
    print(json.dumps({"start": time.perf_counter() - STARTED, "loss": loss}), flush=True)
    done = 0
    for line in sys.stdin:
        command, _, folder = line.strip().partition(" ")
        seconds = []
        for _ in range(1 if folder else int(command)):
            start = time.perf_counter()
            if folder:
                merge(folder)
            else:
                loss = step(batches[done % len(batches)])
                done += 1
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)
    print(json.dumps({"peak_mib": peak_mebibytes()}), flush=True)


if __name__ == "__main__":
    main()
