"""Generation: against transformers, against merged folders, as text, and with bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, VOCABULARY, save
from transformers import AutoModelForCausalLM
from transformers.generation import logits_process

import lorasc

DECODERS = [
    "llama",
    "llama-tied-llama3",
    "llama-linear",
    "llama-dynamic",
    "mistral",
    "qwen2-yarn",
    "qwen2-window",
    "gpt2",
]
POSITIONS = 96
NEW = 64


@pytest.fixture(autouse=True)
def one_thread_of_torch() -> Iterator[None]:
    """Small models are faster on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes folders of small random decoders that have room for a longer text."""

    def make(name: str, **options: object) -> Path:
        form = ARCHITECTURES[name]
        key = "n_positions" if name == "gpt2" else "max_position_embeddings"
        monkeypatch.setitem(ARCHITECTURES, name, replace(form, sizes=form.sizes | {key: POSITIONS}))
        return save(name, "lm", tmp_path / name, **options)

    return make


def peer_of(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
)
"""For SmolLM2."""


def continue_greedily(
    peer: torch.nn.Module, prompt: list[int], count: int, **options: object
) -> list[int]:
    """Transformers' tokens."""
    ids = torch.tensor([prompt])
    given = {"do_sample": False, "max_new_tokens": count, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        return peer.generate(ids, **(given | options))[0, len(prompt) :].tolist()


def random_prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, VOCABULARY, length).tolist()


def adapt(model: lorasc.Model, name: str, **options: object) -> lorasc.Adapter:
    """An adapter with the head lm whose B is not zero."""
    given = {"head": "lm", "r": 4, "target_modules": ",".join(ARCHITECTURES[name].targets)}
    adapter = lorasc.Adapter(model, **(given | options))
    random = np.random.default_rng(1)
    for tensor, info in adapter.tensors().items():
        if "lora_B" in tensor:
            adapter[tensor] = random.normal(0, 0.2, info.shape).astype(np.float32)
    return adapter


# ---- Against transformers ----------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_tokens_are_those_of_transformers(name: str, decoder) -> None:
    folder = decoder(name)
    peer = peer_of(folder)
    with lorasc.Model(folder) as model:
        for length in (1, 7, 25):
            prompt = random_prompt(length, seed=length)
            expected = continue_greedily(peer, prompt, NEW, eos_token_id=None)
            made = model.generate(prompt, NEW, stop_tokens=[])
            assert made.tokens == expected
            assert not made.stopped
            # By default both end before, or with, the configuration's eos_token_id.
            expected = continue_greedily(peer, prompt, NEW)
            eos = peer.generation_config.eos_token_id
            made = model.generate(prompt, NEW)
            assert made.tokens == [token for token in expected if token != eos]
            assert made.stopped == (expected[-1] == eos)


def test_smollm2_goes_on_as_in_transformers(smollm2: lorasc.Model) -> None:
    peer = AutoModelForCausalLM.from_pretrained(smollm2.path).eval()
    for prompt in PROMPTS:
        ids = smollm2.tokenizer.encode(prompt).ids
        expected = continue_greedily(peer, ids, 32)
        made = smollm2.generate(prompt, 32)
        assert made.tokens == [
            token for token in expected if token != smollm2.config["eos_token_id"]
        ]
        assert made.text == smollm2.tokenizer.decode(made.tokens)


def test_repetition_penalty_is_that_of_transformers(decoder) -> None:
    folder = decoder("llama")
    peer = peer_of(folder)
    prompt = random_prompt(9)
    plain = continue_greedily(peer, prompt, NEW, eos_token_id=None)
    for penalty in (0.8, 1.3, 2.0):
        expected = continue_greedily(
            peer, prompt, NEW, eos_token_id=None, repetition_penalty=penalty
        )
        assert expected != plain
        with lorasc.Model(folder) as model:
            made = model.generate(prompt, NEW, repetition_penalty=penalty, stop_tokens=[])
        assert made.tokens == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.0, "top_k": 7},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.5},
    ],
)
def test_draws_follow_the_distribution_of_transformers(settings: dict, decoder) -> None:
    """Chi squared of 3,000 draws with fixed seeds against transformers' processors."""
    folder = decoder("llama")
    prompt = random_prompt(6)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        scores = peer_of(folder)(ids).logits[:, -1]
    warpers = {
        "repetition_penalty": logits_process.RepetitionPenaltyLogitsProcessor,
        "temperature": logits_process.TemperatureLogitsWarper,
        "top_k": logits_process.TopKLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
    }
    for key, warper in warpers.items():
        if key in settings:
            scores = warper(settings[key])(ids, scores)
    probabilities = scores.softmax(-1)[0].double().numpy()

    draws = 3000
    with lorasc.Model(folder, threads=1) as model:
        found = [
            model.generate(prompt, 1, seed=seed, stop_tokens=[], **settings).tokens[0]
            for seed in range(draws)
        ]
    counts = np.bincount(found, minlength=VOCABULARY)
    assert counts[probabilities == 0].sum() == 0
    # Cells that expect fewer than 5 draws are counted as one.
    expected = draws * probabilities
    small = expected < 5
    cells = np.append(counts[~small], counts[small].sum())
    means = np.append(expected[~small], expected[small].sum())
    used = means > 0
    statistic = ((cells[used] - means[used]) ** 2 / means[used]).sum()
    freedom = used.sum() - 1
    assert freedom >= 4
    # Chi squared's mean is its degrees of freedom, its variance twice that.
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


