"""Checks that are tests of the repository or programs: how many did not pass."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from checks import Check

REPOSITORY = Path(__file__).resolve().parents[2]
VALGRIND = (os.environ.get("VALGRIND") or "valgrind -q --error-exitcode=1").split()
"""The Makefile's, with its settings of leaks."""
LAYERS = ("build/tests/contract", "layers")
BOUND = {
    "layers and bound functions from C": LAYERS,
    "the same under valgrind": (*VALGRIND, *LAYERS),
    "executable memory denied": ("build/tests/no_executable_memory",),
}


def tests(part: str, file: str) -> Iterator[Check]:
    """Those of a file in Tests/Python; a skipped one has not passed, nor has a file without any."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = ["-m", "pytest", "-q", f"--junitxml={report}", f"Tests/Python/{file}"]
        done = run([sys.executable, "-W", "ignore", *command])
        suites = list(ET.parse(report).getroot()) if report.is_file() else []
    count = sum(int(suite.get("tests", 0)) for suite in suites)
    missed = sum(
        int(suite.get(kind, 0)) for suite in suites for kind in ("failures", "errors", "skipped")
    )
    if missed or not count:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    yield Check(part, f"{file}: not passed of {count}", missed if count else float("nan"), 0)


def bound() -> Iterator[Check]:
    """Bound functions and layers from C and from SciPy."""
    for name, command in BOUND.items():
        done = run(command)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        yield Check("bound", f"{name}: exit status", abs(done.returncode), 0)
    yield from tests("bound", "test_host_layers.py")


def run(command: list[str] | tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """In the repository, PyTorch on one thread."""
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
