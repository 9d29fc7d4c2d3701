"""LoRASC's cascades over a PEFT model, whose tensors PyTorch and PEFT own and train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from .._options import options as option_table
from ..adapter import Adapter
from ..errors import ArgumentError, OptionError, Status
from ..host import HostMatrix, HostModel, Layer
from ..trainer import Trainer
from ._optimizer import reset_state
from ._refused import PEFTS, PYTORCHS, refuse
from ._steps import is_per_step, require_steps


class Cascade:
    """Noise, slow updates, merges and fresh experts for a PEFT model in training.

    PyTorch trains A and B (and DoRA's m) as always. At each boundary the engine gets them as
    float32 copies on the CPU, computes what its own trainer would, to the same bits, and the
    result is written back: the merged weight, with the next cascade's noise, into ``base_layer``,
    fresh factors into PEFT's parameters. Between boundaries nothing is in the way; only with
    ``noise_lifetime="per_step"``, on the CPU, ``end_step`` writes each step's weight.

    Args:
        model: a PeftModel with one active LoRA adapter on linear layers, on any device.
        optimizer: whose state of the factors a boundary treats; None: there is none.
        options: ``slow_rate``, ``slow_rule``, ``noise``, ``reinit``, ``seed``, ``adapter_seed``,
            ``boundary_optimizer``, ... of ``lorasc.options()``.

    Raises:
        ArgumentError: no LoRA layer, an embedding or a quantised layer among them.
        OptionError: a bad option, or one of what is PyTorch's or PEFT's here;
            ``noise_lifetime="per_step"`` off the CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        **options: Any,
    ) -> None:
        refuse(options, {"PyTorch": PYTORCHS, "PEFT": PEFTS})
        self.model = model
        self.optimizer = optimizer
        self._layers = dict(_lora_layers(model))
        if not self._layers:
            raise ArgumentError(Status.ARGUMENT, "the model has no LoRA layer of PEFT's", "model")
        self._per_step = is_per_step(options)
        for name, layer in self._layers.items():
            device = layer.base.weight.device
            if self._per_step and device.type != "cpu":
                raise OptionError(
                    Status.OPTION,
                    f"option noise_lifetime: {name} is on {device}, and per_step is for the CPU",
                    "noise_lifetime",
                )
        self._boundary = (
            str(options.get("boundary_optimizer", "reset")),
            float(options.get("prune_ratio", 0.9)),
        )
        self._make(options)

    def _make(self, options: dict[str, Any]) -> None:
        copies = {name: layer.weight() for name, layer in self._layers.items()}
        ranks = {name: layer.rank for name, layer in self._layers.items()}
        first = next(iter(self._layers.values()))
        scopes = {row.key: row.scope for row in option_table()}
        of = {
            scope: {key: value for key, value in options.items() if scopes.get(key) == scope}
            for scope in ("model", "adapter", "trainer")
        }
        unknown = set(options) - set(scopes)
        if unknown:
            key = min(unknown)
            raise OptionError(Status.OPTION, f"unknown option '{key}'", key)
        self._host = HostModel(
            {name: HostMatrix.of_array(copy) for name, copy in copies.items()}, **of["model"]
        )
        self.adapter = Adapter(
            self._host,
            **{
                "method": "lorasc",
                "use_dora": first.magnitude is not None,
                "r": first.rank,
                "rank_pattern": {f"^{name}$": rank for name, rank in ranks.items()},
                "alpha_pattern": {
                    f"^{name}$": layer.scale * layer.rank for name, layer in self._layers.items()
                },
            }
            | of["adapter"],
        )
        self.trainer = Trainer(
            self._host,
            self.adapter,
            **{"schedule": "constant", "cascade_unit": "none"} | of["trainer"],
        )
        self._engine = {name: Layer(self.trainer, name) for name in self._layers}
        self._hand_over()
        self._write_weights()
        # DoRA's magnitudes are those of the noisy weights now.
        self._take_factors()

    @property
    def cascade(self) -> int:
        """The current cascade, from 1."""
        return self.trainer.info.cascade

    def factors(self) -> Iterator[nn.Parameter]:
        """A, B and m, which PEFT owns."""
        for layer in self._layers.values():
            yield from layer.factors.values()

    def end_step(self) -> None:
        """After each step of the optimizer, where ``noise_lifetime="per_step"``: other noise."""
        self.trainer.count_step()
        if self._per_step:
            self._write_weights()

    def end_cascade(self, optimizer: torch.optim.Optimizer | None = None) -> int:
        """The boundary; see the class.

        Args:
            optimizer: instead of the one given at the start.

        Returns:
            The cascade that begins.

        Raises:
            StateError: noise per step, and no end_step().
        """
        require_steps(self.trainer, self._per_step)
        self._hand_over()
        cascade = self.trainer.cascade().cascade
        self._write_weights()
        self._take_factors()
        optimizer = optimizer or self.optimizer
        if optimizer is not None:
            reset_state(optimizer, self.factors(), *self._boundary)
        return cascade

    def merge(self) -> None:
        """Writes the merged weights into the base layers; the experts change nothing then."""
        self._hand_over()
        with torch.no_grad():
            for name, layer in self._layers.items():
                merged = self.trainer.merged(name + ".weight").reshape(layer.shape)
                layer.set_weight(merged)
                layer.factors["lora_B.weight"].zero_()
                if layer.magnitude is not None:
                    layer.set_factor("lora_magnitude_vector", np.linalg.norm(merged, axis=1))

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Writes where the cascades stand, with the factors as they are now."""
        self._hand_over()
        self.trainer.save(path)

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Takes a saved state, and writes weights and factors back."""
        self.trainer.resume(path)
        factors = {
            (name, kind): self.adapter[f"{name}.{kind}"]
            for name, layer in self._layers.items()
            for kind in layer.factors
        }
        self._write_weights()
        for (name, kind), values in factors.items():
            self._layers[name].set_factor(kind, values)

    def _hand_over(self) -> None:
        """The factors as PyTorch trained them, to the engine."""
        for name, layer in self._layers.items():
            for kind, values in layer.factors.items():
                self.adapter[f"{name}.{kind}"] = values.detach().float().cpu().numpy()

    def _take_factors(self) -> None:
        for name, layer in self._layers.items():
            for kind in layer.factors:
                layer.set_factor(kind, self.adapter[f"{name}.{kind}"])

    def _write_weights(self) -> None:
        """W̃ of the cascade, or of its next step, into the base layers."""
        for name, layer in self._layers.items():
            layer.set_weight(self._engine[name].weight())


