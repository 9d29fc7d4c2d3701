"""The engine's side of a configuration: model, adapter, trainer, merged folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from configuration import Configuration
from safetensors.numpy import load_file
from yardstick import Values

import lorasc

HEAD_OUTPUTS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


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
            elif name in HEAD_OUTPUTS:
                self.adapter[name] = 0.3 * noise

    def values(self) -> Values:
        """Every tensor of the adapter."""
        return {name: self.adapter[name] for name in self.adapter.tensors()}

    def gradients(self, batch: lorasc.Batch) -> tuple[float, Values]:
        """The loss of a batch, and the gradients of all tensors that are not frozen."""
        self.trainer.discard_gradients()
        stats = self.trainer.accumulate(batch)
        return stats.loss, {
            name: self.trainer.gradient(name)
            for name in self.adapter.tensors()
            if not any(part in name for part in self.configuration.frozen)
        }

    def step(self) -> None:
        """One optimizer step with the gradients at hand."""
        self.trainer.apply()

    def close(self) -> None:
        """Gives everything back."""
        for part in (self.trainer, self.adapter, self.model):
            part.close()


def merged_by_engine(adapter: lorasc.Adapter, folder: Path, configuration: Configuration) -> Values:
    """The tensors of the folder that `merge` writes, by the engine's names."""
    adapter.merge(folder)
    prefix = configuration.family.prefix
    merged = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    unused = ["embeddings.position_ids"]
    if not (configuration.architecture == "bert" and configuration.head == "classifier"):
        unused.append("pooler.")
    # Kept from the base, though no class with this head has a use for them
    return {name: value for name, value in merged.items() if not name.startswith(tuple(unused))}
