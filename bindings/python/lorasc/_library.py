"""Finding and loading liblorasc."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from ._signatures import ABI_VERSION, declare

SONAME = f"liblorasc.so.{ABI_VERSION}"
VARIABLE = "LORASC_LIBRARY"


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library; the first call looks for it.

    Looked for in the package's folder, then at ``LORASC_LIBRARY``, then by the loader.

    Raises:
        ImportError: not found anywhere, not loadable, or of another ABI version.
    """
    place = _place()
    try:
        loaded = ctypes.CDLL(place)
    except OSError as error:
        raise ImportError(_explain(place, error)) from error
    try:
        version = loaded.lorasc_abi_version
    except AttributeError as error:
        raise ImportError(f"{place} is not liblorasc: it has no lorasc_abi_version") from error
    version.restype = ctypes.c_uint32
    if version() != ABI_VERSION:
        raise ImportError(
            f"{place} has ABI version {version()}, this package is for {ABI_VERSION}: "
            "install the package and the library of one release"
        )
    try:
        declare(loaded)
    except AttributeError as error:
        raise ImportError(
            f"{place} is older than this package: {error}. Build it anew with `make lib`"
        ) from error
    return loaded


def _place() -> str:
    packaged = Path(__file__).with_name(SONAME)
    if packaged.is_file():
        return str(packaged)
    return os.environ.get(VARIABLE) or SONAME


def _explain(place: str, error: OSError) -> str:
    chosen = os.environ.get(VARIABLE)
    return (
        f"liblorasc could not be loaded ({error}). Looked for:\n"
        f"  1. in the package's folder: {Path(__file__).with_name(SONAME)}"
        f"{'' if place.startswith(os.path.dirname(__file__)) else ' (no such file)'}\n"
        f"  2. at {VARIABLE}: {chosen or 'not set'}\n"
        f"  3. by the system's loader: {SONAME}\n"
        f"Build it with `make lib` and set {VARIABLE} to build/lib/liblorasc.so, or install a "
        "wheel that contains it."
    )
