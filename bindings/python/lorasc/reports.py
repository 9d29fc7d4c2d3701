"""What calls report: frozen records with the header's names."""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass, fields
from typing import Any, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's name and shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Attributes:
        architecture: config.json's model_type, "bert", "llama", ...
        head: "none", "classifier" or "mean_linear": the folder's own.
        num_labels: outputs of that head, 0 without one.
        kernels: level of the elementwise kernels: "baseline", "avx2" or "avx512".
        products: library of the matrix products: "openblas" or "onednn".
    """

    architecture: str
    layers: int
    parameters: int
    hidden_size: int
    intermediate_size: int
    heads: int
    vocabulary_size: int
    maximum_positions: int
    head: str
    num_labels: int
    kernels: str
    products: str


@dataclass(frozen=True)
class MatchReport:
    """What an adapter was put on.

    Attributes:
        matched: modules that got an adapter.
        trainable_parameters: of adapters and trained modules.
        backbone_parameters: of the frozen model.
    """

    matched: int
    trainable_parameters: int
    backbone_parameters: int


@dataclass(frozen=True)
class SaveReport:
    """What an adapter's file holds.

    Attributes:
        rank: the largest that was written.
        error: relative error (Frobenius, over all modules) of a truncation; 0: exact.
    """

    rank: int
    error: float


@dataclass(frozen=True)
class ModuleInfo:
    """A module with an adapter.

    Attributes:
        module: its name.
        rule: the item of ``target_modules`` that matched it.
        rank: of the current cascade.
        scale: s, lora_alpha / r or lora_alpha / sqrt(r).
        in_features: an embedding's entries.
        out_features: its columns.
    """

    module: str
    rule: str
    rank: int
    scale: float
    in_features: int
    out_features: int


@dataclass(frozen=True)
class MergeTensor:
    """What a merge did to one tensor.

    Attributes:
        name: in the base.
        elements: of the tensor.
        changed: elements that the adapter changes.
        max_change: largest absolute difference from the base.
        rounded_away: share of these changes lost in the file's element type.
    """

    name: str
    elements: int
    changed: int
    max_change: float
    rounded_away: float


@dataclass(frozen=True)
class MergeReport:
    """What a merge wrote.

    Attributes:
        tensors: written.
        changed: that differ from the base.
        max_change: largest absolute difference from the base.
        rounded_away: share of non-zero updates lost in the files' element type.
        changes: of each tensor that the adapter may change.
    """

    tensors: int
    changed: int
    max_change: float
    rounded_away: float
    changes: tuple[MergeTensor, ...] = ()


@dataclass(frozen=True)
class Stats:
    """State of training after a call.

    Attributes:
        cascade: from 1.
        step: optimizer steps done.
        rows: since the last apply().
        tokens: since the last apply().
        loss: weighted mean over these rows.
        loss_weight: their total weight.
        gradient_norm: before clipping; 0 from accumulate().
        learning_rate: that this step used, or the next will.
    """

    cascade: int
    step: int
    rows: int
    tokens: int
    loss: float
    loss_weight: float
    gradient_norm: float
    learning_rate: float


@dataclass(frozen=True)
class Estimate:
    """What training would take.

    Attributes:
        backbone_bytes: frozen tensors, those that stay memory mapped too.
        adapter_bytes: trainable tensors.
        gradient_bytes: their gradients.
        optimizer_bytes: what the optimizer keeps of them.
        activation_bytes: buffers for max_batch_tokens tokens.
        weight_bytes: copies of changed matrices.
        total_bytes: all of these.
        forward_flops: of matrix products over max_batch_tokens tokens.
        step_flops: forward and backward of the same.
    """

    backbone_bytes: int
    adapter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    weight_bytes: int
    total_bytes: int
    forward_flops: float
    step_flops: float


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter is for.

    Attributes:
        num_labels: outputs of the head; "lm": the vocabulary, "embedding": the hidden size.
        modules: with an adapter.
        contrastive_rows: rows of an example of the contrastive loss, else 1.
        head: "classifier", "mean_linear", "token", "lm" or "embedding".
        problem_type: as config.json names it, "next_token" or "contrastive".
    """

    num_labels: int
    modules: int
    contrastive_rows: int
    head: str
    problem_type: str


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy on a dataset.

    Attributes:
        rows: that carry a loss; of heads "token" and "lm", tokens.
        loss: weighted mean.
        loss_weight: total weight.
        accuracy: share of them whose largest logit is the label; NaN for regression.
        perplexity: of head "lm", e to the loss; else NaN.
    """

    rows: int
    loss: float
    loss_weight: float
    accuracy: float
    perplexity: float


@dataclass(frozen=True)
class TrainerInfo:
    """Where a trainer stands.

    Attributes:
        cascade: from 1.
        step: optimizer steps done.
        total_steps: 0 while unknown.
        cascade_step: steps done in this cascade.
        plan_bytes: of the buffers made for ``max_batch_tokens``.
        threads: used for the kernels and matrix products.
    """

    cascade: int
    step: int
    total_steps: int
    cascade_step: int
    plan_bytes: int
    threads: int


def from_struct(kind: type[R], struct: ctypes.Structure) -> R:
    """A record with the struct's members of the same names."""
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if not hasattr(struct, field.name):
            continue
        value = getattr(struct, field.name)
        values[field.name] = value.decode() if isinstance(value, bytes) else value
    return kind(**values)


def number_or_none(value: float) -> float | None:
    """None for NaN, the library's mark of a figure that was not measured."""
    return None if math.isnan(value) else value


def perplexity(loss: float | None) -> float:
    """The exponential of a loss of next tokens.

    Infinite beyond what a float holds, NaN without a loss.
    """
    if loss is None:
        return math.nan
    return math.exp(loss) if loss < math.log(sys.float_info.max) else math.inf