class _LoRALayer:
    """One LoRA layer of PEFT's with its active adapter."""

    def __init__(self, module: Any, adapter: str) -> None:
        self.base = module.get_base_layer()
        self.scale = float(module.scaling[adapter])
        self.rank = int(module.r[adapter])
        self.is_transposed = bool(getattr(module, "fan_in_fan_out", False))
        self.factors: dict[str, nn.Parameter] = {
            "lora_A.weight": module.lora_A[adapter].weight,
            "lora_B.weight": module.lora_B[adapter].weight,
        }
        vectors = getattr(module, "lora_magnitude_vector", {})
        self.magnitude = vectors[adapter].weight if adapter in vectors else None
        if self.magnitude is not None:
            self.factors["lora_magnitude_vector"] = self.magnitude
        rows, columns = self.base.weight.shape
        self.shape = (columns, rows) if self.is_transposed else (rows, columns)

    def weight(self) -> np.ndarray:
        """(out, in) float32, a copy."""
        values = self.base.weight.detach().float().cpu()
        return np.array((values.T if self.is_transposed else values).numpy(), order="C")

    def set_weight(self, values: np.ndarray) -> None:
        """Rounded once to the base layer's type."""
        given = torch.from_numpy(values)
        with torch.no_grad():
            self.base.weight.copy_(given.T if self.is_transposed else given)

    def set_factor(self, kind: str, values: np.ndarray) -> None:
        """Into PEFT's parameter."""
        with torch.no_grad():
            self.factors[kind].copy_(torch.from_numpy(values).view(self.factors[kind].shape))


def _lora_layers(model: nn.Module) -> Iterator[tuple[str, _LoRALayer]]:
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A") or not hasattr(module, "get_base_layer"):
            continue
        active = list(module.active_adapters)
        if len(active) != 1 or active[0] not in module.lora_A:
            raise ArgumentError(
                Status.ARGUMENT, f"{name}: one active LoRA adapter on a linear layer is due", name
            )
        base = module.get_base_layer()
        if not torch.is_floating_point(base.weight) or base.weight.ndim != 2:
            raise ArgumentError(Status.ARGUMENT, f"{name} is no plain linear layer", name)
        yield name.removeprefix("base_model.model."), _LoRALayer(module, active[0])
