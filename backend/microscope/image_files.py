"""What a user names, files and folders → image files, each with a name of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from backend.errors import InvalidDatasetError
from backend.microscope.import_record import PICTURES, RECORDS
from backend.microscope.rosetta import KINDS

SCREEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
PICTURE_SUFFIXES = (*SCREEN_SUFFIXES, ".tif", ".tiff")
"""Of formats that any program reads."""
SUFFIXES = (*PICTURE_SUFFIXES, *(suffix for suffix in KINDS if suffix != ".emi"))
"""Of formats that an import reads; an .emi has no pixels but those of the .ser beside it."""


def image_files(given: Sequence[Path], suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The files given, and the images in the folders given; of an import folder its pictures.

    Args:
        given: Files and folders.
        suffixes: Of the files that count in a folder; a file given by itself always does.

    Raises:
        InvalidDatasetError: There is none, or two have the same name.
    """
    paths: list[Path] = []
    for path in given:
        folder = path / PICTURES if (path / RECORDS).is_dir() else path
        paths += sorted(by_stem(folder, suffixes).values()) if path.is_dir() else [path]
    if not paths:
        raise InvalidDatasetError(
            f"there is no image: name image files, or folders with some ({', '.join(suffixes)})"
        )
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidDatasetError(
            f"several images are named {twice[0]}, and results go by name: take them one by one"
        )
    return paths


def by_stem(folder: Path, suffixes: Collection[str] = SUFFIXES) -> dict[str, Path]:
    """Image files of a folder by name; of several with one name the native format comes first."""
    paths = [path for path in folder.glob("*") if path.suffix.lower() in suffixes]
    ordered = sorted(paths, key=lambda path: (path.suffix.lower() in SCREEN_SUFFIXES, path.name))
    return {path.stem: path for path in reversed(ordered)}
