"""Matrix products of OpenBLAS and of oneDNN, and of oneDNN's in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cascades import MODULE, assert_same_bits
from test_resume import stop_at
from tiny import relative_error
from transformers import LlamaConfig, LlamaForCausalLM

import lorasc

METHODS = {
    "lora": {"pack_weights": "on"},
    "lora, weights as they are": {"pack_weights": "off"},
    "all modules, dropout": {
        "target_modules": "all-linear",
        "pack_weights": "on",
        "lora_dropout": 0.1,
        "hidden_dropout": 0.1,
    },
    "dora": {"use_dora": True, "pack_weights": "on"},
    "lorasc": {
        "method": "lorasc",
        "pack_weights": "on",
        "cascade_unit": "step",
        "cascade_length": 3,
    },
    "noise of each step": {
        "method": "lorasc",
        "noise_lifetime": "per_step",
        "pack_weights": "on",
        "cascade_unit": "step",
        "cascade_length": 4,
    },
    "factors": {
        "method": "lorasc",
        "cascade_unit": "step",
        "cascade_length": 3,
        "master_weights": "factors",
        "pack_weights": "on",
    },
    "a matrix in full": {
        "modules_to_save": "encoder.layer.0.output.dense",
        "pack_weights": "on",
    },
}


@pytest.fixture(params=["float32", "bfloat16"])
def held_as(request: pytest.FixtureRequest) -> str:
    """What the model's matrices are held in."""
    return request.param


@pytest.fixture
def models(tiny_path: Path, held_as: str) -> Iterator[dict[str, lorasc.Model]]:
    """The small model with both libraries."""
    found = {
        products: lorasc.Model(tiny_path, products=products, dtype=held_as)
        for products in ("openblas", "onednn")
    }
    yield found
    for model in found.values():
        model.close()


def run(trainer: lorasc.Trainer, rows: lorasc.Batch) -> list[float]:
    trainer.run(rows)
    return trainer.history.loss.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_libraries_agree(trainer_of, rows: lorasc.Batch, models, method: str) -> None:
    losses, merged = {}, {}
    for products, model in models.items():
        assert model.info.products == products
        trainer = trainer_of(model, epochs=2, **METHODS[method])
        losses[products] = run(trainer, rows)
        merged[products] = trainer.merged(f"{MODULE}.weight")
    np.testing.assert_allclose(losses["onednn"], losses["openblas"], rtol=2e-5)
    assert relative_error(merged["onednn"], merged["openblas"]) < 1e-4
    assert min(losses["openblas"]) < losses["openblas"][0]


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_stays_near_float32(trainer_of, rows: lorasc.Batch, models, method: str) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        trainer = trainer_of(models["onednn"], epochs=4, compute_dtype=dtype, **METHODS[method])
        losses[dtype] = run(trainer, rows)
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.03)


@pytest.fixture(scope="module")
def many_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose output layer is packed by blocks, the last of them narrower."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 20_011, "hidden_size": 32, "intermediate_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    path = tmp_path_factory.mktemp("many_words")
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=False)).save_pretrained(path)
    return path


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("targets", ["q_proj,v_proj", "v_proj,lm_head"])
def test_long_output_layers_agree(many_words: Path, targets: str, use_dora: bool) -> None:
    """Packed by blocks or not, in either type, an expert on the layer itself or not."""
    words = np.random.default_rng(0).integers(1, 20_011, (12, 30))
    losses = {}
    for kind, options in {
        "as it is": {"pack_weights": "off"},
        "packed": {"pack_weights": "on"},
        "bfloat16": {"compute_dtype": "bfloat16"},
    }.items():
        with (
            lorasc.Model(many_words, products="onednn") as model,
            lorasc.Adapter(
                model, head="lm", target_modules=targets, r=4, use_dora=use_dora
            ) as adapter,
            lorasc.Trainer(model, adapter, learning_rate=5e-3, epochs=5, **options) as trainer,
        ):
            losses[kind] = run(trainer, lorasc.Batch(words.tolist()))
    np.testing.assert_allclose(losses["packed"], losses["as it is"], rtol=1e-5)
    np.testing.assert_allclose(losses["bfloat16"], losses["as it is"], rtol=1e-3)
    assert losses["as it is"][-1] < losses["as it is"][0]


def test_threads_give_the_same_bits(trainer_of, rows: lorasc.Batch, models) -> None:
    for dtype in ("float32", "bfloat16"):
        trainers = [
            trainer_of(
                models["onednn"],
                threads=threads,
                compute_dtype=dtype,
                pack_weights="on",
                epochs=2,
                method="lorasc",
                target_modules="all-linear",
            )
            for threads in (1, 2, 3)
        ]
        for trainer in trainers:
            trainer.run(rows)
            assert_same_bits(trainers[0], trainer)


def test_resumed_run_has_the_same_bits(
    trainer_of, rows: lorasc.Batch, models, tmp_path: Path
) -> None:
    options = {
        "compute_dtype": "bfloat16",
        "epochs": 3,
        "method": "lorasc",
        "cascade_unit": "step",
        "cascade_length": 4,
    }
    whole, first, second = (trainer_of(models["onednn"], **options) for _ in range(3))
    whole.run(rows)
    stop_at(first, rows, 7)
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    second.run(rows)
    assert_same_bits(whole, second)
    other = trainer_of(models["onednn"], **options | {"compute_dtype": "float32"})
    with pytest.raises(lorasc.LorascError, match="compute_dtype"):
        other.resume(tmp_path / "state")


def test_evaluating_between_steps_changes_nothing(trainer_of, rows: lorasc.Batch, models) -> None:
    for dtype in ("float32", "bfloat16"):
        plain, evaluated = (
            trainer_of(
                models["onednn"], compute_dtype=dtype, pack_weights="on", schedule="constant"
            )
            for _ in range(2)
        )
        for _ in range(5):
            for trainer in (plain, evaluated):
                trainer.accumulate(rows)
                trainer.apply()
            evaluated.evaluate(rows)
        assert_same_bits(plain, evaluated)


def test_bfloat16_without_onednn_is_refused(trainer_of, models) -> None:
    with pytest.raises(lorasc.LorascError, match="oneDNN") as caught:
        trainer_of(models["openblas"], compute_dtype="bfloat16")
    assert caught.value.subject == "compute_dtype"
    with pytest.raises(lorasc.OptionError, match="products"):
        lorasc.Model("anywhere", products="mkl")
