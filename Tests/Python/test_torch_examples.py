"""The examples of models that PyTorch owns, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"


def run(example: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_network_of_ones_own() -> None:
    found = [float(text) for text in re.findall(r"accuracy (\d\.\d+)", run("torch_network.py"))]
    own, before, adapted, merged = found
    assert own > 0.9
    assert adapted > before + 0.3
    assert merged > before + 0.3


def test_an_unknown_model_in_the_trainer(tmp_path: Path) -> None:
    text = run("torch_trainer.py", "--rows", "80", "--epochs", "2", "--output", str(tmp_path))
    assert "cascades 2," in text
    assert "opened again" in text
