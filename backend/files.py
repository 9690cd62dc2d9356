"""Files are written aside and renamed, so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, BadZipFile,
              zlib.error)  # fmt: skip
"""What NumPy and zipfile raise for half a file, a changed byte, or the file of another version."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, wholly or not at all, even if power fails.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the old file is then intact.
    """
    with open_atomically(path) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Write a file piece by piece; it takes its place at `path` when the block ends, or never.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the old file is then intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as aside:
        temporary = Path(aside.name)
        try:
            yield aside
            aside.flush()
            os.fsync(aside.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # it is left only if something went wrong
