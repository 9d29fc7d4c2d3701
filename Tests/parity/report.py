"""The report: build/parity/report.json and a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from comparison import KINDS, SAMPLES, Comparison
from exceptions import EXCEPTIONS
from yardstick import EXACT, JOINT_FACTOR, JOINT_SLACK, SINGLE

import lorasc

YARDSTICK = (
    "The truth is PyTorch and PEFT in float64, from the same start. loss (of ten steps), "
    f"gradients (of {SAMPLES} batches at the start) and steps (values after ten): over all "
    "tensors together, the norm of our float32 error is at most "
    f"{JOINT_FACTOR:g} times PyTorch float32's + {JOINT_SLACK:g}, as shares of the truth's norm, "
    f"and each single tensor's error at most {SINGLE:g} of that norm. merge and files: each "
    f"single tensor's error at most {EXACT:g} of its own norm, from the same values."
)


def write_report(path: Path, seed: int, comparisons: list[Comparison]) -> None:
    """All of it as JSON."""
    report: dict[str, Any] = {
        "seed": seed,
        "count": len(comparisons),
        "failed": failures(comparisons),
        "architectures": {
            name: {"count": len(group), "failed": failures(group)}
            for name, group in grouped(comparisons, architecture).items()
        },
        "worst": {kind: worst(kind, comparisons) for kind in KINDS},
        "yardstick": YARDSTICK,
        "exceptions": EXCEPTIONS,
        "engine": lorasc.build_info(),
        "peers": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "configurations": [described(comparison) for comparison in comparisons],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def described(comparison: Comparison) -> dict[str, Any]:
    """One configuration for the report."""
    configuration = comparison.configuration
    return {
        "index": configuration.index,
        "architecture": configuration.architecture,
        "weights": configuration.weights,
        "options": configuration.described(),
        "holds": comparison.holds,
        **{kind: finding.described() for kind, finding in comparison.findings.items()},
    }


def worst(kind: str, comparisons: list[Comparison]) -> dict[str, Any] | None:
    """The largest error of a kind, PyTorch's there, and where."""
    found = [
        (comparison.findings[kind], comparison.configuration.name)
        for comparison in comparisons
        if kind in comparison.findings and comparison.findings[kind].ours is not None
    ]
    if not found:
        return None
    finding, name = max(found, key=lambda item: item[0].ours or 0)
    return {"ours": finding.ours, "pytorch": finding.pytorch, "configuration": name}


def architecture(comparison: Comparison) -> str:
    """The architecture, or the model of real weights."""
    configuration = comparison.configuration
    real = "" if configuration.weights == "random" else f" ({configuration.weights})"
    return configuration.architecture + real


def method(comparison: Comparison) -> str:
    """The engine's preset."""
    return comparison.configuration.method


def grouped(
    comparisons: list[Comparison], key: Callable[[Comparison], str]
) -> dict[str, list[Comparison]]:
    """The comparisons of each key."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(key(comparison), []).append(comparison)
    return groups


def failures(comparisons: list[Comparison]) -> int:
    """How many don't hold."""
    return sum(not comparison.holds for comparison in comparisons)


def progress(comparison: Comparison, number: int, total: int) -> str:
    """A line for one configuration, and one more for each kind that fails."""
    errors = " ".join(
        f"{kind} {short(finding.ours)}" for kind, finding in comparison.findings.items()
    )
    verdict = "ok  " if comparison.holds else "FAIL"
    lines = [
        f"{number:4d}/{total} {verdict} {architecture(comparison):15s} {method(comparison):14s} "
        f"{errors}"
    ]
    for kind, finding in comparison.findings.items():
        if not finding.holds:
            lines.append(
                f"       {kind}: ours {short(finding.ours)}, PyTorch's {short(finding.pytorch)}; "
                f"{finding.note}"
            )
    if not comparison.holds:
        lines.append(f"       {json.dumps(comparison.configuration.described())}")
    return "\n".join(lines)


def tables(comparisons: list[Comparison]) -> str:
    """For each method and architecture the largest errors, ours / PyTorch's."""
    lines = []
    for title, key in (("method", method), ("architecture", architecture)):
        heads = "".join(f"{kind:20s}" for kind in KINDS)
        lines.append(f"{title:15s} {'runs':>4s} {'failed':>6s}  {heads}".rstrip())
        for name, group in grouped(comparisons, key).items():
            lines.append(row(name, group))
    return "\n".join([*lines, row("all", comparisons)])


def row(name: str, group: list[Comparison]) -> str:
    """A line of a table."""
    cells = "".join(f"{cell_text(worst(kind, group)):20s}" for kind in KINDS)
    return f"{name:15s} {len(group):4d} {failures(group):6d}  {cells}".rstrip()


def cell_text(cell: dict[str, Any] | None) -> str:
    """The text: ours / PyTorch's."""
    return "-" if cell is None else f"{short(cell['ours'])} / {short(cell['pytorch'])}"


def short(error: float | None) -> str:
    """An error in few characters."""
    return "-" if error is None else f"{error:.1e}"
