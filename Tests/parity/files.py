"""Adapter files: the engine's read by PEFT, and PEFT's read by the engine."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from configuration import Configuration
from engine import Engine, merged_by_engine
from peer import Peer, merged_by_peft
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.numpy import load_file
from transformers import PreTrainedModel
from yardstick import Finding, Values, compare_exactly

import lorasc

OPTIONS = (
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "bias",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
)
FACTORIZED = (
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
)
"""Options that a file says otherwise where it holds another product than s B A: one of exact
ranks on modules by their whole names."""
HEADS = ("classifier", "score", "pre_classifier")
FROZEN = ("embed_tokens.base_layer.weight", "lm_head.base_layer.weight")
"""Of the backbone, which PEFT writes beside an adapter on it and does not need."""
COPIES = (".original_module.", ".modules_to_save.")
"""Parts of names of what PEFT writes beside with bias="all": a saved module as it was, and its
bias under a second name."""


def read_by_peft(
    engine: Engine, base: PreTrainedModel, peer: Peer, truth: Values, folder: Path
) -> Finding:
    """What the engine saves: names of tensors, options, merged weights."""
    configuration = engine.configuration
    engine.adapter.save(folder)
    is_factor_file = not configuration.is_pissa and configuration.slow_rate == 1
    saved = PeftConfig.from_pretrained(folder)
    check_options(saved, configuration.peft_config(), is_factor_file)
    expected = {
        name
        for name in get_peft_model_state_dict(peer.model)
        if not any(part in name for part in COPIES)
    }
    expected -= {name for name in expected if name.endswith(FROZEN)}
    found = load_file(folder / "adapter_model.safetensors").keys()
    if found != expected:
        raise AssertionError(f"keys of only one of both: {sorted(found ^ expected)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?i).*(missing|unexpected).*")
        model = PeftModel.from_pretrained(copy.deepcopy(base), folder)
    architecture = configuration.architecture
    theirs = merged_by_peft(copy.deepcopy(model), architecture)
    return compare_exactly(merged_by_peft(model.to(torch.float64), architecture), theirs, truth)


def read_by_engine(engine: Engine, peer: Peer, truth: Values, folder: Path) -> Finding:
    """What PEFT saves: merged weights, and the options when saved again."""
    configuration = engine.configuration
    peer.model.save_pretrained(folder / "peft")
    adapter = lorasc.Adapter.load(engine.model, folder / "peft", **configuration.head_options())
    try:
        merged = merged_by_engine(adapter, folder / "merged", configuration)
        adapter.save(folder / "again")
        check_options(
            PeftConfig.from_pretrained(folder / "again"),
            PeftConfig.from_pretrained(folder / "peft"),
            is_factor_file=True,
        )
    finally:
        adapter.close()
    return compare_exactly(merged, peer.merged(), truth)


def check_options(found: PeftConfig, wanted: PeftConfig, is_factor_file: bool) -> None:
    """That two descriptions of an adapter say the same."""
    for key in OPTIONS:
        if key in FACTORIZED and not is_factor_file:
            continue
        ours, theirs = comparable(getattr(found, key)), comparable(getattr(wanted, key))
        if key == "modules_to_save":
            # PEFT adds the heads of a task by itself
            ours, theirs = without_heads(ours), without_heads(theirs)
        if ours != theirs:
            raise AssertionError(f"adapter_config.json: {key} is {ours}, not {theirs}")


def comparable(value: Any) -> Any:
    """Lists and sets without their order; nothing in one form."""
    if isinstance(value, (list, set, tuple)):
        return sorted(value, key=str) or None
    return value or None


def without_heads(names: list[str] | None) -> list[str] | None:
    """Names of modules but those of task heads."""
    return [name for name in names or [] if name not in HEADS] or None


def compare_files(
    engine: Engine,
    base: PreTrainedModel,
    peer: Peer,
    merged: Values,
    unslowed: Values,
    folder: Path,
) -> Finding:
    """The worse of both directions.

    Args:
        engine: after its steps.
        base: the backbone.
        peer: PEFT's float32 model with the engine's values.
        merged: the true merged weights, with the slow rate.
        unslowed: those with the whole expert.
        folder: for the files.
    """
    findings = []
    if not is_dense(engine.configuration):
        findings.append(read_by_peft(engine, base, peer, merged, folder / "ours"))
    if not engine.configuration.is_pissa:
        findings.append(read_by_engine(engine, peer, unslowed, folder / "theirs"))
    if not findings:
        return Finding(None, None, True, "no adapter file holds this change")
    return max(findings, key=lambda finding: (not finding.holds, finding.ours))


def is_dense(configuration: Configuration) -> bool:
    """A share of DoRA's change, or one on a residual base, is no low-rank product."""
    is_whole = configuration.slow_rate == 1 and not configuration.is_pissa
    return bool(configuration.meaning.get("use_dora")) and not is_whole
