"""Gives memory that was freed back to the system, and tells how much is held."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from collections.abc import Callable
from pathlib import Path


def release_freed_memory() -> None:
    """Return freed memory to the system at once, where the C library can (glibc).

    Training leaves hundreds of freed megabytes in glibc's arenas, which the inference that follows
    would come on top of.
    """
    _trim(0)


def resident_bytes() -> tuple[int, int]:
    """Tell how much memory of the machine this process holds now, and held at most.

    Raises:
        OSError: The system is not Linux.
    """
    # not getrusage: its peak includes that of the process we were started from
    status = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", Path("/proc/self/status").read_text()))
    if len(status) < 2:  # noqa: PLR2004 - now and at most
        raise OSError("/proc/self/status shows no VmHWM: memory is measured on Linux only")
    return int(status["VmRSS"]) * 1024, int(status["VmHWM"]) * 1024


def _find_trim() -> Callable[[int], object]:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    return getattr(library, "malloc_trim", lambda _: 0)


_trim = _find_trim()
