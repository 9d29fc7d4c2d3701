"""The peer: PyTorch, transformers and PEFT in float32 or float64, by the engine's names."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from architectures import inputs
from bases import engine_name
from configuration import Configuration
from losses import loss_of
from peft import get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import Linear
from precision import arithmetic, convert
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS
from yardstick import Values

import lorasc

RELU = ("distilbert", "classifier")
KINK = 1e-5
"""Of the largest value: far above the rounding of float32."""

# PEFT's LoRA+ reads here which layers are norms, whose weights don't decay.
ALL_LAYERNORM_LAYERS.extend([LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm])


class Peer(nn.Module):
    """A model with PEFT's adapter and the head, without dropout."""

    def __init__(
        self, base: PreTrainedModel, configuration: Configuration, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.configuration = configuration
        self.dtype = dtype
        model = get_peft_model(copy.deepcopy(base), configuration.peft_config())
        self.model = convert(model, dtype).eval()
        if configuration.head == "mean_linear":
            self.classifier = nn.Linear(base.config.hidden_size, configuration.labels, dtype=dtype)
        self.tensors = {
            self.engine_name(name): parameter
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
            self.engine_name("model." + name): module
            for name, module in self.model.named_modules()
            if isinstance(module, Linear)
        }

    @property
    def adapted_weights(self) -> list[str]:
        """The weights that PEFT adapts, embeddings too."""
        names = self.model.base_model.targeted_module_names
        return [self.engine_name(name) + ".weight" for name in names]

    def engine_name(self, name: str) -> str:
        """A parameter or module as the engine names it."""
        return engine_name(name, self.configuration.architecture)

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
        """Logits, or of "embedding" the means of the rows' tokens."""
        given = inputs(batch, self.dtype)
        if not self.configuration.is_bare:
            return self.model(**given).logits
        means = mean(self.model(**given).last_hidden_state, given.get("attention_mask"))
        return means if self.configuration.head == "embedding" else self.classifier(means)

    def is_smooth(self, batch: lorasc.Batch) -> bool:
        """False where rounding may decide the side of a ReLU, as DistilBERT's classifier has."""
        if (self.configuration.architecture, self.configuration.head) != RELU:
            return True
        near: list[bool] = []

        def look(module: nn.Module, given: Any, output: torch.Tensor) -> None:
            near.append(bool((output.abs() < KINK * output.abs().max()).any()))

        hook = self.model.base_model.model.pre_classifier.register_forward_hook(look)
        with torch.no_grad(), arithmetic(self.dtype):
            self(batch)
        hook.remove()
        return not any(near)

    def gradients(self, batch: lorasc.Batch) -> tuple[float, Values]:
        """The loss of a batch, and its gradients."""
        self.optimizer.zero_grad()
        with arithmetic(self.dtype):
            loss = loss_of(self(batch), batch, self.configuration)
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
        return merged_by_peft(copy.deepcopy(self.model), self.configuration.architecture)


def mean(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of each row's tokens, of images' all."""
    if mask is None:
        return hidden.mean(1)
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def merged_by_peft(model: nn.Module, architecture: str) -> Values:
    """The tensors after `merge_and_unload`, which uses the model up, by the engine's names."""
    merged = model.merge_and_unload()
    return {
        engine_name(name, architecture): tensor.numpy()
        for name, tensor in merged.state_dict().items()
        # Another name of the embedding, which no file has
        if not (name == "lm_head.weight" and merged.config.tie_word_embeddings)
    }
