"""A roofline plot of the engine's operations: the end of `make bench-operations`.

    python Benchmarks/roofline.py [--operations build/bench/operations.json]
                                  [--report build/bench/report.json] [--output docs/roofline.svg]

Flops a second over flops a byte, beside what memory and arithmetic gave in the same run. Where
there is a report of `make bench`, the rates of whole training steps are a band behind.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "roofline"
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "build" / "bench"
PICTURE = REPOSITORY / "docs" / "roofline.svg"

TITLES = {"MiniLM": "shapes of MiniLM, which caches may hold", "large": "128 MiB an operand"}
GROUPS = {"elementwise": "tab:blue", "low-rank products": "tab:orange", "products": "tab:red"}
BANDS = {"float32": "tab:green", "bfloat16": "tab:purple"}
LABEL = 12
"""Of a point's number, the size in pixels that is kept free."""
PLACES = [
    (distance * x, distance * y)
    for distance in (11, 18, 26, 36, 48)
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
]
"""Where a number may go beside its point, nearest first."""


def group(name: str) -> str:
    """What kind of operation it is."""
    if name.startswith("product"):
        return "products"
    return "low-rank products" if "r = " in name else "elementwise"


def step_rates(report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Lowest and highest GFLOP/s of training steps by dtype."""
    found: dict[str, list[float]] = {}
    for row in report.get("cases", []):
        found.setdefault(row["dtype"], []).append(row["gflops"])
    return {dtype: (min(rates), max(rates)) for dtype, rates in found.items()}


def draw_roofs(axes: Axes, rates: dict[str, float], intensity: np.ndarray) -> None:
    """min(memory's rate times flops per byte, rate of products) for each type of products."""
    sloped = intensity * rates["memory"] / 1e9
    for dtype, style in (("float32", "-"), ("bfloat16", "--")):
        if not (rate := rates.get(dtype)):
            continue
        roof = np.minimum(sloped, rate / 1e9)
        axes.plot(intensity, roof, style, color="black", linewidth=1, zorder=1)
        axes.annotate(
            f"{dtype} products {rate / 1e9:.0f} GFLOP/s",
            (intensity[-1], rate / 1e9),
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            fontsize=7,
        )
    height = 0.45 * rates["float32"] / 1e9
    axes.annotate(
        f"memory {rates['memory'] / 1e9:.1f} GB/s",
        (height * 1e9 / rates["memory"], height),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        fontsize=7,
    )


def draw_points(axes: Axes, rows: list[dict[str, Any]], numbers: dict[str, int]) -> None:
    """A point with its number for each operation; numbers keep clear of points and each other."""
    at = np.array([(row["flops"] / row["bytes"], row["gigaflops_per_second"]) for row in rows])
    for name, colour in GROUPS.items():
        chosen = [group(row["name"]) == name for row in rows]
        axes.scatter(*at[chosen].T, s=14, color=colour, zorder=3, label=name)
    pixels = axes.transData.transform(at)
    taken = [tuple(point) for point in pixels]
    for row, point, pixel in zip(rows, at, pixels, strict=True):
        # A place further out that is taken everywhere is the last one's.
        for x, y in PLACES:
            place = (pixel[0] + x, pixel[1] + y)
            if all(
                abs(place[0] - other[0]) >= LABEL or abs(place[1] - other[1]) >= LABEL * 0.8
                for other in taken
                if other != tuple(pixel)
            ):
                break
        taken.append(place)
        axes.annotate(
            str(numbers[row["name"]]),
            point,
            xytext=axes.transData.inverted().transform(place),
            ha="center",
            va="center",
            fontsize=6.5,
            bbox={"boxstyle": "square,pad=0.05", "color": "white", "alpha": 0.7, "linewidth": 0},
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "color": "grey", "shrinkB": 0},
        )


def draw(operations: dict[str, Any], report: dict[str, Any], path: Path) -> None:
    """The plot, a panel for each size of operands, and what the numbers stand for."""
    rows = operations["operations"]
    names = list(dict.fromkeys(row["name"] for row in rows))
    numbers = {name: index for index, name in enumerate(names, 1)}
    x = [row["flops"] / row["bytes"] for row in rows]
    y = [row["gigaflops_per_second"] for row in rows]
    rates = operations["rates"]
    top = max(rates["float32"], rates.get("bfloat16") or 0) / 1e9
    figure, panels = plt.subplots(
        1, len(TITLES), figsize=(12, 5.6), sharex=True, sharey=True, dpi=100
    )
    intensity = np.geomspace(min(x) / 2, max(x) * 2, 200)
    for axes, title in zip(panels, TITLES.values(), strict=True):
        axes.set(xscale="log", yscale="log", title=title, xlabel="flops a byte moved")
        axes.set_xlim(intensity[0], intensity[-1])
        axes.set_ylim(min(y) / 2, top * 2)
        axes.grid(alpha=0.3)
        draw_roofs(axes, rates, intensity)
        for dtype, (low, high) in step_rates(report).items():
            label = f"training steps in {dtype}, make bench"
            axes.axhspan(low, high, color=BANDS[dtype], alpha=0.15, linewidth=0, label=label)
    panels[0].set_ylabel("GFLOP/s")
    figure.subplots_adjust(left=0.055, right=0.79, bottom=0.09, top=0.93, wspace=0.04)
    figure.canvas.draw()
    for axes, size in zip(panels, TITLES, strict=True):
        draw_points(axes, [row for row in rows if row["size"] == size], numbers)
    panels[0].legend(loc="lower right", fontsize=7)
    key = "\n".join(f"{number:2}  {name}" for name, number in numbers.items())
    figure.text(0.8, 0.93, key, va="top", fontsize=7, linespacing=1.4)
    figure.text(
        0.8,
        0.09,
        f"{operations['threads']} threads, kernels {operations['kernels']},\n"
        f"products {operations['products']}",
        fontsize=7,
    )
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Reads and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=Path, default=OUTPUT / "operations.json")
    parser.add_argument("--report", type=Path, default=OUTPUT / "report.json")
    parser.add_argument("--output", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    operations = json.loads(arguments.operations.read_text())
    report = json.loads(arguments.report.read_text()) if arguments.report.is_file() else {}
    draw(operations, report, arguments.output)
    print(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
