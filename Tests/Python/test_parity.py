"""Loss, gradients and optimizer steps against PyTorch, transformers and PEFT."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SIZES, make_tiny, random_rows, relative_error

import lorasc

from reference import Reference, classification_loss, regression_loss

LIMIT = 1e-4
"""Norm-wise relative error in float32."""

CASES: dict[str, dict[str, Any]] = {
    "mean_linear": {},
    "classifier": {"head": "classifier"},
    "all-linear": {"targets": "all-linear"},
    "classifier-all-linear": {"head": "classifier", "targets": "all-linear", "r": 4},
    "class_weights": {"loss": {"class_weights": [0.5, 1.0, 2.0, 3.0] + [1.0] * 6}},
    "label_smoothing": {"loss": {"label_smoothing": 0.1}},
    "weights-and-smoothing": {
        "head": "classifier",
        "loss": {"class_weights": [0.1 + 0.3 * i for i in range(10)], "label_smoothing": 0.2},
    },
    "regression": {"num_labels": 1, "regression": True},
    "regression-classifier": {"num_labels": 3, "regression": True, "head": "classifier"},
    "rslora": {"use_rslora": True, "r": 16, "lora_alpha": 4},
}


class Pair:
    """The engine's trainer and the reference, from the same start on the same data."""

    def __init__(
        self,
        model: lorasc.Model,
        *,
        num_labels: int = 10,
        regression: bool = False,
        head: str = "mean_linear",
        targets: str = "query,value",
        loss: dict[str, Any] | None = None,
        **shape: Any,
    ) -> None:
        self.regression = regression
        self.loss_options = loss or {}
        self.reference = Reference(
            model.path, num_labels, head, targets, **({"r": 8, "lora_alpha": 16} | shape)
        )
        self.adapter = lorasc.Adapter(
            model,
            method="lora",
            head=head,
            num_labels=num_labels,
            target_modules=targets,
            problem_type="regression" if regression else "single_label_classification",
            adapter_seed=3,
            **shape,
        )
        # B starts at 0, where A's gradients are 0: random values show more
        random = np.random.default_rng(11)
        for name, info in self.adapter.tensors().items():
            if "lora_B" in name:
                self.adapter[name] = random.normal(0, 0.02, info.shape)
        self.reference.load_from(self.adapter)
        self.trainer = lorasc.Trainer(
            model,
            self.adapter,
            schedule="constant",
            learning_rate=2e-3,
            weight_decay=0.01,
            max_grad_norm=1,
            **self.loss_options,
        )
        self.parameters = self.reference.tensors()
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=2e-3, weight_decay=0.01, eps=1e-8
        )

    def reference_loss(self, batch: lorasc.Batch) -> torch.Tensor:
        logits = self.reference(batch)
        if self.regression:
            return regression_loss(logits, batch)
        return classification_loss(logits, batch, **self.loss_options)

    def check_gradients(self, batch: lorasc.Batch) -> None:
        """Compares logits, the loss and every gradient."""
        with torch.no_grad():
            logits = self.reference(batch).numpy()
        assert relative_error(self.adapter.predict(batch), logits) < LIMIT
        loss = self.reference_loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        stats = self.trainer.accumulate(batch)
        assert stats.loss == pytest.approx(loss.item(), rel=LIMIT)
        largest = max(p.grad.norm().item() for p in self.parameters.values() if p.grad is not None)
        for name, parameter in self.parameters.items():
            ours = self.trainer.gradient(name)
            theirs = np.zeros_like(ours) if parameter.grad is None else parameter.grad.numpy()
            if np.linalg.norm(theirs) < 1e-6 * largest:
                # A gradient that is 0 in exact arithmetic, as a key bias's, is rounding in both
                assert np.linalg.norm(ours) < 1e-5 * largest, name
            else:
                assert relative_error(ours, theirs) < LIMIT, name
        self.trainer.discard_gradients()

    def step(self, batch: lorasc.Batch) -> tuple[float, float]:
        """One AdamW step of both; their losses before it."""
        loss = self.reference_loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.trainer.accumulate(batch)
        stats = self.trainer.apply()
        assert stats.gradient_norm == pytest.approx(norm.item(), rel=1e-3)
        return stats.loss, loss.item()


