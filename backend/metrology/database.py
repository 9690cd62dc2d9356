"""The CD database: measured images go in, each run whole or not at all, and never twice.

with closing(open_database(Path("cds.db"))) as database:
    run_id = write_run(database, run, measured)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from sqlite_utils import Database

from backend.databases import open_sqlite, writing
from backend.metrology.records import Run, calibration_row, known, to_calibration
from backend.metrology.results import Measured
from backend.metrology.rows import Row, edge_rows, finite, identify, measurement_rows, to_json
from backend.metrology.schema import migrations
from backend.metrology.stated_scales import StatedScale
from backend.metrology.summary import summarize_run
from backend.microscope.calibration import Calibration

CdDatabase: TypeAlias = Database
"""An open CD database."""


def open_database(path: Path, *, create: bool = True) -> Database:
    """Open a CD database, made or brought up to date where needed; close it after use.

    Raises:
        FileNotFoundError: There is none, and `create` is false.
        OSError: It cannot be read or written.
        ValueError: The file is something else, or comes from a newer version.
    """
    if not create and not path.exists():
        raise FileNotFoundError(f"there is no database {path}: measure something into it first")
    return open_sqlite(path, migrations, "CD database")


def write_run(
    database: Database, run: Run, measured: Measured, duration_s: float | None = None
) -> str:
    """Store what was measured; the same run again replaces its rows by the same rows.

    All numbers are made before the database is locked, for milliseconds.

    Returns:
        The id of the run.

    Raises:
        ValueError: Two CDs of `measured` are the same measurement, or a word is unknown to the
            database.
        OSError: Another process has kept the database locked, or the disk is full.
    """
    measurements = measurement_rows(run.id, measured.cds, run.calibration)
    children = {
        "measurements": measurements,
        "measurement_stats": _stats_rows(run, measurements),
        "edges": edge_rows(run.id, measured.edges),
    }
    now = _now()
    found = {
        "tilt_deg": finite(measured.tilt_deg),
        "tilt_u_deg": finite(measured.tilt_u_deg),
        "status": measured.status,
        "flags": to_json(measured.flags),
        "duration_s": finite(duration_s),
        "last_run_at": now,
    }
    try:
        with writing(database):
            _write_parents(database, run, now)
            _put(database, "runs", run.row() | found, {"created_at": now})
            _replace_children(database, run.id, children)
    except sqlite3.IntegrityError as error:
        raise ValueError(f"{run.image.name}: the run does not fit the database: {error}") from None
    except sqlite3.OperationalError as error:
        raise OSError(f"{run.image.name}: the run was not stored: {error}") from None
    return run.id


def make_newest(database: CdDatabase, run_id: str, *, status: str, flags: str) -> None:
    """Let a run that is there already be the one that counts, with this status and these flags.

    Raises:
        OSError: Another process has kept the database locked, or the disk is full.
    """
    try:
        with writing(database):
            database.table("runs").update(
                run_id, {"last_run_at": _now(), "status": status, "flags": flags}
            )
    except sqlite3.OperationalError as error:
        raise OSError(f"run {run_id} was not changed: {error}") from None


def state_scale(database: CdDatabase, image_id: str, calibration: Calibration) -> None:
    """Note that a user says now: this is the scale of an image that was measured before.

    Raises:
        OSError: Another process has kept the database locked, or the disk is full.
    """
    now = _now()
    try:
        with writing(database):
            _put_scale(database, image_id, calibration, now, is_stated=True)
    except sqlite3.OperationalError as error:
        raise OSError(f"the scale of image {image_id} was not changed: {error}") from None


def stated_scales(database: CdDatabase) -> dict[str, StatedScale]:
    """The newest scale that a user stated, of each image of which one did."""
    found: dict[str, StatedScale] = {}
    query = (
        "select s.*, (select json_group_array(k.id) from calibrations k"
        " where k.image_id = s.image_id and k.created_at <= s.stated_at) as known"
        " from calibrations s where s.stated_at is not null order by s.stated_at, s.id"
    )
    for row in database.query(query):
        known_then = frozenset(json.loads(row["known"]))
        found[row["image_id"]] = StatedScale(to_calibration(row), row["stated_at"], known_then)
    return found


def get_row(database: Database, table: str, key: str) -> Row:
    """The row with that id.

    Raises:
        KeyError: There is none.
    """
    for row in database.table(table).rows_where("id = ?", [key]):
        return row
    raise KeyError(f"there is no {table.removesuffix('s')} {key} in the database")


def record_overlays(database: Database, run_id: str, *, png: str | None, svg: str | None) -> None:
    """Note where the drawings of a run lie, seen from the database's folder.

    Raises:
        OSError: Another process has kept the database locked, or the disk is full.
    """
    row = known({"overlay_png": png, "overlay_svg": svg})
    if not row:
        return
    try:
        with writing(database):
            database.table("runs").update(run_id, row)
    except sqlite3.OperationalError as error:
        raise OSError(
            f"run {run_id} is stored, but where its drawings lie was not noted: {error}: "
            "measure again, or let report_cds.py draw"
        ) from None


def _stats_rows(run: Run, measurements: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = summarize_run(measurements, run.recipe.summary)
    return [
        {"id": identify(run.id, row["measurement"], row["side"], row["unit"]), "run_id": run.id}
        | row
        for row in rows
    ]


def _write_parents(database: Database, run: Run, now: str) -> None:
    """Write what the run refers to: image, scales, recipe and model."""
    _put(database, "images", run.image.row())
    scales = (run.calibration,) if run.calibration else ()
    for calibration in run.other_calibrations:
        _put_scale(database, run.image.id, calibration, now)
    for calibration in scales:
        _put_scale(database, run.image.id, calibration, now, is_stated=run.is_stated)
    _put(database, "recipes", run.recipe_row(), {"created_at": now})
    if run.source.model:
        _put(database, "models", run.source.model.row())


def _put_scale(
    database: Database, image_id: str, scale: Calibration, now: str, *, is_stated: bool = False
) -> None:
    row = calibration_row(image_id, scale) | ({"stated_at": now} if is_stated else {})
    _put(database, "calibrations", row, {"created_at": now})


def _put(database: Database, name: str, row: Row, first: Mapping[str, str] | None = None) -> None:
    """Update a row, or insert it together with what is told only once."""
    table = database.table(name)
    if table.count_where("id = ?", [row["id"]]):
        table.update(row["id"], {key: value for key, value in row.items() if key != "id"})
    else:
        table.insert({**row, **(first or {})})


def _replace_children(
    database: Database, run_id: str, children: Mapping[str, Sequence[Row]]
) -> None:
    """Delete first: an upsert would leave the rows of instances that are no longer found."""
    for name, rows in children.items():
        table = database.table(name)
        table.delete_where("run_id = ?", [run_id])
        table.insert_all(rows)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
