"""What llama.cpp makes of the engine's GGUF files, by llama-cpp-python built from source.

    python Tests/interop/interop.py [--output build/interop] [--threads 2]

SmolLM2 is trained for some steps from its GGUF file under several adapters. llama.cpp then gets

- the merged file in float32, and the base in float32 with the GGUF LoRA: it must go on with three
  prompts by the very tokens that the engine chooses, greedily;
- the base as it is, quantised, with the GGUF LoRA: it rounds activations to 8 bits there, so its
  logits differ from the engine's. They must do so hardly more than those of the base alone do,
  and by far less than the adapter changes;
- the merged file as Q8_0, in the same way.

Writes report.json; the exit status is 1 where something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "examples" / "python"))

from smollm2 import find_gguf  # noqa: E402

import lorasc  # noqa: E402

import fortunes  # noqa: E402

PROMPTS = (
    "The capital of France is",
    "Hacker, n.:",
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
)
NEW_TOKENS = 32
F32 = 0
"""ggml's number of the type of llama.cpp's cache."""

TIMES_ROUNDING, OF_CHANGE = 2.0, 0.3
"""Where llama.cpp computes in 8 bits: most distance of logits from the engine's, as a multiple of
the distance that the base alone has, and as a share of what the adapter changes."""

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "r": 8},
    "rslora": {"method": "lora", "r": 8, "use_rslora": True, "target_modules": "q_proj,k_proj"},
    "mixed": {
        "method": "lora",
        "r": 8,
        "target_modules": "all-linear",
        "rank_pattern": {"k_proj": 4},
        "alpha_pattern": {"down_proj": 32},
    },
    "lorasc": {"method": "lorasc", "r": 4, "target_modules": "q_proj,k_proj,v_proj,o_proj"},
}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps what llama.cpp writes to stderr, which is its log, out of the way."""
    saved = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


