"""Compares a benchmark's report with thresholds: `make bench-check`.

    python Benchmarks/check_report.py [build/bench/report.json]

Only ratios and shares count, which hold on any machine, never seconds. A row has the threshold that
names its model, else its type's. Ends with 1 where one is exceeded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


class Figure(NamedTuple):
    """A measured ratio beside the largest that passes."""

    name: str
    value: float
    limit: float

    @property
    def passes(self) -> bool:
        """False for NaN, too."""
        return self.value <= self.limit


def threshold(row: dict[str, Any], limits: list[dict[str, Any]]) -> dict[str, Any]:
    """What holds for a row of the report's cases.

    Raises:
        LookupError: nothing does.
    """
    fitting = [one for one in limits if one["dtype"] == row["dtype"]]
    own = [one for one in fitting if one.get("model") == row["model"]]
    general = [one for one in fitting if "model" not in one]
    if not own + general:
        raise LookupError(f"no threshold for {row['model']} in {row['dtype']}")
    return (own + general)[0]


def figures(report: dict[str, Any], limits: dict[str, Any]) -> Iterator[Figure]:
    """All that a report holds, in its order."""
    for row in report.get("cases", []):
        limit = threshold(row, limits["cases"])
        name = f"{row['model']} {row['shape']} {row['adapters']} {row['dtype']}"
        for kind in ("ratio_default", "ratio_memory"):
            yield Figure(f"{name}: {kind}", row[kind], limit[kind])
    for row in report.get("methods", []):
        for method, limit in limits["methods"].items():
            yield Figure(f"{row['case']}: {method}", row["ratios"][method], limit)
    for row in report.get("recompute", []):
        name = f"{row['case']} {row['dtype']} recomputed: memory"
        yield Figure(name, row["ratio_memory"], limits["recompute"])
    for name, limit in limits["texts"].items():
        if "texts" in report:
            yield Figure(f"texts, {name}", report["texts"]["ratios"][name], limit)
    for part in ("merge", "quantized"):
        if part in report:
            yield Figure(part, report[part]["ratio"], limits[part])
    for row in report.get("curves", []):
        for kind, limit in limits["curves"].items():
            yield Figure(f"{row['model']} in bfloat16: {kind}", row[kind], limit)


def main(arguments: list[str]) -> int:
    """Prints each figure."""
    path = Path(arguments[0]) if arguments else HERE.parent / "build" / "bench" / "report.json"
    report = json.loads(path.read_text())
    found = list(figures(report, json.loads((HERE / "thresholds.json").read_text())))
    for figure in found:
        mark = "ok  " if figure.passes else "FAIL"
        print(f"{mark} {figure.name:62} {figure.value:6.3f} <= {figure.limit}")
    failed = sum(not figure.passes for figure in found)
    print(f"{len(found)} figures, {failed} beyond their thresholds")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
