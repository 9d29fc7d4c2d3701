"""The program's own model, against its promises: `make own-model`.

PARTS chooses some parts, COUNT (100) is how many layers and networks are drawn. Writes
build/own-model/report.json, a list of checks, and exits with 1 if one doesn't hold. The parts
`step` and `calls` are timings: they hold on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("Tests/Python", "examples/python", "Benchmarks")
sys.path += [str(REPOSITORY / folder) for folder in FOLDERS]

import accuracy  # noqa: E402
import programs  # noqa: E402
import timing  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from checks import Check, write_report  # noqa: E402

REPORT = REPOSITORY / "build" / "own-model" / "report.json"


def parts(count: int) -> dict[str, Callable[[], Iterator[Check]]]:
    """Every part by its name."""
    return {
        "gradients": partial(accuracy.gradients, count),
        "peft": partial(accuracy.peft_steps, max(1, count // 10)),
        "curve": accuracy.curve,
        "step": timing.step_time,
        "calls": timing.calls,
        "trainer": partial(programs.tests, "trainer", "test_trainer_callback.py"),
        "bad-input": partial(programs.tests, "bad-input", "test_torch_bad_input.py"),
        "bound": programs.bound,
        "sklearn": partial(programs.tests, "sklearn", "test_sklearn.py"),
    }


def main() -> int:
    """Checks the chosen parts; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=int(os.environ.get("COUNT") or 100))
    parser.add_argument("--parts", nargs="+", choices=list(parts(1)), default=list(parts(1)))
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    checks = []
    for name in arguments.parts:
        for check in parts(arguments.count)[name]():
            checks.append(check)
            print(check.line(), flush=True)
    write_report(REPORT, checks)
    failed = sum(not check.ok for check in checks)
    print(f"\n{len(checks)} checks, {failed} failed: {REPORT.relative_to(REPOSITORY)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
