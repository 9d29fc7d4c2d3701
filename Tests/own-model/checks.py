"""One figure and its limit; the table and the report of all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """A figure that may be at most its limit.

    Attributes:
        part: of the run.
        name: what the figure is of.
        figure: NaN never holds.
        limit: the most it may be.
        unit: of both; "" for shares and counts.
    """

    part: str
    name: str
    figure: float
    limit: float
    unit: str = ""

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.figure <= self.limit

    def line(self) -> str:
        """For the table."""
        verdict = "ok  " if self.ok else "FAIL"
        figures = f"{self.figure:10.3g} <= {self.limit:g} {self.unit}".rstrip()
        return f"{verdict} {self.part:10} {self.name:56} {figures}"


def write_report(path: Path, checks: Sequence[Check]) -> None:
    """All checks as a JSON list; a figure that is no number is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        asdict(check)
        | {"figure": check.figure if math.isfinite(check.figure) else None, "ok": check.ok}
        for check in checks
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
