"""CD database → an Excel file: CDs, a row for each image, statistics, and what all stands on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, Cell
from openpyxl.styles import Font
from openpyxl.worksheet._write_only import WriteOnlyWorksheet

from backend.files import write_atomically
from backend.metrology.database import CdDatabase
from backend.metrology.rows import Row
from backend.metrology.tables import long_table, wide_table

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
"""What a sheet of Excel can hold."""

_LONGEST_TEXT = 32_767
_STATS = (
    "select images.name as image, recipes.name as recipe, recipes.version as recipe_version,"
    " runs.source, s.measurement, s.side, s.unit, s.n, s.mean, s.median, s.std, s.three_sigma,"
    " s.min, s.max, s.range, s.ci95_low, s.ci95_high from measurement_stats s"
    " join runs on runs.id = s.run_id join images on images.id = runs.image_id"
    " join recipes on recipes.id = runs.recipe_id"
    " where s.run_id in (select run_id from measurement_latest)"
    " order by image, recipe, runs.source, s.measurement, s.side"
)
_RUNS = (
    "select images.name as image, runs.source, runs.status, runs.flags, recipes.name as recipe,"
    " recipes.version as recipe_version, runs.recipe_id, calibrations.nm_per_px_x,"
    " calibrations.nm_per_px_y, calibrations.rel_uncertainty, calibrations.source as"
    " calibration_source, calibrations.detail as calibration_note, models.name as model,"
    " models.version as model_version, runs.annotator, runs.engine_version, runs.last_run_at,"
    " runs.id as run_id from runs join images on images.id = runs.image_id"
    " join recipes on recipes.id = runs.recipe_id"
    " left join calibrations on calibrations.id = runs.calibration_id"
    " left join models on models.id = runs.model_id order by image, runs.last_run_at"
)
_RECIPES = "select id, name, version, definition, created_at from recipes order by name, version"


def write_workbook(database: CdDatabase, path: Path) -> Path:
    """Write all sheets, each with its head frozen.

    Raises:
        ValueError: A table is larger than a sheet can be; nothing is written.
        OSError: The file cannot be written.
    """
    tables: dict[str, Sequence[Row]] = {
        "images": wide_table(database),
        "CDs": long_table(database),
        "statistics": list(database.query(_STATS)),
        "runs": list(database.query(_RUNS)),
        "recipes": list(database.query(_RECIPES)),
    }
    for rows in tables.values():
        _check_size(rows)
    book = Workbook(write_only=True)
    for name, rows in tables.items():
        sheet = book.create_sheet(name)
        sheet.freeze_panes = "B2"
        for cells in _lines(sheet, rows):
            sheet.append(cells)
    buffer = io.BytesIO()
    book.save(buffer)
    write_atomically(path, buffer.getvalue())
    return path


def _check_size(rows: Sequence[Row]) -> None:
    columns = len(rows[0]) if rows else 0
    if len(rows) >= MAX_ROWS or columns > MAX_COLUMNS:
        raise ValueError(
            f"{len(rows)} rows of {columns} columns do not fit a sheet of Excel: take the CSV "
            "files, or a part of the images"
        )


def _lines(sheet: WriteOnlyWorksheet, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    if rows:
        head = [_cell(sheet, name) for name in rows[0]]
        for cell in head:
            cell.font = Font(bold=True)
        yield head
    for row in rows:
        yield [_cell(sheet, value) if isinstance(value, str) else value for value in row.values()]


def _cell(sheet: WriteOnlyWorksheet, text: str) -> Cell:
    """Text as text: Excel would compute a name that begins with `=`."""
    cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", text)[:_LONGEST_TEXT])
    cell.data_type = "s"
    return cell
