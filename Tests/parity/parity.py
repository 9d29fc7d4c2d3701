"""The engine against live PEFT on random configurations: `make parity`.

SEED (0) draws them, COUNT (100) is how many. Writes build/parity/report.json and exits with 1
if anything is beyond the yardstick.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "Tests" / "Python"))

import torch  # noqa: E402
import transformers  # noqa: E402
from comparison import KINDS, compare  # noqa: E402
from configuration import METHODS  # noqa: E402
from report import progress, table, write_report  # noqa: E402


def read_arguments() -> argparse.Namespace:
    """The command line, whose defaults are in the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 0))
    parser.add_argument("--count", type=int, default=int(os.environ.get("COUNT") or 100))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", type=int, help="the index of a single configuration")
    parser.add_argument("--report", type=Path, default=REPOSITORY / "build/parity/report.json")
    return parser.parse_args()


def main() -> int:
    """Compares every configuration; the exit code."""
    arguments = read_arguments()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    indices = range(arguments.count) if arguments.only is None else [arguments.only]
    comparisons = []
    for index in indices:
        with tempfile.TemporaryDirectory() as folder:
            comparison = compare(
                arguments.seed, index, arguments.methods, arguments.kinds, Path(folder)
            )
        comparisons.append(comparison)
        print(progress(comparison, arguments.count), flush=True)
    write_report(arguments.report, arguments.seed, comparisons)
    failed = sum(not comparison.holds for comparison in comparisons)
    print(f"\nLargest errors, ours / PyTorch's:\n{table(comparisons)}")
    print(f"\n{len(comparisons)} configurations, {failed} failed: {arguments.report}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
