"""Tokens a second of greedy generation on SmolLM2-135M in float32, against transformers.

    python Benchmarks/generation.py [--threads 2] [--tokens 128] [--rounds 5] [--prompt 32]

Each engine runs in a process of its own, in turn, so that whatever else the machine does hits
both. A round takes the time of the first token (reading the prompt) and of all tokens; the
difference over the rest is the time of a token. Medians and the best of all rounds are shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "examples" / "python"))

from smollm2 import find_folder  # noqa: E402

TEXT = "The sea was calm that morning, and the old fisherman had not yet decided whether to "


def ours(folder: Path, threads: int) -> Callable[[list[int], int], list[int]]:
    """The engine's greedy tokens."""
    import lorasc

    model = lorasc.Model(folder, threads=threads)
    return lambda prompt, count: model.generate(prompt, count, stop_tokens=[]).tokens


def theirs(folder: Path, threads: int) -> Callable[[list[int], int], list[int]]:
    """Transformers' greedy tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(prompt: list[int], count: int) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=count,
                eos_token_id=None,
            )
        return made[0, len(prompt) :].tolist()

    return generate


ENGINES = {"lorasc": ours, "transformers": theirs}


def measure(engine: str, folder: Path, threads: int, prompt: int, count: int) -> dict[str, object]:
    """One round in this process, after one that doesn't count."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT * prompt).ids[:prompt]
    generate = ENGINES[engine](folder, threads)
    generate(ids, 4)
    start = time.perf_counter()
    generate(ids, 1)
    first = time.perf_counter() - start
    start = time.perf_counter()
    tokens = generate(ids, count)
    whole = time.perf_counter() - start
    return {"first": first, "rate": (count - 1) / (whole - first), "tokens": tokens}


def main() -> int:
    """Rounds in turn, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=32, help="its length in tokens")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = find_folder(REPOSITORY / "build" / "models" / "smollm2")
    if arguments.engine:
        sizes = (arguments.threads, arguments.prompt, arguments.tokens)
        print(json.dumps(measure(arguments.engine, folder, *sizes)))
        return 0
    rounds: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
    for _ in range(arguments.rounds):
        for engine, found in rounds.items():
            command = [sys.executable, __file__, "--engine", engine, *sys.argv[1:]]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{arguments.prompt} tokens of prompt, {arguments.threads} threads")
    print(f"{'':14}{'tokens/s':>10}{'best':>8}{'first token, s':>18}")
    for engine, found in rounds.items():
        rates = [each["rate"] for each in found]
        first = statistics.median(each["first"] for each in found)
        print(f"{engine:14}{statistics.median(rates):10.1f}{max(rates):8.1f}{first:18.3f}")
    mine, peer = (statistics.median(each["rate"] for each in rounds[engine]) for engine in ENGINES)
    best, peers_best = (max(each["rate"] for each in rounds[engine]) for engine in ENGINES)
    print(f"lorasc / transformers: {mine / peer:.2f}, of the best {best / peers_best:.2f}")
    same = all(a["tokens"] == b["tokens"] for a, b in zip(*rounds.values(), strict=True))
    print(f"the same tokens: {same}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
