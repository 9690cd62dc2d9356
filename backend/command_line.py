"""How a command ends that could not do what it was asked for: one sentence, one rule."""

from __future__ import annotations

import sys

from backend.files import in_words

_MISTAKES = (
    ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError,
)  # fmt: skip


def fail(error: Exception) -> int:
    """Write what went wrong to standard error; return the exit code.

    Returns:
        2 after a mistake in what was asked for, such as a file that does not exist; 1 if the same
        command may work another time: a full disk, a server that does not answer.
    """
    sys.stderr.write(f"{in_words(error)}\n")
    return 2 if isinstance(error, _MISTAKES) else 1
