"""Configurations with their models and batches, at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bases import adapted_modules, make_folder, open_base
from batches import draw_batch
from configuration import Configuration
from drawing import Drawer
from transformers import PreTrainedModel

import lorasc


@dataclass
class Case:
    """What is compared.

    Attributes:
        configuration: of model, adapter and trainer.
        path: the model's folder.
        base: the same, open.
        batches: one for each step.
        scratch: a folder for files.
    """

    configuration: Configuration
    path: Path
    base: PreTrainedModel
    batches: Iterator[lorasc.Batch]
    scratch: Path


def draw_case(drawer: Drawer, seed: int, scratch: Path) -> Case:
    """A random configuration that adapts something."""
    while True:
        configuration = drawer.configuration()
        path = make_folder(configuration, seed + drawer.index, scratch / "model")
        base = open_base(path, configuration)
        modules = adapted_modules(base, configuration)
        if modules:
            adapter = configuration.adapter | drawer.patterns(modules)
            configuration = replace(configuration, adapter=adapter)
            return Case(configuration, path, base, batches(drawer, configuration), scratch)


def batches(drawer: Drawer, configuration: Configuration) -> Iterator[lorasc.Batch]:
    """Endless random batches."""
    while True:
        yield draw_batch(drawer.dice.random, configuration)
