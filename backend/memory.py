"""Gives memory that was freed back to the system, and tells how much is held."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import re
from collections.abc import Callable
from pathlib import Path


def release_freed_memory() -> None:
    """Return freed memory to the system at once, where the C library can (glibc).

    Training leaves hundreds of freed megabytes in glibc's arenas, which the inference that follows
    would come on top of.
    """
    _trim(0)


def keep_freed_memory() -> None:
    """Keep freed memory for what comes next, where the C library can (glibc); for a training.

    Else each large tensor of a step gets new pages, which the system fills with zeros first: 17 %
    of the processor time of a training of the shared model. The peak stays as it is.
    """
    _mallopt(_M_MMAP_THRESHOLD, 2**30)
    _mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def pass_over_what_is_loaded() -> None:
    """Let Python's search for garbage skip what is in memory now, the libraries; for a server.

    They hold 650,000 objects: to go through them takes 0.4 s, in which no thread does anything.
    """
    gc.collect()
    gc.freeze()


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


def _c_function(name: str) -> Callable[..., object]:
    library = ctypes.util.find_library("c")
    return getattr(ctypes.CDLL(library) if library else None, name, lambda *_: 0)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_trim, _mallopt = _c_function("malloc_trim"), _c_function("mallopt")
