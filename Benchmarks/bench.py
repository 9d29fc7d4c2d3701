"""Training steps against PyTorch + PEFT, on one machine in one run: `make bench`.

    python Benchmarks/bench.py [--cases all|quick] [--threads 2] [--steps 20] [--no-compile]
                               [--parts cases methods recompute texts merge quantized curves]

Engine and peer take turns in processes of their own, on the same rows, from the same factors,
with the same optimizer; medians count. Peers: PyTorch's default, and the fastest of eager
attention, settings of malloc, and (not with `quick`) torch.compile. Writes
build/bench/report.json and a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cases
import numpy as np
from cases import REPOSITORY, Case
from models import find_model
from turns import Runner, take_turns

import lorasc

import fortunes

OUTPUT = REPOSITORY / "build" / "bench"
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
"""glibc keeps freed memory instead of giving it back and asking again in each step."""

PEERS: dict[str, dict[str, dict[str, Any]]] = {
    "float32": {
        "default": {},
        "eager": {"attention": "eager"},
        "malloc": {"malloc": True},
        "eager, malloc": {"attention": "eager", "malloc": True},
        "compile": {"compile": True},
    },
    "bfloat16": {
        "default": {},
        "eager": {"attention": "eager"},
        "weights": {"bfloat16_weights": True},
        "weights, eager": {"bfloat16_weights": True, "attention": "eager"},
        "weights, eager, malloc": {
            "bfloat16_weights": True,
            "attention": "eager",
            "malloc": True,
        },
        "compile": {"compile": True},
    },
}
"""PyTorch's settings by dtype; the default of bfloat16 is autocast."""
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"options": {"use_dora": True}},
    "lorasc with noise": {"options": {"method": "lorasc"}, "trainer": {"noise": 0.1}},
}
"""What may cost at most 1.10 times plain LoRA."""


PARTS = ("cases", "methods", "recompute", "texts", "merge", "quantized", "curves")


