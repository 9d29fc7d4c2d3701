"""Running the example programs as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lorasc


def run_example(repository: Path, name: str, *arguments: object) -> str:
    """What the program of this name prints; it must succeed."""
    path = os.pathsep.join(
        [str(Path(lorasc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, repository / "examples" / "python" / name, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
