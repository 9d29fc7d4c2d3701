"""Puts the built liblorasc.so into the wheel."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "liblorasc.so.1"


class LibraryHook(BuildHookInterface):
    """Adds the library to a wheel and tags it for this platform.

    The library is looked for in ``LORASC_BUILD_LIB`` (a file or a folder), else in the
    repository's ``build/lib``. Without one the wheel is pure Python, and the library is
    found at run time by ``LORASC_LIBRARY`` or the loader. So are editable installs, which
    would otherwise keep an old copy after the next build.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is built."""
        if version == "editable":
            return
        library = self._find()
        if library is None:
            self.app.display_warning(
                f"{NAME} was not found: this wheel needs LORASC_LIBRARY or an installed library"
            )
            return
        build_data["force_include"][str(library)] = f"lorasc/{NAME}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def _find(self) -> Path | None:
        chosen = os.environ.get("LORASC_BUILD_LIB")
        place = Path(chosen) if chosen else Path(self.root, "..", "..", "build", "lib")
        candidates = [place] if place.is_file() else [place / NAME, place / "liblorasc.so"]
        for candidate in candidates:
            if candidate.is_file():
                return candidate.resolve()
        if chosen:
            raise FileNotFoundError(f"LORASC_BUILD_LIB={chosen}: no {NAME} there")
        return None