# ---- Adapters ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2-yarn", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_generates_as_its_merged_folder(name, method, decoder, tmp_path: Path) -> None:
    with lorasc.Model(decoder(name)) as model:
        adapter = adapt(model, name, method=method)
        prompt = random_prompt(8)
        made = adapter.generate(prompt, NEW, stop_tokens=[])
        assert made.tokens != model.generate(prompt, NEW, stop_tokens=[]).tokens
        adapter.merge(tmp_path / "merged")
        with lorasc.Model(tmp_path / "merged") as merged:
            assert merged.generate(prompt, NEW, stop_tokens=[]) == made
        expected = continue_greedily(peer_of(tmp_path / "merged"), prompt, NEW, eos_token_id=None)
        assert made.tokens == expected


def test_a_saved_adapter_generates_the_same(decoder, tmp_path: Path) -> None:
    with lorasc.Model(decoder("llama")) as model:
        adapter = adapt(model, "llama")
        adapter.save(tmp_path / "adapter")
        again = lorasc.Adapter.load(model, tmp_path / "adapter")
        prompt = random_prompt(8)
        expected = adapter.generate(prompt, NEW, temperature=0.7, seed=2)
        assert again.generate(prompt, NEW, temperature=0.7, seed=2) == expected


def test_scale_and_cascades_are_in_what_generates(decoder, tmp_path: Path) -> None:
    with lorasc.Model(decoder("llama")) as model:
        adapter = adapt(model, "llama", method="lorasc", target_modules="q_proj,down_proj")
        trainer = lorasc.Trainer(
            model, adapter, epochs=3, learning_rate=3e-2, batch_size=2, slow_rate=0.7
        )
        rows = [random_prompt(12, seed) for seed in range(6)]
        trainer.run(lorasc.Batch(rows))
        prompt = random_prompt(8)
        base = model.generate(prompt, NEW, stop_tokens=[])
        for scale in (1, 0.3, 0):
            adapter.scale = scale
            adapter.merge(tmp_path / str(scale))
            with lorasc.Model(tmp_path / str(scale)) as merged:
                expected = merged.generate(prompt, NEW, stop_tokens=[])
            assert adapter.generate(prompt, NEW, stop_tokens=[]) == expected
            assert (expected == base) == (scale == 0)
        trainer.close()


def test_any_number_of_threads_gives_the_same_tokens(smollm2: lorasc.Model) -> None:
    made = set()
    for threads in (1, 2, 3):
        with lorasc.Model(smollm2.path, threads=threads) as model:
            generation = model.generate("Once upon a time", 24, temperature=1.0, top_p=0.95, seed=3)
            made.add(tuple(generation.tokens))
    assert len(made) == 1


# ---- Texts -------------------------------------------------------------------------


def test_pieces_make_the_text_and_a_stop_string_ends_it(smollm2: lorasc.Model) -> None:
    pieces: list[str] = []
    tokens: list[int] = []
    whole = smollm2.generate(
        "Once upon a time", 48, stop_tokens=[], on_token=tokens.append, on_text=pieces.append
    )
    assert "".join(pieces) == whole.text == str(whole)
    assert tokens == whole.tokens
    assert len(pieces) > 20
    assert all(pieces)
    for stop in (whole.text[10:13], whole.text[7:40], [whole.text[30:50], whole.text[20:29]]):
        pieces.clear()
        cut = smollm2.generate(
            "Once upon a time", 48, stop_tokens=[], stop=stop, on_text=pieces.append
        )
        first = min(whole.text.find(text) for text in ([stop] if isinstance(stop, str) else stop))
        assert cut.text == whole.text[:first] == "".join(pieces)
        assert cut.stopped
        assert cut.tokens == whole.tokens[: len(cut.tokens)]
        assert len(cut.tokens) < 48
    ids = smollm2.tokenizer.encode("Once upon a time").ids
    assert smollm2.generate(ids, 48, stop_tokens=[]) == whole
    assert smollm2.generate(np.array(ids), 48, stop_tokens=[]) == whole


