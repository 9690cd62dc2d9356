"""Gives memory that was freed back to the system."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable


def release_freed_memory() -> None:
    """Return freed memory to the system at once, where the C library can (glibc).

    Training leaves hundreds of freed megabytes in glibc's arenas, which the inference that follows
    would come on top of.
    """
    _trim(0)


def _find_trim() -> Callable[[int], object]:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    return getattr(library, "malloc_trim", lambda _: 0)


_trim = _find_trim()
