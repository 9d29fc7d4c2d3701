"""One configuration compared: loss, gradients, ten steps, merged weights, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bases import engine_name
from cases import Case
from configuration import Configuration
from engine import Engine, merged_by_engine
from files import compare_files
from peer import Peer, merged_by_peft
from yardstick import Finding, Values, compare_exactly, compare_jointly, failure, zeros

import lorasc

KINDS = ("loss", "gradients", "steps", "merge", "files")
STEPS = 10
SAMPLES = 4
"""Batches whose gradients are compared at the start."""


@dataclass
class Comparison:
    """A configuration and a finding for each kind."""

    configuration: Configuration
    findings: dict[str, Finding]

    @property
    def holds(self) -> bool:
        """True where every kind does."""
        return all(finding.holds for finding in self.findings.values())


def compare(case: Case, kinds: list[str]) -> Comparison:
    """Compares a configuration."""
    comparison = Comparison(case.configuration, {})
    try:
        Pair(case).compare(kinds, comparison.findings)
    except Exception as error:
        for kind in kinds:
            comparison.findings.setdefault(kind, failure(error))
    found = comparison.findings
    comparison.findings = {kind: found[kind] for kind in KINDS if kind in found}
    return comparison


class Pair:
    """The engine and both peers, from the same start on the same rows."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.configuration = configuration = case.configuration
        self.engine = Engine(case.path, configuration)
        self.float32 = Peer(case.base, configuration, torch.float32)
        self.float64 = Peer(case.base, configuration, torch.float64)
        self.sides = (self.engine, self.float32, self.float64)
        self.adapted = set(self.float64.adapted_weights)
        for peer in (self.float32, self.float64):
            peer.take(self.engine.values())
            if configuration.is_pissa:
                peer.take_out_factors()

    def compare(self, kinds: list[str], findings: dict[str, Finding]) -> None:
        """Adds a finding for each kind; a kind that fails in itself does not end the others."""
        self.train(findings)
        for peer in (self.float32, self.float64):
            peer.take(self.engine.values())
        # PEFT merges the whole expert; the merged view holds a share of it
        unslowed = merged_by_peft(self.float64.model, self.configuration.architecture)
        truth = self.slowed(unslowed)
        if "merge" in kinds:
            findings["merge"] = self.compare_merged(truth)
        if "files" in kinds:
            try:
                findings["files"] = compare_files(
                    self.engine, self.case.base, self.float32, truth, unslowed, self.case.scratch
                )
            except Exception as error:
                findings["files"] = failure(error)
        self.engine.close()

    def train(self, findings: dict[str, Finding]) -> None:
        """The start's gradients, and ten steps of all three."""
        ours, theirs, truth = self.start_gradients()
        still = zeros(truth)
        findings["gradients"] = compare_jointly(ours, theirs, truth, still)
        losses = []
        for _ in range(STEPS):
            batch = self.batch()
            losses.append([side.gradients(batch)[0] for side in self.sides])
            for side in self.sides:
                side.step()
        ours, theirs, truth = ({"loss": np.array(column)} for column in zip(*losses, strict=True))
        findings["loss"] = compare_jointly(ours, theirs, truth)
        findings["steps"] = compare_jointly(
            self.engine.values(), self.float32.values(), self.float64.values(), still
        )

    def batch(self) -> lorasc.Batch:
        """The next one."""
        return next(filter(self.float64.is_smooth, self.case.batches))

    def start_gradients(self) -> list[Values]:
        """Each side's at the start, on several batches.

        On one alone the rounding of a single ill-conditioned row, which differs with the order of
        rows, may decide which side is nearer to the truth.
        """
        batches = [self.batch() for _ in range(SAMPLES)]
        found = []
        for side in self.sides:
            each = [side.gradients(batch)[1] for batch in batches]
            found.append({name: np.stack([values[name] for values in each]) for name in each[0]})
        return found

    def slowed(self, merged: Values) -> Values:
        """Merged weights with a share of the expert: W + μ (merged - W).

        What is trained in full, heads and biases, is not slowed.
        """
        rate = self.configuration.slow_rate
        if rate == 1:
            return merged
        original = {
            engine_name(name, self.configuration.architecture): tensor
            for name, tensor in self.case.base.state_dict().items()
        }

        def share(name: str, value: Any) -> Any:
            start = original[name].double().numpy()
            return start + rate * (value - start)

        return {
            name: share(name, value) if name in self.adapted else value
            for name, value in merged.items()
        }

    def compare_merged(self, truth: Values) -> Finding:
        """The merged folder, and the trainer's view of each adapted matrix."""
        engine = self.engine
        ours = merged_by_engine(engine.adapter, self.case.scratch / "merged", self.configuration)
        views = {name: engine.trainer.merged(name) for name in self.adapted}
        theirs = self.slowed(self.float32.merged())

        def with_views(values: Values, viewed: Values) -> Values:
            return values | {f"view of {name}": viewed[name] for name in views}

        return compare_exactly(
            with_views(ours, views), with_views(theirs, theirs), with_views(truth, truth)
        )