def test_a_folder_without_a_tokenizer_takes_ids(decoder) -> None:
    with lorasc.Model(decoder("gpt2")) as model:
        made = model.generate([5, 6], 4, stop_tokens=[])
        assert made.text is None
        assert str(made) == str(made.tokens)
        for bad in ({"stop": "x"}, {"on_text": print}):
            with pytest.raises(lorasc.NotFoundError):
                model.generate([5, 6], 4, **bad)
        with pytest.raises(lorasc.NotFoundError):
            model.generate("text", 4)


# ---- Callbacks ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_comes_out_unchanged(kind: type, decoder) -> None:
    mine = kind("mine")
    seen: list[int] = []

    def fail(token: int) -> None:
        seen.append(token)
        if len(seen) == 3:
            raise mine

    with lorasc.Model(decoder("llama")) as model:
        with pytest.raises(kind) as caught:
            model.generate([4], NEW, stop_tokens=[], on_token=fail)
        assert caught.value is mine
        assert len(seen) == 3
        assert len(model.generate([4], NEW, stop_tokens=[]).tokens) == NEW


def test_an_exception_of_on_text_comes_out_too(smollm2: lorasc.Model) -> None:
    mine = ValueError("mine")

    def fail(text: str) -> None:
        raise mine

    with pytest.raises(ValueError, match="mine") as caught:
        smollm2.generate("Hello", 8, on_text=fail)
    assert caught.value is mine


def test_the_callbacks_answer_is_ignored(decoder) -> None:
    with lorasc.Model(decoder("llama")) as model:
        made = model.generate([4], 8, stop_tokens=[], on_token=lambda token: True)
        assert len(made.tokens) == 8


def test_a_callback_may_use_the_library(decoder) -> None:
    with lorasc.Model(decoder("llama")) as model:
        adapter = adapt(model, "llama")
        expected = adapter.generate([4], 12, stop_tokens=[])
        inner: list[lorasc.Generation] = []

        def look(token: int) -> None:
            if not adapter.closed:
                inner.append(adapter.generate([4], 12, stop_tokens=[]))
                adapter.scale = 9
                adapter.close()
            model.predict(lorasc.Batch([[token]]))

        assert adapter.generate([4], 12, stop_tokens=[], on_token=look) == expected
        assert inner == [expected]
        with pytest.raises(lorasc.HandleError):
            adapter.generate([4])


def test_ctrl_c_stops_at_the_next_token(smollm2: lorasc.Model) -> None:
    """At many moments, since Python's signal handlers run at any instruction."""
    for attempt in range(12):
        pressed: list[float] = []

        def press(pressed: list[float] = pressed) -> None:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Timer(0.3 + attempt * 0.011, press).start()
        with pytest.raises(KeyboardInterrupt):
            smollm2.generate("Once upon a time", 2000, stop_tokens=[])
        assert time.monotonic() - pressed[0] < 2


def test_an_adapter_generates_while_it_is_trained(decoder, tmp_path: Path) -> None:
    """In the trainer's callback as if the run ended there; in another thread it is busy."""
    rows = lorasc.Batch([random_prompt(12, seed) for seed in range(4)])
    with lorasc.Model(decoder("llama")) as model:
        adapters = [adapt(model, "llama", adapter_seed=1) for _ in range(2)]
        watched, plain = (
            lorasc.Trainer(
                model,
                adapter,
                epochs=2,
                batch_size=2,
                learning_rate=3e-2,
                schedule="constant",
                cascade_unit="none",
            )
            for adapter in adapters
        )
        seen: list[lorasc.Generation] = []
        statuses: list[str] = []

        def intrude() -> None:
            try:
                adapters[0].generate([4], NEW)
            except lorasc.LorascError as error:
                statuses.append(error.status.name)

        def look(progress: lorasc.Progress) -> None:
            if progress.event is lorasc.Event.STEP:
                seen.append(adapters[0].generate([4], NEW, stop_tokens=[]))
                thread = threading.Thread(target=intrude)
                thread.start()
                thread.join()

        watched.run(rows, progress=look)
        plain.run(rows)
        assert len(seen) == 4
        assert statuses == ["BUSY"] * 4
        assert seen[-1] == plain.adapter.generate([4], NEW, stop_tokens=[])
        assert seen[0] != seen[-1]
        for name in plain.adapter.tensors():
            np.testing.assert_array_equal(watched.adapter[name], plain.adapter[name])


