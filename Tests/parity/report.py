"""The report: build/parity/report.json and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from comparison import KINDS, Comparison
from yardstick import EXACT, JOINT_FACTOR, JOINT_SLACK, SINGLE

import lorasc

YARDSTICK = (
    "The truth is PyTorch and PEFT in float64, from the same start. loss (of ten steps), "
    "gradients (of the first) and steps (values after ten): over all tensors together, the norm "
    f"of our float32 error is at most {JOINT_FACTOR:g} times PyTorch float32's + {JOINT_SLACK:g}, "
    f"as shares of the truth's norm, and each single tensor's error at most {SINGLE:g} of that "
    f"norm. merge and files: each single tensor's error at most {EXACT:g} of its own norm, from "
    "the same values."
)
EXCEPTIONS = {
    "dropout": "0 in all parts: its random numbers are not PyTorch's.",
    "zero gradients": "Gradients that are zero in exact arithmetic, as those of key biases, are "
    "rounding on both sides: they count in the joint norm, not one by one.",
    "eps": "AdamW divides each element by its own size, so that one whose gradient is rounding "
    "moves at random on both sides, by the whole rate where eps is as small: eps is 1e-4 or 1e-3, "
    "and 1e-3 with clipped gradients where biases of keys are trained. With 1e-8 "
    "Tests/Python/test_parity.py compares the losses of ten steps.",
    "LoRA+": "Learning rates are a tenth of the other methods', so that B learns at about theirs.",
    "relu": "Its derivative jumps at 0, where rounding decides the side: the activations drawn are "
    "smooth. Tests/Python/test_parity.py compares relu.",
    "random starts": "Random factors are not PyTorch's: the peers take the engine's.",
    "PiSSA": "The peers take the engine's factors and make the residual base W - s B A in their "
    "own type. PEFT's file of PiSSA factors belongs to a residual base that is in no file, so only "
    "the engine's file, which belongs to W, is compared.",
    "lorafa_project": "PEFT's optimizer multiplies in bfloat16 where it can, and its AdamW is not "
    "PyTorch's: the peers project by the formula and step with torch.optim.AdamW.",
    "cascades": "PEFT has none: one cascade on clean weights is compared (noise 0, constant rate), "
    "and its merged view as W + slow_rate (W' - W).",
    "full-rank changes": "A share of DoRA's change (slow_rate < 1), and DoRA on PiSSA's residual "
    "base, are of full rank, so that no adapter file holds them: only merged weights are compared.",
    "mean_linear": "This head is in no file of PEFT's: the backbone alone is compared there.",
    "order of patterns": "The first pattern that matches wins, and PEFT sorts patterns when it "
    "saves, so that overlapping ones in another order change their meaning in its own files: they "
    "are drawn in sorted order.",
    "nested modules_to_save": "A name that fits a container and its children too, as 'embeddings' "
    "does, makes PEFT train copies of the children that its forward never uses: not drawn.",
    "original copies": "With bias=all PEFT also marks the copies that modules_to_save put aside; "
    "they take no part and get no gradient, and the engine has none.",
}


def write_report(path: Path, seed: int, comparisons: list[Comparison]) -> None:
    """All of it as JSON."""
    report: dict[str, Any] = {
        "seed": seed,
        "count": len(comparisons),
        "failed": sum(not comparison.holds for comparison in comparisons),
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
        "options": configuration.described(),
        "holds": comparison.holds,
        **{kind: finding.described() for kind, finding in comparison.findings.items()},
    }


def worst(kind: str, comparisons: list[Comparison]) -> dict[str, Any] | None:
    """The largest error of a kind, PyTorch's there, and where."""
    found = [
        (comparison.findings[kind], comparison.configuration.index)
        for comparison in comparisons
        if kind in comparison.findings and comparison.findings[kind].ours is not None
    ]
    if not found:
        return None
    finding, index = max(found, key=lambda item: item[0].ours or 0)
    return {"ours": finding.ours, "pytorch": finding.pytorch, "configuration": index}


def progress(comparison: Comparison, total: int) -> str:
    """A line for one configuration, and one more for each kind that fails."""
    configuration = comparison.configuration
    errors = " ".join(
        f"{kind} {short(finding.ours)}" for kind, finding in comparison.findings.items()
    )
    verdict = "ok  " if comparison.holds else "FAIL"
    lines = [f"{configuration.index + 1:4d}/{total} {verdict} {configuration.method:14s} {errors}"]
    for kind, finding in comparison.findings.items():
        if not finding.holds:
            lines.append(
                f"       {kind}: ours {short(finding.ours)}, PyTorch's {short(finding.pytorch)}; "
                f"{finding.note}"
            )
    if not comparison.holds:
        lines.append(f"       {json.dumps(configuration.described())}")
    return "\n".join(lines)


def table(comparisons: list[Comparison]) -> str:
    """For each method the largest errors, ours / PyTorch's."""
    lines = [
        f"{'method':14s} {'runs':>4s} {'failed':>6s}  " + "".join(f"{kind:20s}" for kind in KINDS)
    ]
    by_method: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_method.setdefault(comparison.configuration.method, []).append(comparison)
    for method, group in [*by_method.items(), ("all", comparisons)]:
        cells = [worst(kind, group) for kind in KINDS]
        failed = sum(not comparison.holds for comparison in group)
        lines.append(
            f"{method:14s} {len(group):4d} {failed:6d}  "
            + "".join(f"{cell_text(cell):20s}" for cell in cells).rstrip()
        )
    return "\n".join(lines)


def cell_text(cell: dict[str, Any] | None) -> str:
    """The text: ours / PyTorch's."""
    return "-" if cell is None else f"{short(cell['ours'])} / {short(cell['pytorch'])}"


def short(error: float | None) -> str:
    """An error in few characters."""
    return "-" if error is None else f"{error:.1e}"
