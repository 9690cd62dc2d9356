"""Files are written aside and renamed, so that a reader never sees half of one.

A process may be killed at any moment: then a reader finds the old file or the new one, and half a
file under another name, which `delete_leftovers` removes. If power fails, what was written before
`write_atomically` returned is there: file and folder were brought to the disk.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError
from typing import IO
from zipfile import BadZipFile

logger = logging.getLogger(__name__)

ASIDE = ".part"
LEFTOVER_S = 3600.0
"""Nobody writes one file for so long: what is older was left by a process that was killed."""

_TRIES, _PAUSE_S = 5, 0.02
"""For a lock: whoever looks whether it is held has it for a moment."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, BadZipFile,
              SyntaxError, TokenError, zlib.error)  # fmt: skip
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
    _make_folder(path.parent)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=ASIDE, delete=False) as aside:
            temporary = Path(aside.name)
            try:
                yield aside
                aside.flush()
                os.fsync(aside.fileno())
                temporary.replace(path)
                _sync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)  # it is left only if something went wrong
    except OSError as error:
        error.filename = error.filename or str(path)  # a write does not tell where
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep out all threads and processes that lock the same file, which stays empty.

    The system unlocks it when a process dies. Where no file can be made there is no lock, but
    nothing that it guards can be written either.
    """
    try:
        _make_folder(path.parent)
        file = path.open("ab")
    except OSError as error:
        logger.warning("%s cannot be locked: %s", path, error)
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take_lock(path: Path) -> IO[bytes] | None:
    """Lock a file, which stays empty, unless another process has; None then.

    It is locked as long as the file is open: here, or in a process that inherits it. The system
    unlocks it when they are dead.

    Raises:
        OSError: No file can be made there.
    """
    _make_folder(path.parent)
    file = path.open("ab")
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(_PAUSE_S)
    file.close()
    return None


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; no if there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def in_words(error: Exception) -> str:
    """What a user reads of an error: no number, and of a full disk what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    advice = ": free some space and start it again, what is done is kept"
    return f"{where}{error.strerror}{advice if error.errno in _NO_ROOM else ''}"


def delete_leftovers(folder: Path, pattern: str = f"*{ASIDE}", age_s: float = LEFTOVER_S) -> None:
    """Delete old files below a folder: by default those that killed processes left half-written."""
    for path in folder.rglob(pattern):
        try:
            if time.time() - path.stat().st_mtime > age_s:
                path.unlink()
        except OSError as error:  # another process was first, or the folder cannot be written
            logger.warning("%s, which nobody needs any more, stays: %s", path, error)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; their names reach the disk too."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the names of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
