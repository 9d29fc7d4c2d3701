"""The engine against live PEFT, on random configurations and on real weights: `make parity`.

SEED (0) draws them, COUNT (100) is how many random ones, ARCHITECTURES chooses among them and the
models with real weights. Writes build/parity/report.json and exits with 1 if anything is beyond
the yardstick.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY / folder) for folder in ("Tests/Python", "examples/python")]

import torch  # noqa: E402
import transformers  # noqa: E402
from cases import Case, draw_case  # noqa: E402
from comparison import KINDS, compare  # noqa: E402
from configuration import METHODS  # noqa: E402
from drawing import Drawer  # noqa: E402
from families import FAMILIES  # noqa: E402
from real import REAL, real_case  # noqa: E402
from report import failures, progress, tables, write_report  # noqa: E402


def read_arguments() -> argparse.Namespace:
    """The command line, whose defaults are in the environment."""
    known = [*FAMILIES, *REAL]
    chosen = (os.environ.get("ARCHITECTURES") or "").replace(",", " ").split()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 0))
    parser.add_argument("--count", type=int, default=int(os.environ.get("COUNT") or 100))
    parser.add_argument("--architectures", nargs="+", metavar="NAME", default=chosen or known)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", type=int, help="the index of a single random configuration")
    parser.add_argument("--report", type=Path, default=REPOSITORY / "build/parity/report.json")
    arguments = parser.parse_args()
    strangers = [name for name in arguments.architectures if name not in known]
    if strangers:
        parser.error(f"architectures: no {', '.join(strangers)}; known: {', '.join(known)}")
    return arguments


def cases(arguments: argparse.Namespace) -> Iterator[Callable[[Path], Case]]:
    """What makes each case, with its files in a folder."""
    families = [name for name in arguments.architectures if name in FAMILIES]
    count = arguments.count if families else 0
    indices = range(count) if arguments.only is None else [arguments.only]
    for index in indices:
        drawer = Drawer(arguments.seed, index, families, arguments.methods)
        yield partial(draw_case, drawer, arguments.seed)
    if arguments.only is None:
        for name in arguments.architectures:
            for configuration in REAL.get(name, []):
                yield partial(real_case, configuration)


def main() -> int:
    """Compares every configuration; the exit code."""
    arguments = read_arguments()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    wanted = list(cases(arguments))
    comparisons = []
    # PEFT's models refer to themselves: real ones must not wait for the collector's own time
    gc.freeze()
    for make in wanted:
        with tempfile.TemporaryDirectory() as folder:
            comparisons.append(compare(make(Path(folder)), arguments.kinds))
        gc.collect()
        print(progress(comparisons[-1], len(comparisons), len(wanted)), flush=True)
    write_report(arguments.report, arguments.seed, comparisons)
    print(f"\nLargest errors, ours / PyTorch's:\n{tables(comparisons)}")
    print(f"\n{len(wanted)} configurations, {failures(comparisons)} failed: {arguments.report}")
    return 1 if failures(comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
