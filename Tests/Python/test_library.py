"""Where the library is looked for, and what is said when it isn't there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lorasc


def import_lorasc(package: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Loads the library in a new process from a copy of the package."""
    return subprocess.run(
        [sys.executable, "-c", "import lorasc; print(lorasc.__file__); print(lorasc.version())"],
        env=os.environ | {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=package,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package that has no library in it."""
    source = Path(lorasc.__file__).parent
    shutil.copytree(
        source, tmp_path / "lorasc", ignore=shutil.ignore_patterns("*.so*", "__pycache__")
    )
    return tmp_path


@pytest.fixture
def built() -> Path:
    """The library's file."""
    from lorasc._library import library

    return Path(library()._name).resolve()


def test_not_found_says_all_places(package: Path) -> None:
    done = import_lorasc(package, LORASC_LIBRARY="/nowhere/liblorasc.so", LD_LIBRARY_PATH="")
    assert done.returncode != 0
    for hint in ("package's folder", "/nowhere/liblorasc.so", "loader", "make lib"):
        assert hint in done.stderr


def test_package_folder_comes_first(package: Path, built: Path) -> None:
    shutil.copy(built, package / "lorasc" / "liblorasc.so.1")
    done = import_lorasc(package, LORASC_LIBRARY="/nowhere/liblorasc.so")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(package / "lorasc" / "__init__.py"), lorasc.__version__]


def test_variable_comes_next(package: Path, built: Path) -> None:
    done = import_lorasc(package, LORASC_LIBRARY=str(built))
    assert done.returncode == 0, done.stderr


def test_loader_comes_last(package: Path, built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    (folder / "liblorasc.so.1").symlink_to(built)
    done = import_lorasc(package, LORASC_LIBRARY="", LD_LIBRARY_PATH=str(folder))
    assert done.returncode == 0, done.stderr


def test_another_library_is_refused(package: Path, tmp_path: Path) -> None:
    source, other = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("unsigned lorasc_abi_version(void) { return 999; }")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", other], check=True)
    done = import_lorasc(package, LORASC_LIBRARY=str(other))
    assert "ABI version 999" in done.stderr

    source.write_text("int nothing;")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", other], check=True)
    done = import_lorasc(package, LORASC_LIBRARY=str(other))
    assert "is not liblorasc" in done.stderr
