"""Files that wait in memory while they cannot be written, since the disk is full or read-only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backend.files import locked, write_atomically

Replaces = Callable[[bytes], bool]
"""Tells whether a file that is there may be replaced."""


@dataclass(frozen=True)
class _Content:
    content: bytes
    replaces: Replaces | None


class WaitingFiles:
    """Writes files, for all threads of a process; what waits is found as if it were written."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._lock = threading.Lock()
        self._waiting: dict[Path, _Content] = {}

    @property
    def waits(self) -> bool:
        """Whether there is anything that could not be written."""
        return bool(self._waiting)

    def write(self, path: Path, content: bytes, replaces: Replaces | None = None) -> None:
        """Replace a file, and write all that still waits.

        Args:
            path: Of the file.
            content: What to put there.
            replaces: Called with what is there; without it, whatever is there is replaced. Other
                processes are kept out meanwhile.

        Raises:
            OSError: It cannot be written yet, and waits for the next file that can be.
        """
        with self._lock:
            self._waiting[path] = _Content(content, replaces)
            self._write(path)
            for other in list(self._waiting):
                with suppress(OSError):  # it goes on waiting
                    self._write(other)

    def delete(self, path: Path) -> None:
        """Delete a file, and what waits for its place.

        Raises:
            OSError: It cannot be deleted.
        """
        with self._lock:
            self._waiting.pop(path, None)
            path.unlink(missing_ok=True)

    def read(self, path: Path) -> bytes:
        """Return what is in a file, or what will be.

        Raises:
            OSError: It cannot be read.
        """
        waiting = self._waiting.get(path)
        return waiting.content if waiting else path.read_bytes()

    def _write(self, path: Path) -> None:
        waiting = self._waiting[path]
        if waiting.replaces is None:
            write_atomically(path, waiting.content)
        else:
            with locked(path.with_name(f"{path.name}.lock")):
                if not path.exists() or waiting.replaces(path.read_bytes()):
                    write_atomically(path, waiting.content)
        del self._waiting[path]
