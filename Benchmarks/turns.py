"""Processes that are measured in turn, so that whatever else the machine does hits all."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ENGINES = Path(__file__).with_name("engines.py")


class Runner:
    """One engine in a process of its own, at its first step."""

    def __init__(self, engine: str, job: Path, environment: dict[str, str] | None = None) -> None:
        self.seconds: list[float] = []
        self.loss = float("nan")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(ENGINES), engine, str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )
        self.start = self._read()["start"]

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended: {self._process.wait()}")
        return json.loads(line)

    def warm_up(self, steps: int) -> None:
        """Steps that don't count."""
        self._ask(str(steps))

    def measure(self, steps: int) -> None:
        """More steps."""
        self.seconds += self._ask(str(steps))

    def merge(self, folder: Path) -> float:
        """Merges and saves.

        Returns:
            The seconds that it took.
        """
        return self._ask(f"merge {folder}")[0]

    def _ask(self, command: str) -> list[float]:
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        found = self._read()
        self.loss = found["loss"]
        return found["seconds"]

    def finish(self) -> float:
        """Ends the process.

        Returns:
            The most memory that it held, in MiB.
        """
        self._process.stdin.close()
        peak = self._read()["peak_mib"]
        self._process.wait()
        return peak

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)


def take_turns(runners: list[Runner], steps: int, warm_up: int = 1, turn: int = 4) -> None:
    """Measures so many steps of each, a few at a time."""
    for runner in runners:
        runner.warm_up(warm_up)
    for done in range(0, steps, turn):
        for runner in runners:
            runner.measure(min(turn, steps - done))
