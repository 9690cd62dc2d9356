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
LABELS, UNCERTAINTY = ".labels.png", ".uncertainty.png"
"""How the names end of what a model makes of an image: no images themselves."""


def image_files(
    given: Sequence[Path],
    suffixes: Collection[str] = SUFFIXES,
    *,
    prefer_native: bool = True,
) -> list[Path]:
    """The files given, and the images in the folders given; of an import folder its pictures.

    Args:
        given: Files and folders.
        suffixes: Of the files that count in a folder; a file given by itself always does.
        prefer_native: In a folder, leave out pictures that have a native file of the same name.

    Raises:
        InvalidDatasetError: There is none, or two have the same name.
    """
    paths: list[Path] = []
    for path in given:
        folder = path / PICTURES if (path / RECORDS).is_dir() else path
        paths += _in_folder(folder, suffixes, prefer_native) if path.is_dir() else [path]
    if not paths:
        raise InvalidDatasetError(
            f"there is no image in {', '.join(map(str, given)) or 'what was named'}: name image "
            f"files, or folders with some ({', '.join(suffixes)}){_where_some_are(given, suffixes)}"
        )
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidDatasetError(
            f"several images are named {twice[0]}, and results go by name: rename them, or take "
            "them one by one"
        )
    return paths


def by_stem(folder: Path, suffixes: Collection[str] = SUFFIXES) -> dict[str, Path]:
    """Image files of a folder by name; of several with one name the native format comes first."""
    paths = _in_folder(folder, suffixes, prefer_native=True)
    return {path.stem: path for path in reversed(paths)}


def _where_some_are(folders: Sequence[Path], suffixes: Collection[str]) -> str:
    below = (path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir())
    first = next((path for path in below if _in_folder(path, suffixes, prefer_native=True)), None)
    return f"; {first} has some" if first else ""


def _in_folder(folder: Path, suffixes: Collection[str], prefer_native: bool) -> list[Path]:
    """Image files of a folder in order, without what a model made of them."""
    found = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in suffixes and not path.name.endswith((LABELS, UNCERTAINTY))
    )
    native = {path.stem for path in found if path.suffix.lower() not in SCREEN_SUFFIXES}
    if not prefer_native:
        return found
    return [
        path
        for path in found
        if path.suffix.lower() not in SCREEN_SUFFIXES or path.stem not in native
    ]
