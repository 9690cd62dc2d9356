"""CD database → tables as engineers take them along: a row for each CD, or a row for each image.

The database keeps all digits; here lengths end at 0.01 nm, angles at 0.1 degrees.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.files import write_atomically
from backend.metrology.database import CdDatabase
from backend.metrology.rows import Row
from backend.metrology.summary import is_counted, name_series

_DECIMALS = {"nm": 2, "nm^2": 1, "deg": 1, "ratio": 3, "px": 2, "px^2": 1}
_IN_UNIT = ("value", "value_label", "min", "max")
_UNCERTAINTIES = ("u_value", "u_scale", "std")
_UNCERTAINTY_DECIMALS = 3  # a hundredth of a nanometre would be most of it
_PX_DECIMALS = 3
_IMAGE = ("image", "dataset", "lot", "wafer", "die_x", "die_y", "site", "instrument",
          "acquired_at", "recipe", "recipe_version", "source", "model", "model_version",
          "calibration")  # fmt: skip


def rounded(value: float | None, unit: str) -> float | None:
    """A value as reports show it.

    Example:
        >>> rounded(22.4149, "nm"), rounded(87.26, "deg")
        (22.41, 87.3)
    """
    return None if value is None else round(value, _DECIMALS[unit])


def with_unit(value: float, unit: str) -> str:
    """A value as people read it.

    Example:
        >>> with_unit(22.4, "nm"), with_unit(3.0, "ratio")
        ('22.40 nm', '3.000')
    """
    sign = {"deg": "°", "ratio": "", "nm^2": " nm²", "px^2": " px²"}.get(unit, f" {unit}")
    return f"{value:.{_DECIMALS[unit]}f}{sign}"


def long_table(database: CdDatabase) -> list[Row]:
    """Every CD of every run, with what it stands on."""
    order = "order by image, dataset, last_run_at, run_id, measurement, instance, side, quantity"
    rows = database.query(f"select * from measurement_report {order}, at_fraction")  # noqa: S608 - a constant
    return [_rounded_row(row) for row in rows]


def wide_table(database: CdDatabase) -> list[Row]:
    """A row for each image, recipe and source, newest run; columns as `gate_swa.0.left (deg)`.

    A length without a calibration gets a column in pixels: it never stands among nanometres.
    """
    latest = database.query(
        "select * from measurement_latest order by image, dataset, recipe, source, measurement,"
        " instance, side, quantity, at_fraction"
    )
    table: dict[str, Row] = {}
    columns: dict[str, None] = {}
    for series, row in name_series(latest):
        cells = table.setdefault(row["run_id"], {name: row[name] for name in _IMAGE})
        name, value = _cell(series, row)
        columns[name] = None
        cells[name] = value
    return [{name: cells.get(name) for name in (*_IMAGE, *columns)} for cells in table.values()]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, the columns of the first one as its head; empty without rows."""
    buffer = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def write_tables(database: CdDatabase, folder: Path) -> list[Path]:
    """Write `cds_long.csv` and `cds_wide.csv`; spreadsheets know UTF-8 by the mark before it.

    Raises:
        OSError: The folder cannot be written.
    """
    tables = {"cds_long.csv": long_table(database), "cds_wide.csv": wide_table(database)}
    for name, rows in tables.items():
        write_atomically(folder / name, csv_text(rows).encode("utf-8-sig"))
    return [folder / name for name in tables]


def _rounded_row(row: Row) -> Row:
    return dict(_rounded_cells(row))


def _rounded_cells(row: Row) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name in _IN_UNIT:
            yield name, rounded(value, row["unit"])
        elif isinstance(value, float) and name in _UNCERTAINTIES:
            yield name, round(value, _UNCERTAINTY_DECIMALS)
        elif isinstance(value, float) and name.endswith("_px"):
            yield name, round(value, _PX_DECIMALS)
        else:
            yield name, value


def _cell(series: str, row: Mapping[str, Any]) -> tuple[str, float | None]:
    is_length = row["unit"] in ("nm", "nm^2")
    is_in_px = is_length and row["calibration"] is None
    unit = row["unit"].replace("nm", "px") if is_in_px else row["unit"]
    value = row["value_px"] if is_in_px else row["value"]
    side = f".{row['side']}" if row["side"] else ""
    shown = rounded(value, unit) if is_counted(row) else None
    return f"{series}.{row['instance']}{side} ({unit})", shown
