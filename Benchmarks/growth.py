"""How a step grows with batch, length, rank, layers and threads: `make bench-growth`.

    python Benchmarks/growth.py [--steps 6]

Time and memory of MiniLM, the engine alone, each point in a process of its own. Writes
build/bench/growth.json and docs/growth.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cases
import matplotlib as mpl
from bench import OUTPUT, Bench
from cases import REPOSITORY, Case
from safetensors.numpy import load_file, save_file
from turns import Runner

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "growth"
import matplotlib.pyplot as plt  # noqa: E402

PICTURE = REPOSITORY / "docs" / "growth.svg"


@dataclass(frozen=True)
class Point:
    """What is measured, and what it took.

    Attributes:
        rows: of a batch.
        length: of each row, in tokens.
        rank: of the adapters on queries and values.
        layers: of MiniLM's, the lowest ones.
        threads: of the trainer.
        recompute: its option.
        seconds: of a step, the median.
        mib: the process's peak.
    """

    rows: int = 16
    length: int = 64
    rank: int = 8
    layers: int = 6
    threads: int = 2
    recompute: str = "none"
    seconds: float = 0
    mib: float = 0


AXES: dict[str, Sequence[int]] = {
    "rows": (4, 8, 16, 32, 64),
    "length": (32, 64, 128, 256, 512),
    "rank": (1, 4, 16, 64, 256),
    "layers": (1, 2, 4, 6),
    "threads": (1, 2),
}


def with_layers(count: int) -> Path:
    """MiniLM's lowest layers as a model of their own."""
    source = cases.model_folder("minilm")
    config = json.loads((source / "config.json").read_text())
    if count == config["num_hidden_layers"]:
        return source
    folder = OUTPUT / f"minilm-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": count}))
    above = [f"encoder.layer.{layer}." for layer in range(count, config["num_hidden_layers"])]
    tensors = load_file(source / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not any(at in name for at in above)}
    save_file(kept, folder / "model.safetensors")
    return folder


def measure(point: Point, steps: int) -> Point:
    """The same point with its figures."""
    case = Case("minilm", point.rows, point.length, "q,v r=8")
    bench = Bench(point.threads, steps, compiles=False)
    options = {"r": point.rank, "lora_alpha": 2 * point.rank}
    trainer = {"recompute": point.recompute}
    job = bench.job(
        case,
        [cases.made_up_batch(case)],
        options=options,
        trainer=trainer,
        model=str(with_layers(point.layers)),
    )
    runner = Runner("lorasc", job)
    runner.warm_up(2)
    runner.measure(steps)
    seconds = runner.median
    return replace(point, seconds=seconds, mib=runner.finish())


def draw(found: dict[str, list[Point]], path: Path) -> None:
    """Time and memory over each axis."""
    figure, rows = plt.subplots(2, len(found), figsize=(3 * len(found), 5), sharex="col")
    for (axis, points), column in zip(found.items(), rows.T, strict=True):
        for recompute in sorted({point.recompute for point in points}, reverse=True):
            chosen = [point for point in points if point.recompute == recompute]
            at = [getattr(point, axis) for point in chosen]
            for picture, values in zip(column, ("seconds", "mib"), strict=True):
                height = [getattr(point, values) for point in chosen]
                picture.plot(at, height, marker="o", label=f"recompute={recompute}")
                picture.set_ylim(bottom=0)
                picture.grid(alpha=0.3)
        column[1].set_xlabel(axis)
    rows[0, 0].set_ylabel("seconds a step")
    rows[1, 0].set_ylabel("peak memory, MiB")
    rows[1, 0].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measures, writes, draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    found: dict[str, list[Point]] = {}
    for axis, values in AXES.items():
        recomputes = ("none", "layer") if axis in ("rows", "length") else ("none",)
        found[axis] = []
        for recompute in recomputes:
            for value in values:
                wanted = replace(Point(recompute=recompute), **{axis: value})
                point = measure(wanted, arguments.steps)
                found[axis].append(point)
                print(
                    f"{axis:8} {value:4} recompute={recompute:6} {point.seconds:7.3f} s "
                    f"{point.mib:6.0f} MiB",
                    flush=True,
                )
    plain = {axis: [asdict(point) for point in points] for axis, points in found.items()}
    (OUTPUT / "growth.json").write_text(json.dumps(plain, indent=1) + "\n")
    draw(found, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
