"""What all objects of the library share: a handle and its end."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import HandleError, Status

if TYPE_CHECKING:
    from typing_extensions import Self


class Handle:
    """Owns one handle; gives it back at close(), at the end of a ``with``, or when collected."""

    def _own(self, pointer: ctypes.c_void_p, free: Callable[[Any], None], *keep: Any) -> None:
        """Takes a new handle. ``keep`` stays alive until the handle has been given back."""
        self._address = pointer.value
        self._finalizer = weakref.finalize(self, _release, free, pointer.value, keep)
        # At the interpreter's end the process gives everything back, and another thread may
        # still be inside the library.
        self._finalizer.atexit = False

    @property
    def _handle(self) -> int:
        if self.closed or self._address is None:
            name = type(self).__name__
            raise HandleError(Status.HANDLE, f"this {name} is closed", name)
        return self._address

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        finalizer = getattr(self, "_finalizer", None)
        return finalizer is None or not finalizer.alive

    def close(self) -> None:
        """Gives the handle back; more calls do nothing."""
        if not self.closed:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _release(free: Callable[[Any], None], address: int | None, keep: tuple[Any, ...]) -> None:
    free(address)
    del keep
