"""A command that fails says why, and its exit code says whether asking again may help."""

import errno

import pytest

from backend.command_line import fail
from backend.errors import LabelStudioError, RecipeError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("line 3: unknown kind"), 2),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.yaml"), 2),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.yaml/b"), 2),
        (OSError(errno.ENOSPC, "No space left on device", "a.db"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "a.db"), 1),
        (LabelStudioError("Label Studio does not answer"), 1),
    ],
)
def test_mistakes_and_mishaps_are_told_apart(error, code, capsys):
    """By 2 and 1, and by one sentence without an error's number."""
    assert fail(error) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Errno" not in said