def with_targets(batch: lorasc.Batch, columns: int) -> lorasc.Batch:
    """The batch with random regression targets in place of its labels."""
    targets = np.random.default_rng(1).normal(size=(len(batch), columns)).astype(np.float32)
    return lorasc.Batch.packed(
        batch.tokens, batch.offsets, token_types=batch.token_types, targets=targets
    )


@pytest.mark.parametrize("case", CASES)
def test_minilm_loss_gradients_and_ten_steps(
    minilm: lorasc.Model, quotations: dict[str, lorasc.Batch], case: str
) -> None:
    options = CASES[case]
    pair = Pair(minilm, **options)
    train = quotations["train"]
    if options.get("regression"):
        train = with_targets(train, options["num_labels"])
    batches = [train[i : i + 6] for i in range(0, 60, 6)]
    pair.check_gradients(batches[0])
    for batch in batches:
        ours, theirs = pair.step(batch)
        assert ours == pytest.approx(theirs, rel=LIMIT)


ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"]


@pytest.mark.parametrize("seed", range(12))
def test_random_small_configurations(tmp_path: Path, seed: int) -> None:
    """Sizes, activations, heads, targets and losses drawn at random."""
    random = np.random.default_rng(seed)

    def pick(*values: Any) -> Any:
        return values[random.integers(len(values))]

    heads = int(pick(1, 2, 3, 4))
    head = pick("mean_linear", "classifier")
    prefixed = bool(pick(True, False))
    path = make_tiny(
        tmp_path,
        num_labels=3 if prefixed else 0,
        seed=seed,
        num_attention_heads=heads,
        hidden_size=heads * int(pick(4, 8, 10, 16)),
        intermediate_size=int(pick(17, 48, 64)),
        num_hidden_layers=int(pick(1, 2, 3)),
        layer_norm_eps=float(pick(1e-12, 1e-5)),
        hidden_act=pick("gelu", "relu"),
    )
    regression = bool(pick(True, False, False))
    num_labels = int(pick(1, 2, 5)) if regression else int(pick(2, 3, 5))
    with lorasc.Model(path) as model:
        pair = Pair(
            model,
            num_labels=num_labels,
            regression=regression,
            head=head,
            targets=pick(
                "query,value", "all-linear", "query,key,value,dense", "intermediate.dense"
            ),
            r=int(pick(1, 2, 4)),
            lora_alpha=float(pick(1, 8, 16)),
            use_rslora=bool(pick(True, False)),
        )
        batch = random_rows(
            random,
            9,
            labels=0 if regression else num_labels,
            targets=num_labels if regression else 0,
            longest=SIZES["max_position_embeddings"],
            token_types=bool(pick(True, False)),
        )
        pair.check_gradients(batch)
        for _ in range(3):
            ours, theirs = pair.step(batch)
            assert ours == pytest.approx(theirs, rel=2 * LIMIT)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(tmp_path: Path, activation: str) -> None:
    path = make_tiny(tmp_path, hidden_act=activation)
    with lorasc.Model(path) as model:
        Pair(model, num_labels=3, targets="all-linear").check_gradients(
            random_rows(np.random.default_rng(0), 5, labels=3)
        )


def test_row_weights_and_ignored_labels(tiny: lorasc.Model, rows: lorasc.Batch) -> None:
    pair = Pair(tiny, num_labels=3)
    weights = np.linspace(0, 2, len(rows)).astype(np.float32)
    labels = rows.labels.copy()
    labels[::5] = lorasc.IGNORED
    batch = lorasc.Batch.packed(rows.tokens, rows.offsets, labels=labels, row_weights=weights)
    counted = labels != lorasc.IGNORED
    losses = torch.nn.functional.cross_entropy(
        pair.reference(rows), torch.from_numpy(rows.labels.astype(np.int64)), reduction="none"
    )
    used = torch.from_numpy(weights * counted)
    expected = (losses * used).sum() / used.sum()
    expected.backward()
    stats = pair.trainer.accumulate(batch)
    assert stats.loss == pytest.approx(expected.item(), rel=LIMIT)
    assert stats.loss_weight == pytest.approx(used.sum().item(), rel=1e-6)
    for name, parameter in pair.parameters.items():
        assert relative_error(pair.trainer.gradient(name), parameter.grad.numpy()) < LIMIT


