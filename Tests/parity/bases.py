"""Models as transformers has them: random ones in folders, opened for a head."""

from __future__ import annotations

import copy
from pathlib import Path

import transformers
from architectures import auto_class, file_name, is_vision, random_model
from configuration import Configuration
from families import FAMILIES
from peft import get_peft_model
from transformers import PreTrainedModel


def make_folder(configuration: Configuration, seed: int, folder: Path) -> Path:
    """A random model's folder."""
    config = getattr(transformers, configuration.family.config)(
        **configuration.sizes, num_labels=max(configuration.labels, 1)
    )
    auto = auto_class(configuration.architecture, configuration.stored)
    random_model(config, auto, seed).save_pretrained(folder)
    return folder


def open_base(path: Path, configuration: Configuration) -> PreTrainedModel:
    """The model of a folder with the head, or without one."""
    auto = auto_class(
        configuration.architecture, "none" if configuration.is_bare else configuration.head
    )
    options = {"attn_implementation": "eager", "dtype": "float32"}
    if not configuration.is_bare and configuration.head != "lm":
        options["num_labels"] = configuration.labels
    if configuration.is_bare and configuration.family.has_pooler:
        # It is no part of these heads' model: the engine leaves it out too
        options["add_pooling_layer"] = False
    return auto.from_pretrained(path, **options).eval()


def adapted_modules(base: PreTrainedModel, configuration: Configuration) -> list[str]:
    """What PEFT adapts, without the class's prefix; empty where it finds nothing."""
    try:
        model = get_peft_model(copy.deepcopy(base), configuration.peft_config())
    except ValueError:
        return []
    prefix = configuration.family.prefix
    return [name.removeprefix(prefix) for name in model.base_model.targeted_module_names]


def engine_name(name: str, architecture: str) -> str:
    """A peer's parameter or module as the engine names it."""
    for part in ("model.base_model.model.", FAMILIES[architecture].prefix):
        name = name.removeprefix(part)
    for part in (".default", ".modules_to_save", ".base_layer"):
        name = name.replace(part, "")
    name = name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
    return file_name(name) if is_vision(architecture) else name