class Peer:
    """A model in llama.cpp, with a float32 cache, and with a LoRA if one is given."""

    def __init__(self, file: Path, threads: int, lora: Path | None = None) -> None:
        with silence():
            self._llama = llama_cpp.Llama(
                str(file),
                lora_path=str(lora) if lora else None,
                n_ctx=256,
                n_threads=threads,
                n_threads_batch=threads,
                logits_all=True,
                flash_attn=False,
                type_k=F32,
                type_v=F32,
                verbose=False,
            )

    def tokens(self, text: str) -> list[int]:
        """Ids of a text by the file's tokenizer."""
        return self._llama.tokenize(text.encode(), add_bos=False, special=True)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Of the token after each (tokens, vocabulary)."""
        self._llama.reset()
        self._llama.eval(ids)
        return np.array(self._llama.scores[: len(ids)], np.float32)

    def continuation(self, ids: list[int]) -> list[int]:
        """The likeliest tokens, one after another."""
        made = [int(self.logits(ids)[-1].argmax())]
        while len(made) < NEW_TOKENS:
            self._llama.eval(made[-1:])
            made.append(int(self._llama.scores[self._llama.n_tokens - 1].argmax()))
        return made

    def close(self) -> None:
        """Frees the model."""
        self._llama.close()


def train(model: lorasc.Model, options: dict[str, Any], steps: int = 12) -> lorasc.Adapter:
    """An adapter that has learned a little of Debian's fortunes."""
    adapter = lorasc.Adapter(model, head="lm", **options)
    cascades = {"cascade_unit": "step", "cascade_length": steps // 2}
    texts = fortunes.load()["train"].texts[: 4 * steps]
    with lorasc.Trainer(
        model,
        adapter,
        batch_size=4,
        max_batch_tokens=256,
        learning_rate=2e-3,
        schedule="constant",
        max_steps=steps,
        **(cascades if options["method"] == "lorasc" else {}),
    ) as trainer:
        trainer.run(model.encode(texts, 48))
    return adapter


def compare_tokens(name: str, peer: Peer, expected: list[list[int]], ids: list[list[int]]) -> Any:
    """Whether greedy tokens are the same, all of them."""
    found = [peer.continuation(row) for row in ids]
    same = [
        sum(a == b for a, b in zip(one, other, strict=True))
        for one, other in zip(found, expected, strict=True)
    ]
    passed = found == expected
    print(f"  {name}: {same} of {NEW_TOKENS} tokens the same {verdict(passed)}", flush=True)
    return {"same_tokens": same, "passed": passed}


def compare_logits(
    name: str,
    peer: Peer,
    expected: list[np.ndarray],
    base: list[np.ndarray],
    ids: list[list[int]],
    rounding: float,
) -> Any:
    """How far logits are from the engine's, relative to them."""
    found = [peer.logits(row) for row in ids]
    distance = norm(found, expected) / norm(expected)
    change = norm(base, expected) / norm(expected)
    passed = distance <= TIMES_ROUNDING * rounding and distance <= OF_CHANGE * change
    print(
        f"  {name}: logits {distance:.1e} from the engine's, the base's {rounding:.1e}, "
        f"{distance / change:.0%} of the adapter's change {verdict(passed)}",
        flush=True,
    )
    return {"distance": distance, "base": rounding, "change": change, "passed": passed}


def norm(values: list[np.ndarray], minus: list[np.ndarray] | None = None) -> float:
    """Euclidean norm of all values, or of the differences."""
    flat = np.concatenate([one.ravel() for one in values])
    if minus is not None:
        flat = flat - np.concatenate([one.ravel() for one in minus])
    return float(np.linalg.norm(flat.astype(np.float64)))


def verdict(passed: bool) -> str:
    """For the line of a check."""
    return "ok" if passed else "FAILED"


def check(model: lorasc.Model, name: str, output: Path, threads: int) -> dict[str, Any]:
    """All comparisons for one adapter."""
    print(f"{name}: {ADAPTERS[name]}", flush=True)
    adapter = train(model, ADAPTERS[name])
    lora, merged, small = (output / f"{name}-{part}.gguf" for part in ("lora", "f32", "q8_0"))
    adapter.export(lora, "gguf")
    adapter.merge(merged, dtype="f32")
    adapter.merge(small, dtype="q8_0")
    ids = [model.tokenizer.encode(prompt).ids for prompt in PROMPTS]
    batch = lorasc.Batch(ids)
    tokens = [adapter.generate(row, NEW_TOKENS, stop_tokens=[]).tokens for row in ids]
    ends = np.cumsum([len(row) for row in ids])[:-1]
    logits = np.split(adapter.predict(batch, "token_logits"), ends)
    base = np.split(model.predict(batch, "token_logits"), ends)
    changed = sum(
        model.generate(row, NEW_TOKENS, stop_tokens=[]).tokens != own
        for row, own in zip(ids, tokens, strict=True)
    )
    print(f"  the adapter changes the tokens of {changed} prompts of {len(ids)}")
    file = Path(model.path)
    peer = Peer(file, threads)
    rounding = norm([peer.logits(row) for row in ids], base) / norm(base)
    peer.close()
    found: dict[str, Any] = {"changed_prompts": changed}
    for what, path, with_lora, exact in (
        ("merged, float32", merged, None, True),
        ("float32 base with the LoRA", output / "base-f32.gguf", lora, True),
        ("quantised base with the LoRA", file, lora, False),
        ("merged, Q8_0", small, None, False),
    ):
        peer = Peer(path, threads, with_lora)
        if exact:
            found[what] = compare_tokens(what, peer, tokens, ids)
        else:
            found[what] = compare_logits(what, peer, logits, base, ids, rounding)
        peer.close()
    for path in (merged, small):
        path.unlink()
    return found


def main() -> int:
    """Runs the checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/interop"), help="to write")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    print(f"{lorasc.build_info()}\nllama-cpp-python {llama_cpp.__version__}", flush=True)
    with lorasc.Model(find_gguf(), threads=arguments.threads) as model:
        untouched = lorasc.Adapter(model, head="lm", method="lora")
        untouched.merge(output / "base-f32.gguf", dtype="f32")
        peer = Peer(output / "base-f32.gguf", arguments.threads)
        expected = [model.tokenizer.encode(prompt).ids for prompt in PROMPTS]
        tokens = {"passed": [peer.tokens(prompt) for prompt in PROMPTS] == expected}
        print(f"tokens of the prompts {verdict(tokens['passed'])}")
        peer.close()
        report = {"tokenizer": {"ids": tokens}}
        report |= {name: check(model, name, output, arguments.threads) for name in ADAPTERS}
    (output / "base-f32.gguf").unlink()
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    checks = [one for part in report.values() for one in part.values() if isinstance(one, dict)]
    failed = sum(not one["passed"] for one in checks)
    print(f"{len(checks) - failed} passed, {failed} failed; {output}/report.json")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
