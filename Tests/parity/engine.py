"""The engine's side of a configuration: model, adapter, trainer, merged folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from configuration import Configuration
from safetensors.numpy import load_file
from yardstick import Values

import lorasc


class Engine:
    """A model with an adapter whose start shows every gradient, and a trainer of it."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self.configuration = configuration
        self.model = lorasc.Model(path, threads=1)
        self.adapter = lorasc.Adapter(self.model, **configuration.adapter_options())
        self._perturb()
        self.trainer = lorasc.Trainer(self.model, self.adapter, **configuration.trainer_options())

    def _perturb(self) -> None:
        """Random values where a start at zero or at a norm would hide mistakes.

        A factor's values are divided by the scale, so that experts stay small. PiSSA's own
        factors stay as they are.
        """
        random = np.random.default_rng(self.configuration.index)
        zeros = ("lora_embedding_A",)
        if not self.configuration.is_pissa:
            zeros += ("lora_B.weight",)
        scale = max(1.0, self.configuration.adapter["lora_alpha"])
        for name, info in self.adapter.tensors().items():
            noise = random.normal(size=info.shape)
            if name.endswith(zeros):
                self.adapter[name] = 0.2 / scale * noise
            elif name.endswith("lora_magnitude_vector"):
                self.adapter[name] = self.adapter[name] * (1 + 0.1 * noise)
            elif name == "classifier.weight":
                self.adapter[name] = 0.3 * noise

    def values(self) -> Values:
        """Every tensor of the adapter."""
        return {name: self.adapter[name] for name in self.adapter.tensors()}

    def gradients(self, batch: lorasc.Batch, names: list[str]) -> tuple[float, Values]:
        """The loss of a batch, and the gradients of these tensors."""
        stats = self.trainer.accumulate(batch)
        return stats.loss, {name: self.trainer.gradient(name) for name in names}

    def step(self) -> None:
        """One optimizer step with the gradients at hand."""
        self.trainer.apply()

    def close(self) -> None:
        """Gives everything back."""
        for part in (self.trainer, self.adapter, self.model):
            part.close()


def merged_by_engine(adapter: lorasc.Adapter, folder: Path, head: str) -> Values:
    """The tensors of the folder that `merge` writes, without "bert."."""
    adapter.merge(folder)
    tensors = load_file(folder / "model.safetensors")
    merged = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    if head == "mean_linear":
        # Kept from the base, though this head has no use for them
        for name in [name for name in merged if name.startswith(("pooler.", "classifier."))]:
            del merged[name]
    return merged
