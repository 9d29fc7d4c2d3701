"""The peer: PyTorch, transformers and PEFT in float32 or float64, by the engine's names."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from configuration import Configuration
from peft import get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import Linear
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from yardstick import Values

import lorasc

from reference import pad


def open_base(path: Path, configuration: Configuration) -> PreTrainedModel:
    """The backbone, with a classifier where that is the head."""
    if configuration.head == "classifier":
        return AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=configuration.labels, attn_implementation="eager"
        ).eval()
    # The pooler is no part of this head's model: the engine leaves it out too
    return AutoModel.from_pretrained(
        path, add_pooling_layer=False, attn_implementation="eager"
    ).eval()


def adapted_modules(base: PreTrainedModel, configuration: Configuration) -> list[str]:
    """What PEFT adapts, without "bert."; empty where it finds nothing."""
    try:
        model = get_peft_model(copy.deepcopy(base), configuration.peft_config())
    except ValueError:
        return []
    return [name.removeprefix("bert.") for name in model.base_model.targeted_module_names]


class Peer(nn.Module):
    """A BERT with PEFT's adapter and one of the two heads, without dropout."""

    def __init__(
        self, base: PreTrainedModel, configuration: Configuration, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.configuration = configuration
        self.dtype = dtype
        model = copy.deepcopy(base)
        self.model = get_peft_model(model, configuration.peft_config()).to(dtype).eval()
        if configuration.head == "mean_linear":
            self.classifier = nn.Linear(base.config.hidden_size, configuration.labels, dtype=dtype)
        self.tensors = {
            engine_name(name): parameter
            for name, parameter in self.named_parameters()
            # bias="all" marks also the copies that modules_to_save has put aside
            if parameter.requires_grad and "original_module" not in name
        }
        for name, parameter in self.tensors.items():
            if any(part in name for part in configuration.frozen):
                parameter.requires_grad = False
        self.optimizer = self._make_optimizer()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        meaning = self.configuration.meaning
        adamw = {"betas": (meaning["beta1"], meaning["beta2"]), "eps": meaning["eps"]}
        rate, decay = meaning["learning_rate"], meaning["weight_decay"]
        if "loraplus_lr_ratio" in meaning:
            return create_loraplus_optimizer(
                self,
                torch.optim.AdamW,
                lr=rate,
                loraplus_lr_ratio=meaning["loraplus_lr_ratio"],
                loraplus_lr_embedding=meaning.get("loraplus_lr_embedding", 1e-6),
                loraplus_weight_decay=decay,
                **adamw,
            )
        return torch.optim.AdamW(self.trained.values(), lr=rate, weight_decay=decay, **adamw)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The tensors that are not frozen."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}

    @property
    def linears(self) -> dict[str, Linear]:
        """PEFT's adapted linear modules by the engine's names."""
        return {
            engine_name("model." + name): module
            for name, module in self.model.named_modules()
            if isinstance(module, Linear)
        }

    @property
    def adapted_weights(self) -> list[str]:
        """The weights that PEFT adapts, embeddings too."""
        names = self.model.base_model.targeted_module_names
        return [name.removeprefix("bert.") + ".weight" for name in names]

    def take(self, values: Values) -> None:
        """Sets every tensor."""
        if values.keys() != self.tensors.keys():
            strangers = sorted(values.keys() ^ self.tensors.keys())
            raise AssertionError(f"only one of both has {', '.join(strangers)}")
        with torch.no_grad():
            for name, value in values.items():
                if value.shape != tuple(self.tensors[name].shape):
                    raise AssertionError(f"{name} has another shape: {value.shape}")
                self.tensors[name].copy_(torch.from_numpy(value))

    def take_out_factors(self) -> None:
        """PiSSA's residual base: W - s B A in this peer's type."""
        with torch.no_grad():
            for module in self.linears.values():
                module.get_base_layer().weight -= module.get_delta_weight("default")

    def forward(self, batch: lorasc.Batch) -> torch.Tensor:
        """Logits (rows, labels)."""
        inputs = pad(batch)
        if self.configuration.head == "classifier":
            return self.model(**inputs).logits
        hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None].to(hidden.dtype)
        return self.classifier((hidden * mask).sum(1) / mask.sum(1))

    def gradients(self, batch: lorasc.Batch) -> tuple[float, Values]:
        """The loss of a batch, and its gradients."""
        self.optimizer.zero_grad()
        logits = self(batch)
        if self.configuration.regression:
            loss = functional.mse_loss(logits, torch.from_numpy(batch.targets).to(self.dtype))
        else:
            loss = functional.cross_entropy(logits, torch.from_numpy(batch.labels.astype(np.int64)))
        loss.backward()
        return loss.item(), {
            name: np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()
            for name, tensor in self.trained.items()
        }

    def step(self) -> None:
        """One optimizer step with the gradients at hand."""
        limit = self.configuration.meaning["max_grad_norm"]
        if limit > 0:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), limit)
        if self.configuration.meaning.get("lorafa_project"):
            self._project()
        self.optimizer.step()

    def _project(self) -> None:
        """LoRA-FA: B's gradient times (A Aᵀ + 1e-8 I)⁻¹ / s².

        The formula of PEFT's optimizer, which itself multiplies in bfloat16 where it can.
        """
        for module in self.linears.values():
            a = module.lora_A["default"].weight.detach()
            b = module.lora_B["default"].weight
            gram = a @ a.T + 1e-8 * torch.eye(len(a), dtype=self.dtype)
            b.grad = b.grad @ torch.linalg.pinv(gram) / module.scaling["default"] ** 2

    def values(self) -> Values:
        """Every tensor, copied."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.tensors.items()}

    def merged(self) -> Values:
        """The model without adapters, merged by PEFT."""
        return merged_by_peft(self.model)


def merged_by_peft(model: nn.Module) -> Values:
    """The tensors of a copy after `merge_and_unload`, without "bert."."""
    state = copy.deepcopy(model).merge_and_unload().state_dict()
    return {name.removeprefix("bert."): tensor.numpy() for name, tensor in state.items()}


def engine_name(name: str) -> str:
    """A peer's parameter or module as the engine names it."""
    for part in ("model.base_model.", "model.bert.", "model.", "bert."):
        name = name.removeprefix(part)
    for part in (".default", ".modules_to_save", ".base_layer"):
        name = name.replace(part, "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