class Bench:
    """One run with its settings."""

    def __init__(self, threads: int, steps: int, *, compiles: bool) -> None:
        self._jobs = 0
        self.threads = threads
        self.steps = steps
        self.compiles = compiles

    def job(self, case: Case, batches: list[dict[str, np.ndarray]], **changes: Any) -> Path:
        """Writes what a process needs to know."""
        folder = OUTPUT / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        self._jobs += 1
        paths = []
        for index, batch in enumerate(batches):
            paths.append(str(folder / f"{self._jobs}-{index}.npz"))
            np.savez(paths[-1], **batch)
        tokens = max(len(batch["tokens"]) if "tokens" in batch else 0 for batch in batches)
        described = {
            "model": str(cases.model_folder(case.model)),
            "options": case.options() | {"method": "lora"} | changes.pop("options", {}),
            "threads": self.threads,
            "batches": paths,
            "tokens": tokens or case.rows * case.length,
            "images": "pixels" in batches[0],
            "attention": "sdpa",
            "compile": False,
            "dtype": "float32",
            "bfloat16_weights": False,
        }
        file = folder / f"{self._jobs}.json"
        file.write_text(json.dumps(described | changes))
        return file

    def pair(
        self,
        case: Case,
        batches: list[dict[str, np.ndarray]],
        peers: Sequence[str] = ("default",),
        peer_batches: list[dict[str, np.ndarray]] | None = None,
        dtype: str = "float32",
    ) -> dict[str, Runner]:
        """The library and its peers, each after its first step, with the same factors."""
        adapter = OUTPUT / "jobs" / "adapter"
        ours = Runner("lorasc", self.job(case, batches, save_adapter=str(adapter), dtype=dtype))
        runners = {"lorasc": ours}
        for name in peers:
            settings = dict(PEERS[dtype][name]) | {"dtype": dtype}
            environment = MALLOC if settings.pop("malloc", False) else None
            job = self.job(case, peer_batches or batches, adapter=str(adapter), **settings)
            runners[name] = Runner("peft", job, environment)
        return runners

    def measure(self, case: Case, dtype: str) -> dict[str, Any]:
        """One row of the table."""
        peers = [name for name in PEERS[dtype] if self.compiles or name != "compile"]
        runners = self.pair(case, [cases.made_up_batch(case)], peers, dtype=dtype)
        take_turns(list(runners.values()), self.steps)
        medians = {name: runner.median for name, runner in runners.items()}
        losses = {name: runner.loss for name, runner in runners.items()}
        peaks = {name: runner.finish() for name, runner in runners.items()}
        ours = medians.pop("lorasc")
        best = min(medians, key=medians.get)
        config = json.loads((cases.model_folder(case.model) / "config.json").read_text())
        flops = cases.step_flops(case, config) / ours / 1e9
        return {
            "model": case.model,
            "shape": case.shape,
            "adapters": case.adapters,
            "dtype": dtype,
            "ours_s": ours,
            "ours_fastest_s": min(runners["lorasc"].seconds),
            "default_s": medians["default"],
            "best_s": medians[best],
            "best_setting": best,
            "settings_s": medians,
            "ratio_default": ours / medians["default"],
            "ratio_best": ours / medians[best],
            "gflops": flops,
            "ours_mib": peaks["lorasc"],
            "peer_mib": peaks["default"],
            "ratio_memory": peaks["lorasc"] / peaks["default"],
            "ours_start_s": runners["lorasc"].start - ours,
            "peer_start_s": runners["default"].start - medians["default"],
            "losses": losses,
        }

    def methods(self, case: Case) -> dict[str, Any]:
        """DoRA and noise beside plain LoRA, all of the library's."""
        batch = [cases.made_up_batch(case)]
        runners = {
            name: Runner("lorasc", self.job(case, batch, **changes))
            for name, changes in METHODS.items()
        }
        take_turns(list(runners.values()), self.steps)
        for runner in runners.values():
            runner.finish()
        plain = runners["lora"].median
        ratios = {name: runner.median / plain for name, runner in runners.items()}
        return {"case": case.name, "seconds": plain, "ratios": ratios}

    def recompute(self, case: Case, dtype: str) -> dict[str, Any]:
        """Memory and time with each layer's forward made again, beside keeping it and the peer."""
        batch = [cases.made_up_batch(case)]
        runners = self.pair(case, batch, dtype=dtype)
        again = self.job(case, batch, dtype=dtype, trainer={"recompute": "layer"})
        ours = [runners["lorasc"], Runner("lorasc", again)]
        runners["default"].warm_up(1)
        take_turns(ours, self.steps)
        kept, peak = (runner.finish() for runner in ours)
        peer = runners["default"].finish()
        return {
            "case": case.name,
            "dtype": dtype,
            "mib": {"kept": kept, "recomputed": peak, "peer": peer},
            "ratio_memory": peak / peer,
            "slowdown": ours[1].median / ours[0].median,
        }

    def quantized(self) -> dict[str, Any]:
        """SmolLM2 from its GGUF file, mostly Q4_1, beside the same weights in float32."""
        case = Case("smollm2", 4, 256, "q,v r=8")
        batch = [cases.made_up_batch(case)]
        runners = {
            name: Runner("lorasc", self.job(case, batch, model=str(find_model(model))))
            for name, model in (("float32", "smollm2"), ("gguf", "smollm2-gguf"))
        }
        take_turns(list(runners.values()), self.steps)
        seconds = {name: runner.median for name, runner in runners.items()}
        peaks = {name: runner.finish() for name, runner in runners.items()}
        ratio = seconds["gguf"] / seconds["float32"]
        return {"case": case.name, "seconds": seconds, "mib": peaks, "ratio": ratio}

    def curves(self, model: str, steps: int = 200, window: int = 20) -> dict[str, Any]:
        """Loss curves on real texts in bfloat16 beside float32: means of windows of steps.

        MiniLM learns the topics of quotations, SmolLM2 the quotations.
        """
        is_language = model == "smollm2"
        part = fortunes.load()["train"]
        losses = {}
        with lorasc.Model(find_model(model), threads=self.threads) as opened:
            labels = None if is_language else part.labels
            rows = opened.encode(part.texts, fortunes.MAX_LENGTH, labels=labels)
            head = {"head": "lm"} if is_language else {"num_labels": len(fortunes.TOPICS)}
            for dtype in PEERS:
                adapter = lorasc.Adapter(opened, method="lora", adapter_seed=1, **head)
                trainer = lorasc.Trainer(
                    opened,
                    adapter,
                    compute_dtype=dtype,
                    max_steps=steps,
                    batch_size=8,
                    max_batch_tokens=8 * fortunes.MAX_LENGTH,
                    learning_rate=5e-4,
                    seed=1,
                )
                trainer.run(rows)
                losses[dtype] = np.reshape(trainer.history.loss, (-1, window)).mean(axis=1)
                trainer.close()
        apart = np.abs(losses["bfloat16"] / losses["float32"] - 1)
        windows = {dtype: values.tolist() for dtype, values in losses.items()}
        return {
            "model": model,
            "steps": steps,
            "windows": windows,
            "largest_difference": float(apart.max()),
            "last_difference": float(apart[-1]),
        }

    def texts(self, rows: int = 32, longest: int = 128) -> dict[str, Any]:
        """Batches of real texts of mixed lengths: an epoch's seconds."""
        case = Case("minilm", rows, longest, "q,v r=8")
        with lorasc.Model(cases.model_folder("minilm")) as model:
            parts = fortunes.load().values()
            texts = [text for part in parts for text in part.texts][: 12 * rows]
            batch = model.encode(texts, longest)
        ids = [batch.row(row).tolist() for row in range(len(batch))]
        shuffled = [ids[row] for row in np.random.default_rng(0).permutation(len(ids))]
        ours = ragged_batches(shuffled, rows)
        found = {}
        for name, chosen in (("padded", shuffled), ("grouped", sorted(ids, key=len))):
            runners = self.pair(case, ours, peer_batches=ragged_batches(chosen, rows))
            take_turns(list(runners.values()), len(ours), warm_up=len(ours))
            seconds = {key: sum(runner.seconds) for key, runner in runners.items()}
            for runner in runners.values():
                runner.finish()
            found[name] = seconds["lorasc"] / seconds["default"]
        return {"texts": len(ids), "tokens": sum(map(len, ids)), "ratios": found}

    def merge(self) -> dict[str, Any]:
        """Seconds to merge and save SmolLM2."""
        case = Case("smollm2", 1, 16, "all linear r=16")
        runners = self.pair(case, [cases.made_up_batch(case)])
        # PEFT unloads what it has merged: once.
        seconds = {
            name: runner.merge(OUTPUT / "jobs" / f"merged-{name}")
            for name, runner in runners.items()
        }
        for runner in runners.values():
            runner.finish()
        return {**seconds, "ratio": seconds["lorasc"] / seconds["default"]}


