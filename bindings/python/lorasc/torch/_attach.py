"""Engine-backed adapters on a PyTorch model's linear layers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .._options import options as option_table
from ..adapter import Adapter
from ..errors import ArgumentError, StateError, Status
from ..host import HostModel, Layer
from ..reports import SaveReport
from ..trainer import Trainer
from ._linear import AdaptedLinear, host_matrix, is_linear
from ._optimizer import reset_state
from ._refused import PYTORCHS, refuse
from ._steps import is_per_step, require_steps


class Attached:
    """The adapters on a model, and where its cascades stand.

    Attributes:
        model: the PyTorch model, whose adapted layers are AdaptedLinear now.
        adapter: the engine's adapter, which owns the result.
        trainer: the engine's, for the cascades.
        layers: the adapted layers by module name.
    """

    def __init__(
        self,
        model: nn.Module,
        host: HostModel,
        adapter: Adapter,
        trainer: Trainer,
        layers: dict[str, AdaptedLinear],
        boundary_optimizer: tuple[str, float],
        per_step: bool,
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.trainer = trainer
        self.layers = layers
        self._host = host
        self._boundary_optimizer = boundary_optimizer
        self._per_step = per_step

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained: the factors, and whatever else of the model has requires_grad."""
        return (item for item in self.model.parameters() if item.requires_grad)

    def factors(self) -> Iterator[nn.Parameter]:
        """A, B and m of the current experts."""
        for layer in self.layers.values():
            yield from layer.parameters(recurse=False)

    @property
    def cascade(self) -> int:
        """The current cascade, from 1."""
        return self.trainer.info.cascade

    def end_step(self) -> None:
        """After each step of the optimizer, where ``noise_lifetime="per_step"``: other noise."""
        self.trainer.count_step()

    def end_cascade(self, optimizer: torch.optim.Optimizer | None = None) -> int:
        """The slow update and the merge; then fresh experts, in the same parameters.

        Args:
            optimizer: its state of the factors is treated as ``boundary_optimizer`` says.

        Returns:
            The cascade that begins.

        Raises:
            StateError: noise per step, and no end_step(); or merged before.
        """
        require_steps(self.trainer, self._per_step)
        cascade = self.trainer.cascade().cascade
        with torch.no_grad():
            for factor in self.factors():
                factor.grad = None
        if optimizer is not None:
            reset_state(optimizer, self.factors(), *self._boundary_optimizer)
        return cascade

    def save(self, directory: str | os.PathLike[str], rank: int | None = None) -> SaveReport:
        """Writes the merged view as a folder that PEFT opens; see Adapter.save."""
        return self.adapter.save(directory, rank)

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Writes where the cascades stand, with the factors; the optimizer's state is PyTorch's."""
        self.trainer.save(path)

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Takes a saved state into adapters made with the same options.

        Raises:
            FormatError: other options, another model (MISMATCH), or a damaged file.
        """
        self.trainer.resume(path)

    def merge(self) -> nn.Module:
        """The plain model again, with the merged weights in its own parameters.

        Raises:
            NonFiniteError: nothing has changed.
        """
        self._host.merge(self.adapter)
        for name, layer in self.layers.items():
            _put(self.model, name, layer.base_layer)
        return self.model

    def detach(self) -> nn.Module:
        """The plain model again, as it was."""
        for name, layer in self.layers.items():
            _put(self.model, name, layer.base_layer)
        return self.model


def attach(model: nn.Module, method: str = "lorasc", **options: Any) -> Attached:
    """Puts adapters on a model's linear layers, in place; all else is frozen.

    Args:
        model: on the CPU. Its ``nn.Linear`` and transformers' ``Conv1D`` modules can be adapted;
            their weights (float32, bfloat16 or float16) stay where they are and are read there.
        method: a preset of the library's, see ``lorasc.options()``.
        options: of scopes "adapter" and "trainer", and ``threads``. ``target_modules`` follows
            PEFT's rules on the model's own names; "auto": the modules that are PEFT's default for
            the model, else all linear ones but the output layer. The loss, the optimizer and the
            schedule are PyTorch's: options of theirs are refused, see docs/host-models.md.

    Raises:
        OptionError: a bad option, or one of what is PyTorch's here.
        DataError: the target rule matches no module (NO_MATCH).
        ArgumentError: a module on another device, or of another type.
        StateError: the model has adapters of this library already.
    """
    refuse(options, {"PyTorch": PYTORCHS})
    modules = dict(model.named_modules())
    if any(isinstance(module, AdaptedLinear) for module in modules.values()):
        raise StateError(Status.STATE, "the model has adapters already: detach them first", "model")
    linears = {name: module for name, module in modules.items() if is_linear(module) and name}
    if not linears:
        raise ArgumentError(Status.ARGUMENT, "the model has no linear layer", "model")
    targets = options.pop("target_modules", "auto")
    outputs = _outputs(model, modules)
    if targets in ("auto", "all-linear"):
        linears = {name: module for name, module in linears.items() if name not in outputs}
    if targets == "auto":
        targets = _default_targets(model) or "all-linear"
    scopes = {row.key: row.scope for row in option_table()}
    of = {
        scope: {key: value for key, value in options.items() if scopes.get(key, "trainer") == scope}
        for scope in ("model", "adapter", "trainer")
    }
    host = HostModel(
        {name: host_matrix(name, module) for name, module in linears.items()},
        **{"thread_pool": _thread_pool()} | of["model"],
    )
    adapter = Adapter(host, method=method, target_modules=targets, **of["adapter"])
    trainer = Trainer(
        host, adapter, **{"schedule": "constant", "cascade_unit": "none"} | of["trainer"]
    )
    with torch.no_grad():
        for item in model.parameters():
            item.requires_grad_(False)
    layers = {}
    for found in adapter.modules:
        layer = AdaptedLinear(linears[found.module], adapter, Layer(trainer, found.module))
        layer.train(linears[found.module].training)
        _put(model, found.module, layer)
        layers[found.module] = layer
    boundary = (
        str(of["trainer"].get("boundary_optimizer", "reset")),
        float(of["trainer"].get("prune_ratio", 0.9)),
    )
    return Attached(model, host, adapter, trainer, layers, boundary, is_per_step(options))


def _thread_pool() -> str:
    """PyTorch's own threads, where it has them from GNU's OpenMP."""
    return "openmp" if hasattr(ctypes.CDLL(None), "GOMP_parallel") else "own"


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _outputs(model: nn.Module, modules: dict[str, nn.Module]) -> set[str]:
    """Names of the output layer, which ``all-linear`` leaves out as PEFT does."""
    find = getattr(model, "get_output_embeddings", None)
    found = find() if callable(find) else None
    heads = {"classifier", "score", "lm_head"}
    return {
        name
        for name, module in modules.items()
        if module is found or name.rpartition(".")[2] in heads
    }


def _default_targets(model: nn.Module) -> str | None:
    """PEFT's default targets of a transformers model, where PEFT is installed and knows it."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    try:
        from peft.utils.constants import (
            TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known,
        )
    except ImportError:
        return None
    targets = known.get(kind)
    return None if targets is None else ",".join(targets)
