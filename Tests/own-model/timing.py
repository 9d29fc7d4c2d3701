"""Times that hold on a quiet machine: a step inside PyTorch, and a layer's call from C."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import cases
from bench import Bench
from checks import Check
from programs import REPOSITORY
from turns import Runner, take_turns

STEPS, THREADS = 60, 2
CALL_LIMIT, BOUND_LIMIT = 2.0, 0.1
"""Microseconds beyond a layer's products, and of a bound function beyond the direct call."""


def step_time() -> Iterator[Check]:
    """A step of MiniLM with attach() beside PEFT's, in turn; and the engine's own."""
    case = cases.Case("minilm", 32, 64, "q,v r=8")
    bench = Bench(THREADS, STEPS, compiles=False)
    batches = [cases.made_up_batch(case)]
    runners = bench.pair(case, batches)
    runners["attach"] = Runner("attach", bench.job(case, batches))
    take_turns(list(runners.values()), STEPS, warm_up=3)
    for runner in runners.values():
        runner.finish()
    peft = runners["default"].median
    print(", ".join(f"{name} {1e3 * one.median:.1f} ms" for name, one in runners.items()))
    yield Check(
        "step", "MiniLM 32x64, attach beside PEFT: time", runners["attach"].median / peft, 1
    )


def calls() -> Iterator[Check]:
    """What Benchmarks/layer.c measures."""
    program = REPOSITORY / "build" / "bench" / "layer"
    for line in subprocess.check_output([program], text=True).splitlines():
        name, call, beside = line.split("\t")
        is_bound = name.startswith("bound")
        beyond = float(call) - float(beside)
        yield Check("calls", name, beyond, BOUND_LIMIT if is_bound else CALL_LIMIT, "us")