def test_16_bit_weights_generate(decoder) -> None:
    folder = decoder("mistral")
    with lorasc.Model(folder, dtype="bfloat16") as model:
        row = random_prompt(6)
        made = model.generate(row, 20, stop_tokens=[]).tokens
        for token in made:
            logits = model.predict(lorasc.Batch([row]))[0]
            assert logits[token] >= logits.max() - 1e-5
            row.append(token)


# ---- Bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "prompt", "settings"),
    [
        ("SHAPE", [], {}),
        ("TOKEN", [1, -1], {}),
        ("TOKEN", [1, VOCABULARY], {}),
        ("SHAPE", [2**40], {}),
        ("SHAPE", [0.5], {}),
        ("SHAPE", [[1]], {}),
        ("ARGUMENT", [1], {"max_new_tokens": 0}),
        ("ARGUMENT", [1], {"max_new_tokens": -(2**70)}),
        ("LIMIT", [1], {"max_new_tokens": POSITIONS + 1}),
        ("LIMIT", [1], {"max_new_tokens": 2**32 + 1}),
        ("LIMIT", [1] * POSITIONS, {"max_new_tokens": 2}),
        ("ARGUMENT", [1], {"temperature": float("nan")}),
        ("ARGUMENT", [1], {"temperature": -1}),
        ("ARGUMENT", [1], {"top_p": 0}),
        ("ARGUMENT", [1], {"top_p": 1.1}),
        ("ARGUMENT", [1], {"top_k": -1}),
        ("ARGUMENT", [1], {"repetition_penalty": 0}),
        ("ARGUMENT", [1], {"seed": -1}),
        ("ARGUMENT", [1], {"seed": 2**64}),
        ("TOKEN", [1], {"stop_tokens": [VOCABULARY]}),
        ("TOKEN", [1], {"stop_tokens": [-1]}),
    ],
)
def test_bad_input_is_refused(status: str, prompt, settings: dict, decoder) -> None:
    with lorasc.Model(decoder("llama")) as model:
        with pytest.raises(lorasc.LorascError) as caught:
            model.generate(prompt, **({"max_new_tokens": 4} | settings))
        assert caught.value.status.name == status
        # Options of the model that cut rows cut no prompt.
        with lorasc.Model(model.path, truncation="left") as cutting:
            with pytest.raises(lorasc.LorascError) as caught:
                cutting.generate([1] * (POSITIONS + 1), 1)
            assert caught.value.status.name == "LIMIT"


def test_what_has_no_language_head_is_refused(decoder, tiny: lorasc.Model) -> None:
    with pytest.raises(lorasc.StateError, match="head lm"):
        tiny.generate([1], 2)
    with lorasc.Model(decoder("llama")) as model:
        adapter = lorasc.Adapter(model, head="classifier", num_labels=2)
        with pytest.raises(lorasc.StateError, match="classifier"):
            adapter.generate([1], 2)
    with pytest.raises(TypeError):
        tiny.generate([1], 2.5)


@pytest.mark.parametrize("value", ["no", 1.5, [1, "2"], {}])
def test_a_malformed_generation_config_is_named(value: object, decoder) -> None:
    folder = decoder("llama")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with lorasc.Model(folder) as model:
        with pytest.raises(lorasc.FormatError, match=r"generation_config\.json"):
            model.generate([1], 2)
        assert len(model.generate([1], 2, stop_tokens=[]).tokens) == 2


def test_memory_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch) -> None:
    """Keys and values of a million tokens, in a process that may not have them."""
    form = ARCHITECTURES["llama"]
    sizes = form.sizes | {"max_position_embeddings": 1 << 22}
    monkeypatch.setitem(ARCHITECTURES, "llama", replace(form, sizes=sizes))
    folder = save("llama", "lm", tmp_path / "long")
    code = f"""
import resource
import lorasc
model = lorasc.Model({str(folder)!r}, threads=1)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    model.generate([1], 1 << 22)
except lorasc.OutOfMemoryError as error:
    print(error.status.name, error.subject)
print(len(model.generate([1], 5, stop_tokens=[]).tokens))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.split() == ["MEMORY", "plan.key_value_cache", "5"]