def ragged_batches(texts: list[list[int]], rows: int) -> list[dict[str, np.ndarray]]:
    """Texts in their order as batches of rows of different lengths."""
    parts = [texts[at : at + rows] for at in range(0, len(texts), rows)]
    return [
        {
            "tokens": np.concatenate(part).astype(np.int32),
            "offsets": np.cumsum([0, *map(len, part)], dtype=np.int64),
            "labels": np.arange(len(part), dtype=np.int32) % cases.LABELS,
        }
        for part in parts
    ]


def gemm_rates(threads: int) -> dict[str, float]:
    """GFLOP/s on the models' products: oneDNN's with packed weights by dtype, and OpenBLAS's."""
    lines = subprocess.check_output([OUTPUT / "gemm", str(threads)], text=True).splitlines()
    return {name: float(rate) for name, rate in (line.rsplit(" ", 1) for line in lines)}


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    fields = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(named.get("flags", "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {"cpu": named.get("model name", ""), "flags": [one for one in wanted if one in flags]}


def show(row: dict[str, Any]) -> None:
    """A line of the table."""
    print(
        f"{row['model']:8} {row['shape']:7} {row['adapters']:16} {row['dtype']:8} "
        f"{row['ours_s']:8.3f} "
        f"{row['default_s']:8.3f} {row['best_s']:8.3f} {row['best_setting']:22} "
        f"{row['ratio_default']:6.2f} {row['ratio_best']:6.2f} {row['gflops']:7.0f} "
        f"{row['gemm_share']:6.2f} {row['ours_mib']:7.0f} {row['peer_mib']:7.0f}",
        flush=True,
    )


def write(report: dict[str, Any]) -> None:
    """What there is so far."""
    (OUTPUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def main() -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", choices=("all", "quick"), default="all")
    parser.add_argument("--models", nargs="+", choices=tuple(cases.QUERY_VALUE), help="of cases")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of each engine; 20, with quick 8")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, as with quick"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="of the report; else all")
    arguments = parser.parse_args()
    parts = arguments.parts or (("cases", "methods") if arguments.cases == "quick" else PARTS)
    quick = arguments.cases == "quick"
    steps = arguments.steps or (8 if quick else 20)
    bench = Bench(arguments.threads, steps, compiles=not (quick or arguments.no_compile))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rates = [gemm_rates(arguments.threads)]
    about = machine() | {"threads": arguments.threads, "library": lorasc.build_info()}
    print(f"{about['cpu']}, {', '.join(about['flags'])}; {about['library']}")
    gemm = ", ".join(f"{name} {rate:.0f}" for name, rate in rates[0].items())
    print(f"GFLOP/s of products on {arguments.threads} threads: {gemm}\n")
    print(
        f"{'model':8} {'shape':7} {'adapters':16} {'dtype':8} {'ours, s':>8} {'default':>8} "
        f"{'best':>8} {'':22} {'/def.':>6} {'/best':>6} {'GFLOP/s':>7} {'/GEMM':>6} "
        f"{'MiB':>7} {'peer':>7}"
    )
    report: dict[str, Any] = {"machine": about, "steps": steps, "cases": []}
    rows = report["cases"]
    chosen = cases.quick_cases() if quick else cases.all_cases()
    chosen = [case for case in chosen if not arguments.models or case.model in arguments.models]
    for case in chosen if "cases" in parts else []:
        for dtype in PEERS:
            row = bench.measure(case, dtype)
            rates.append(gemm_rates(arguments.threads))
            row["gemm_share"] = row["gflops"] / statistics.mean(one[dtype] for one in rates[-2:])
            rows.append(row)
            show(row)
            write(report)
    report["gemm"] = {name: [one[name] for one in rates] for name in rates[0]}
    if "methods" in parts:
        chosen = [Case("minilm", 32, 64, "all linear r=16")]
        if not quick:
            chosen.append(Case("smollm2", 4, 256, "all linear r=16"))
        report["methods"] = [bench.methods(case) for case in chosen]
        for found in report["methods"]:
            ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["ratios"].items())
            print(f"\n{found['case']}, beside plain LoRA: {ratios}", flush=True)
    if "recompute" in parts:
        report["recompute"] = []
        smaller = [case for case in cases.all_cases() if case.adapters == "q,v r=8"]
        for case, dtype in itertools.product(smaller, PEERS):
            found = bench.recompute(case, dtype)
            report["recompute"].append(found)
            print(
                f"{found['case']}, {dtype}, with recompute=layer: "
                f"{found['mib']['recomputed']:.0f} MiB, {found['ratio_memory']:.2f} of the "
                f"peer's, in {found['slowdown']:.2f} of the time",
                flush=True,
            )
    if "texts" in parts:
        report["texts"] = bench.texts()
        padded, grouped = report["texts"]["ratios"].values()
        print(f"texts of mixed lengths: {padded:.2f} of padded batches, {grouped:.2f} of grouped")
    if "merge" in parts:
        report["merge"] = bench.merge()
        print(f"merge and save SmolLM2: {report['merge']['ratio']:.2f} of the peer's time")
    if "quantized" in parts:
        found = report["quantized"] = bench.quantized()
        memory = " MiB, ".join(f"{name} {peak:.0f}" for name, peak in found["mib"].items())
        print(f"GGUF beside float32: {found['ratio']:.2f} of the time, peak {memory} MiB")
    if "curves" in parts:
        report["curves"] = [bench.curves(model) for model in ("minilm", "smollm2")]
        for found in report["curves"]:
            print(
                f"{found['model']}, {found['steps']} steps in bfloat16 beside float32: windows "
                f"of 20 steps at most {found['largest_difference']:.2%} apart, the last "
                f"{found['last_difference']:.2%}",
                flush=True,
            )
    write(report)
    print(f"\n{OUTPUT.relative_to(REPOSITORY)}/report.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
