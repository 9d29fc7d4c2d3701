"""LoRASC inside the Hugging Face Trainer, on Debian's fortunes: cascades, checkpoints, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import lorasc
import lorasc.torch

import fortunes

ROWS, BATCH, EPOCHS = 48, 8, 3
STEPS = EPOCHS * ROWS // BATCH
OPTIONS = {"r": 4, "lora_alpha": 8, "adapter_seed": 2, "seed": 2, "noise": 0.1, "slow_rate": 0.7}


class Watch(TrainerCallback):
    """The cascade after each step."""

    def __init__(self, attached: Any) -> None:
        self.attached = attached
        self.cascades: list[int] = []
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        self.rates.append(of["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        self.cascades.append(self.attached.cascade)


def rows(path: Path) -> tuple[list[dict[str, Any]], DataCollatorWithPadding]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    part = fortunes.load()["train"]
    encoded = tokenizer(part.texts[:ROWS], truncation=True, max_length=16)["input_ids"]
    labels = [int(label) for label in part.labels[:ROWS]]
    examples = [
        {"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)
    ]
    return examples, DataCollatorWithPadding(tokenizer)


def backbone(path: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        path,
        num_labels=len(fortunes.TOPICS),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def attached_model(path: Path, **noise: str) -> tuple[torch.nn.Module, lorasc.torch.Attached]:
    model = backbone(path)
    attached = lorasc.torch.attach(model, target_modules="query,value", **OPTIONS, **noise)
    model.classifier.requires_grad_(True)
    return model, attached


def peft_model(path: Path, **noise: str) -> tuple[torch.nn.Module, lorasc.torch.Cascade]:
    config = peft.LoraConfig(
        r=OPTIONS["r"],
        lora_alpha=OPTIONS["lora_alpha"],
        target_modules=["query", "value"],
        modules_to_save=["classifier"],
    )
    model = peft.get_peft_model(backbone(path), config)
    options = {key: OPTIONS[key] for key in ("adapter_seed", "seed", "noise", "slow_rate")}
    return model, lorasc.torch.Cascade(model, **options, **noise)


MODELS = {"attach": attached_model, "peft": peft_model}


def train(
    kind: str,
    path: Path,
    output: Path,
    resume: Path | None = None,
    noise_lifetime: str = "removed",
    **changes: Any,
) -> tuple[torch.nn.Module, Watch]:
    model, attached = MODELS[kind](path, noise_lifetime=noise_lifetime)
    examples, collator = rows(path)
    watch = Watch(attached)
    settings = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "save_steps": 8,
        "report_to": "none",
        "use_cpu": True,
        "seed": 1,
        "disable_tqdm": True,
        "logging_strategy": "no",
    }
    trainer = Trainer(
        model,
        TrainingArguments(str(output), **(settings | changes)),
        train_dataset=examples,
        data_collator=collator,
        callbacks=[lorasc.torch.CascadeCallback(attached), watch],
    )
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return model, watch


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: values.detach().clone() for name, values in model.state_dict().items()}


@pytest.mark.parametrize("lifetime", ["removed", "per_step"])
@pytest.mark.parametrize("kind", MODELS)
def test_cascades_and_resuming(kind: str, lifetime: str, minilm_path: Path, tmp_path: Path) -> None:
    model, watch = train(kind, minilm_path, tmp_path / "whole", noise_lifetime=lifetime)
    length = STEPS // EPOCHS
    # The last cascade's end is left to the host.
    assert watch.cascades == [min(EPOCHS, step // length + 1) for step in range(1, STEPS + 1)]
    # A boundary's re-warm-up: one step of a tenth of a cascade at half the rate.
    assert watch.rates == [
        1e-3 if step > 0 and step % length == 0 else 2e-3 for step in range(STEPS)
    ]
    expected = weights(model)

    # Step 8 is within the second cascade.
    checkpoint = tmp_path / "whole" / "checkpoint-8"
    again, resumed = train(
        kind, minilm_path, tmp_path / "whole", checkpoint, noise_lifetime=lifetime
    )
    assert resumed.cascades == watch.cascades[8:]
    assert resumed.rates == watch.rates[8:]
    found = weights(again)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def test_both_ways_train_alike(minilm_path: Path, tmp_path: Path) -> None:
    """The same procedure from other random starts learns the same rows."""
    for kind in MODELS:
        model, _ = train(kind, minilm_path, tmp_path / kind, num_train_epochs=6, save_strategy="no")
        examples, collator = rows(minilm_path)
        batch = collator(examples)
        with torch.no_grad():
            found = model.eval()(**batch)
        untrained = backbone(minilm_path).eval()(**batch)
        assert found.loss < 0.9 * untrained.loss, kind


def test_damaged_states(minilm_path: Path, tmp_path: Path) -> None:
    """A checkpoint without the cascades' state, or of another run, is no start."""
    train("attach", minilm_path, tmp_path, save_steps=4, max_steps=4)
    state = tmp_path / "checkpoint-4" / "lorasc_state.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[:-8])
    with pytest.raises(lorasc.FormatError):
        train("attach", minilm_path, tmp_path, tmp_path / "checkpoint-4")
    state.unlink()
    with pytest.raises(lorasc.NotFoundError, match="lorasc_state"):
        train("attach", minilm_path, tmp_path, tmp_path / "checkpoint-4")
