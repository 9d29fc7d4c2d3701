"""One configuration compared: loss, gradients, ten steps, merged weights, files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from configuration import Configuration, Drawer
from engine import Engine, merged_by_engine
from files import compare_files
from peer import Peer, adapted_modules, open_base
from tiny import make_tiny
from transformers import PreTrainedModel
from yardstick import Finding, Values, compare_exactly, compare_jointly, failure, zeros

import lorasc

KINDS = ("loss", "gradients", "steps", "merge", "files")
STEPS = 10


@dataclass
class Comparison:
    """A configuration and a finding for each kind."""

    configuration: Configuration
    findings: dict[str, Finding]

    @property
    def holds(self) -> bool:
        """True where every kind does."""
        return all(finding.holds for finding in self.findings.values())


def compare(
    seed: int, index: int, methods: list[str], kinds: list[str], folder: Path
) -> Comparison:
    """Draws a configuration and compares it."""
    drawer = Drawer(seed, index, methods)
    configuration, base = draw(drawer, seed, folder)
    comparison = Comparison(configuration, {})
    try:
        Pair(configuration, base, folder, drawer.random).compare(kinds, comparison.findings)
    except Exception as error:
        for kind in kinds:
            comparison.findings.setdefault(kind, failure(error))
    found = comparison.findings
    comparison.findings = {kind: found[kind] for kind in KINDS if kind in found}
    return comparison


def draw(drawer: Drawer, seed: int, folder: Path) -> tuple[Configuration, PreTrainedModel]:
    """A configuration that adapts something, and its model, saved as `folder`/model."""
    while True:
        configuration = drawer.configuration()
        path = make_tiny(
            folder / "model",
            num_labels=configuration.labels if configuration.has_own_head else 0,
            seed=seed + drawer.index,
            **configuration.sizes,
        )
        base = open_base(path, configuration)
        modules = adapted_modules(base, configuration)
        if modules:
            adapter = configuration.adapter | drawer.patterns(modules)
            return replace(configuration, adapter=adapter), base


class Pair:
    """The engine and both peers, from the same start on the same rows."""

    def __init__(
        self,
        configuration: Configuration,
        base: PreTrainedModel,
        folder: Path,
        random: np.random.Generator,
    ) -> None:
        self.configuration = configuration
        self.base = base
        self.folder = folder
        self.batches = [draw_rows(random, configuration) for _ in range(STEPS)]
        self.engine = Engine(folder / "model", configuration)
        self.float32 = Peer(base, configuration, torch.float32)
        self.float64 = Peer(base, configuration, torch.float64)
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
        unslowed = self.float64.merged()
        truth = self.slowed(unslowed)
        if "merge" in kinds:
            findings["merge"] = self.compare_merged(truth)
        if "files" in kinds:
            try:
                findings["files"] = compare_files(
                    self.engine, self.base, self.float32, truth, unslowed, self.folder
                )
            except Exception as error:
                findings["files"] = failure(error)
        self.engine.close()

    def train(self, findings: dict[str, Finding]) -> None:
        """Ten steps of all three; the first one's gradients."""
        names = list(self.float64.trained)
        still: set[str] = set()
        losses: list[tuple[float, float, float]] = []
        for number, batch in enumerate(self.batches):
            loss, gradients = self.engine.gradients(batch, names)
            loss32, gradients32 = self.float32.gradients(batch)
            loss64, gradients64 = self.float64.gradients(batch)
            losses.append((loss, loss32, loss64))
            if number == 0:
                still = zeros(gradients64)
                findings["gradients"] = compare_jointly(gradients, gradients32, gradients64, still)
            for side in (self.engine, self.float32, self.float64):
                side.step()
        ours, theirs, truth = ({"loss": np.array(column)} for column in zip(*losses, strict=True))
        findings["loss"] = compare_jointly(ours, theirs, truth)
        findings["steps"] = compare_jointly(
            self.engine.values(), self.float32.values(), self.float64.values(), still
        )

    def slowed(self, merged: Values) -> Values:
        """Merged weights with a share of the expert: W + μ (merged - W).

        What is trained in full, heads and biases, is not slowed.
        """
        rate = self.configuration.slow_rate
        original = {
            name.removeprefix("bert."): tensor.numpy()
            for name, tensor in self.base.double().state_dict().items()
        }
        self.base.float()
        return {
            name: original[name] + rate * (value - original[name])
            if name in self.float64.adapted_weights
            else value
            for name, value in merged.items()
        }

    def compare_merged(self, truth: Values) -> Finding:
        """The merged folder, and the trainer's view of each adapted matrix."""
        engine, head = self.engine, self.configuration.head
        ours = merged_by_engine(engine.adapter, self.folder / "merged", head)
        views = {name: engine.trainer.merged(name) for name in self.float64.adapted_weights}
        theirs = self.slowed(self.float32.merged())

        def with_views(values: Values, viewed: Values) -> Values:
            return values | {f"view of {name}": viewed[name] for name in views}

        return compare_exactly(
            with_views(ours, views), with_views(theirs, theirs), with_views(truth, truth)
        )


def draw_rows(random: np.random.Generator, configuration: Configuration) -> lorasc.Batch:
    """A few rows of different lengths; the padding token, 0, may stand inside."""
    sizes = configuration.sizes
    longest = min(sizes["max_position_embeddings"], 16)
    rows = [
        random.integers(0, sizes["vocab_size"], random.integers(1, longest + 1)).tolist()
        for _ in range(random.integers(3, 8))
    ]
    answers = (
        {"targets": random.normal(size=(len(rows), configuration.labels)).astype(np.float32)}
        if configuration.regression
        else {"labels": random.integers(0, configuration.labels, len(rows))}
    )
    token_types = [random.integers(0, 2, len(row)).tolist() for row in rows]
    return lorasc.Batch(rows, token_types=token_types, **answers)
