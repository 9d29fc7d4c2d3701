"""LoRASC on a model that the engine doesn't know, in the Hugging Face Trainer.

    python examples/python/torch_trainer.py [--epochs 4] [--rows 400] [--output build/ernie]

ERNIE is BERT with other names, and no architecture of the engine's: here it has MiniLM's weights.
Its linear layers get adapters; the Trainer trains them on Debian's fortunes by topic, and a
callback ends a cascade at each epoch's end. The merged model is saved as transformers saves it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import find_model
from transformers import (
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    ErnieConfig,
    ErnieForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import lorasc.torch

import fortunes


def make_model(folder: Path) -> ErnieForSequenceClassification:
    """ERNIE of MiniLM's sizes, with its weights and a new classifier."""
    bert = AutoModel.from_pretrained(folder)
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    kept += ("intermediate_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps")
    sizes = {key: getattr(bert.config, key) for key in kept}
    torch.manual_seed(0)
    model = ErnieForSequenceClassification(
        ErnieConfig(**sizes, num_labels=len(fortunes.TOPICS), hidden_dropout_prob=0.0)
    )
    model.ernie.load_state_dict(bert.state_dict(), strict=False)
    return model


def encode(tokenizer: Any, part: fortunes.Part, rows: int) -> list[dict[str, Any]]:
    """Examples of a part, as many from each topic."""
    step = max(1, len(part.texts) // rows)
    texts, labels = part.texts[::step], part.labels[::step]
    ids = tokenizer(texts, truncation=True, max_length=32)["input_ids"]
    return [
        {"input_ids": row, "labels": int(label)} for row, label in zip(ids, labels, strict=True)
    ]


def main() -> int:
    """Trains, merges, saves; the exit status is 1 if the saved model predicts otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="a cascade each")
    parser.add_argument("--rows", type=int, default=400, help="texts to train on")
    parser.add_argument("--output", type=Path, default=Path("build/ernie"), help="to write")
    arguments = parser.parse_args()
    folder = find_model("minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = fortunes.load()
    train, test = (encode(tokenizer, parts[name], arguments.rows) for name in ("train", "test"))
    model = make_model(folder)
    attached = lorasc.torch.attach(
        model, method="lorasc", target_modules="query,value", r=8, lora_alpha=16
    )
    model.classifier.requires_grad_(True)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(arguments.output / "run"),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=16,
            learning_rate=3e-3,
            save_strategy="no",
            per_device_eval_batch_size=32,
            eval_strategy="epoch",
            logging_strategy="epoch",
            report_to="none",
            use_cpu=True,
            seed=1,
        ),
        train_dataset=train,
        eval_dataset=test,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda of: {"accuracy": float((of[0].argmax(1) == of[1]).mean())},
        callbacks=[lorasc.torch.CascadeCallback(attached)],
    )
    trainer.train()
    attached.end_cascade()
    expected = trainer.predict(test).predictions
    attached.merge().save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    trainer.model = ErnieForSequenceClassification.from_pretrained(arguments.output)
    found = trainer.predict(test)
    difference = np.abs(found.predictions - expected).max()
    print(f"cascades {attached.cascade - 1}, accuracy {found.metrics['test_accuracy']:.3f}")
    print(f"{arguments.output} opened again: largest difference of a logit {difference:.1e}")
    return 0 if difference < 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
