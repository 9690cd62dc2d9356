"""Where images were taken, lot, wafer, die and site, from a table of the fab into the CD database.

Microscopes do not know it; control charts and box plots go by it.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from backend.databases import writing
from backend.metrology.database import CdDatabase
from backend.metrology.rows import Row

IMAGE = "image"
TEXTS, NUMBERS = ("lot", "wafer", "site"), ("die_x", "die_y")


def read_sites(path: Path) -> dict[str, Row]:
    """Read a CSV file with a column `image` and some of lot, wafer, die_x, die_y and site.

    Returns:
        What each image's row says, by its name or id; an empty cell says nothing.

    Raises:
        ValueError: A column is missing or unknown, a die is no whole number, or an image has two
            rows; with the line.
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:  # as spreadsheets write it
        reader = csv.DictReader(file, strict=True)
        try:
            _check_columns(path, reader.fieldnames or ())
            return dict(_sites(path, reader))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None


def set_sites(database: CdDatabase, sites: Mapping[str, Row]) -> int:
    """Write where images were taken, all or none; what was known beside it stays.

    Returns:
        How many images there are.

    Raises:
        ValueError: An image was not measured yet, or several have that name.
        OSError: Another process has kept the database locked, or the disk is full.
    """
    found = {_image_id(database, image): site for image, site in sites.items()}
    try:
        with writing(database):
            for image_id, site in found.items():
                database.table("images").update(image_id, site)
    except sqlite3.OperationalError as error:
        raise OSError(f"nothing was written: {error}") from None
    return len(found)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    known, given = {IMAGE, *TEXTS, *NUMBERS}, {*columns}
    if IMAGE not in given or given - known or given == {IMAGE}:
        raise ValueError(
            f"{path} has the columns {', '.join(columns) or 'of an empty file'}: it needs {IMAGE}, "
            f"and some of {', '.join((*TEXTS, *NUMBERS))}"
        )


def _sites(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, Row]]:
    seen: set[str] = set()
    for cells in reader:
        line = f"{path}, line {reader.line_num}"
        image = (cells[IMAGE] or "").strip()
        if not image or image in seen or None in cells:
            raise ValueError(f"{line}: name one image in each row, each once, and no more cells")
        seen.add(image)
        told = {name: text.strip() for name, text in cells.items() if name != IMAGE and text}
        site: Row = {name: text for name, text in told.items() if text and name in TEXTS}
        for name in told.keys() & {*NUMBERS}:
            try:
                site[name] = int(told[name])
            except ValueError:
                raise ValueError(f"{line}: {name} {told[name]!r} is no whole number") from None
        yield image, site


def _image_id(database: CdDatabase, image: str) -> str:
    rows = list(database.query("select id from images where name = :i or id = :i", {"i": image}))
    if not rows:
        raise ValueError(f"no image {image} was measured: nothing was written")
    if len(rows) > 1:
        ids = ", ".join(row["id"] for row in rows)
        raise ValueError(f"{len(rows)} images are called {image}: give the id of one, {ids}")
    return str(rows[0]["id"])