@pytest.mark.parametrize(
    ("options", "make"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        ),
        (
            {"optimizer": "sgd", "momentum": 0},
            lambda p: torch.optim.SGD(p, lr=0.05),
        ),
        (
            {"optimizer": "adamw", "beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
        ),
    ],
    ids=["sgd-momentum", "sgd", "adamw"],
)
def test_optimizers(
    tiny: lorasc.Model,
    rows: lorasc.Batch,
    options: dict[str, Any],
    make: Callable[..., torch.optim.Optimizer],
) -> None:
    pair = Pair(tiny, num_labels=3)
    pair.trainer.close()
    pair.trainer = lorasc.Trainer(
        tiny, pair.adapter, learning_rate=0.05, schedule="constant", max_grad_norm=1, **options
    )
    pair.optimizer = make(pair.parameters.values())
    for _ in range(10):
        ours, theirs = pair.step(rows)
        assert ours == pytest.approx(theirs, rel=LIMIT)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 4}, {"warmup_ratio": 0.23}])
def test_schedules_are_those_of_transformers(
    trainer_of, rows: lorasc.Batch, schedule: str, warmup: dict[str, float]
) -> None:
    from transformers import get_scheduler

    trainer = trainer_of(
        method="lora", schedule=schedule, max_steps=20, learning_rate=0.01, **warmup
    )
    trainer.run(rows)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    # Rounded up, as transformers' TrainingArguments does
    steps = math.ceil(warmup.get("warmup_steps", 20 * warmup.get("warmup_ratio", 0)))
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, steps, 20)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(trainer.history.learning_rate, expected, rtol=1e-6, atol=1e-12)


def test_initial_values_are_pefts(minilm: lorasc.Model) -> None:
    """A uniform in ±1/√in, B zero, as PEFT's default."""
    adapter = lorasc.Adapter(minilm, num_labels=10, r=8, target_modules="query,output.dense")
    for name, info in adapter.tensors().items():
        values = adapter[name]
        if "lora_B" in name:
            assert not values.any()
        elif "lora_A" in name:
            bound = 1 / np.sqrt(info.shape[1])
            assert np.abs(values).max() <= bound
            assert np.abs(values).max() > 0.98 * bound
            assert abs(values.mean()) < 0.1 * bound
            assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    first = lorasc.Adapter(minilm, num_labels=10, adapter_seed=1)
    other = lorasc.Adapter(minilm, num_labels=10, adapter_seed=2)
    same = lorasc.Adapter(minilm, num_labels=10, adapter_seed=1)
    name = "encoder.layer.0.attention.self.query.lora_A.weight"
    np.testing.assert_array_equal(first[name], same[name])
    assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize(
    "targets",
    [
        ["query"],
        ["attention.output.dense"],
        ["layer.1.attention.self.key", "intermediate.dense"],
        r".*layer\.[01]\.attention\.self\.(query|value)",
        "all-linear",
    ],
)
def test_target_rules_match_what_peft_matches(tiny: lorasc.Model, targets: Any) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = get_peft_model(
        AutoModel.from_pretrained(tiny.path), LoraConfig(target_modules=targets, r=2)
    )
    theirs = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
        for name, _ in model.named_parameters()
        if "lora_A" in name
    }
    adapter = lorasc.Adapter(tiny, target_modules=targets, r=2, head="classifier")
    ours = {name.removesuffix(".lora_A.weight") for name in adapter.tensors() if "lora_A" in name}
    assert ours == theirs
    assert adapter.matched.matched == len(theirs)


def test_random_configurations_of_all_methods(repository: Path, tmp_path: Path) -> None:
    """What `make parity` does at length: each architecture twice, each method too."""
    report = tmp_path / "report.json"
    command = [sys.executable, repository / "Tests" / "parity" / "parity.py", "--report", report]
    names = ["bert", "roberta", "xlm-roberta", "distilbert", "llama", "mistral", "qwen2", "gpt2"]
    names += ["vit", "deit"]
    result = subprocess.run(
        [*command, "--count", "20", "--seed", "1", "--architectures", *names, "minilm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    found = json.loads(report.read_text())
    assert (found["count"], found["failed"]) == (23, 0)
    expected = {name: {"count": 2, "failed": 0} for name in names}
    expected["bert (minilm)"] = {"count": 3, "failed": 0}
    assert found["architectures"] == expected
