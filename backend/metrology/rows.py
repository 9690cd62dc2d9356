"""What was measured, in pixels, and a calibration → rows of the database in nanometres, and back.

The one place where numbers become those that SQLite takes: NumPy scalars are converted, and what
is not finite becomes NULL and is flagged.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from backend.metrology.results import (
    IN_NM,
    LENGTH_POWERS,
    NOTES,
    EdgeQuality,
    Measured,
    MeasuredCD,
    MeasuredEdge,
    Point,
)
from backend.microscope.calibration import Calibration

Row = dict[str, Any]

UNCALIBRATED = "uncalibrated"
NOT_FINITE = "not_finite"

_IN_PX = {in_nm: unit for unit, in_nm in IN_NM.items()}
_SCALED = ("value", "value_label", "u_value", "std", "min", "max")
"""What a row has in its unit and, of lengths and areas, also in pixels: value_px and so on."""
_ID_DIGITS = 16


def identify(*parts: object) -> str:
    """Name what follows from `parts` alone: the same again gets the same id.

    Example:
        >>> identify("a", 1) == identify("a", 1) != identify("a", 2)
        True
    """
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def measurement_rows(
    run_id: str, cds: Sequence[MeasuredCD], calibration: Calibration | None
) -> list[Row]:
    """Rows of the table `measurements`.

    Raises:
        ValueError: Two of `cds` are the same measurement, so that one would be lost.
    """
    rows = {}
    for cd in cds:
        row = _measurement_row(run_id, cd, calibration)
        if row["id"] in rows:
            raise ValueError(
                f"{cd.measurement} of {cd.structure} {cd.instance} was measured twice: "
                "give each measurement an id of its own"
            )
        rows[row["id"]] = row
    return list(rows.values())


def _measurement_row(run_id: str, cd: MeasuredCD, calibration: Calibration | None) -> Row:
    fraction = finite(cd.at_fraction)
    key = {
        "measurement": cd.measurement,
        "structure": cd.structure,
        "instance": int(cd.instance),
        "side": cd.side,
        "part": cd.part,
        "quantity": cd.quantity,
        "at_fraction": None if fraction is None else round(fraction, 9),
    }
    values, status, flags = _values(cd, calibration)
    quality = {
        "edge_sigma_px": finite(cd.quality.sigma_px),
        "cnr": finite(cd.quality.cnr),
        "chi2_red": finite(cd.quality.chi2_red),
    }
    return {
        "id": identify(run_id, *key.values()), "run_id": run_id, **key, "kind": cd.kind,
        "unit": IN_NM[cd.unit], **values,
        "n_lines": None if cd.n_lines is None else int(cd.n_lines),
        "edge_method": cd.method, **quality, **_place(cd),
        "status": status, "flags": to_json(flags),
    }  # fmt: skip


def _values(cd: MeasuredCD, calibration: Calibration | None) -> tuple[Row, str, list[str]]:
    """The value and its company in the unit of the row and in pixels, the status, and the flags."""
    power = LENGTH_POWERS[cd.unit]
    scale = 1.0 if not power else calibration.nm_per_px**power if calibration else None
    is_counted = cd.status in ("ok", "flagged")
    given = {name: getattr(cd, name) if is_counted else None for name in _SCALED}
    numbers = {name: finite(number) for name, number in given.items()}
    value = numbers["value"]
    flags = list(cd.flags)
    if (is_counted and value is None) or any(_is_broken(number) for number in given.values()):
        flags.append(NOT_FINITE)
    if calibration is None:
        flags.append(UNCALIBRATED)
    row: Row = {name: _scaled(number, scale) for name, number in numbers.items()}
    row |= {f"{name}_px": number if power else None for name, number in numbers.items()}
    row["u_scale"] = None
    if calibration and row["value"] is not None:
        row["u_scale"] = power * abs(row["value"]) * float(calibration.rel_uncertainty)
    status: str = cd.status
    if is_counted and value is None:
        status = "failed"
    elif is_counted and len(flags) > len(cd.flags):
        status = "flagged"
    return row, status, list(dict.fromkeys(flags))


def _place(cd: MeasuredCD) -> Row:
    """Where it was measured: x and y of the line, centre and reach of the instance."""
    ends = _points(cd.line or ())
    center = _points((cd.center,) if cd.center else ())
    line = [*ends[0], *ends[1]] if ends[1:] else [None] * 4  # half a line is none
    polylines = [_points(polyline) for polyline in cd.geometry]
    return {
        **dict(zip(("x0_px", "y0_px", "x1_px", "y1_px"), line, strict=True)),
        **dict(zip(("cx_px", "cy_px"), center[0] if center else (None, None), strict=True)),
        "reach_px": finite(cd.reach_px),
        "geometry": to_json(polylines) if polylines else None,
    }


def edge_rows(run_id: str, edges: Sequence[MeasuredEdge]) -> list[Row]:
    """Rows of the table `edges`, those of one side of an instance numbered in their order."""
    rows: list[Row] = []
    seen: dict[tuple[object, ...], int] = {}
    for edge in edges:
        key = (edge.structure, int(edge.instance), edge.side, edge.method)
        seen[key] = seen.get(key, -1) + 1
        row_id = identify(run_id, *key, seen[key])
        rows.append(
            {"id": row_id, "run_id": run_id, "structure": key[0], "instance": key[1],
             "side": edge.side, "edge_method": edge.method, "points": to_json(_points(edge.points))}
        )  # fmt: skip
    return rows


def to_measured(
    run: Mapping[str, Any],
    measurements: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, Any]],
) -> Measured:
    """Undo it: what was measured, in pixels, from rows in whatever scale."""
    found = tuple(
        MeasuredEdge(
            row["structure"], row["instance"], row["side"], row["edge_method"],
            _line(json.loads(row["points"])),
        )
        for row in edges
    )  # fmt: skip
    cds = tuple(_to_cd(row) for row in measurements)
    flags = tuple(json.loads(run["flags"]))
    return Measured(run["status"], cds, found, run["tilt_deg"], run["tilt_u_deg"], flags)


def _to_cd(row: Mapping[str, Any]) -> MeasuredCD:
    unit = _IN_PX[row["unit"]]
    suffix = "_px" if LENGTH_POWERS[unit] else ""
    flags = [flag for flag in json.loads(row["flags"]) if flag != UNCALIBRATED]
    status = row["status"]
    if status == "flagged" and NOTES.issuperset(flags):
        status = "ok"
    line = ((row["y0_px"], row["x0_px"]), (row["y1_px"], row["x1_px"]))
    return MeasuredCD(
        row["measurement"], row["kind"], row["structure"], row["instance"], unit, status,
        side=row["side"], part=row["part"], quantity=row["quantity"],
        at_fraction=row["at_fraction"],
        **{name: row[name + suffix] for name in _SCALED},
        n_lines=row["n_lines"], method=row["edge_method"],
        quality=EdgeQuality(row["edge_sigma_px"], row["cnr"], row["chi2_red"]),
        line=None if row["x0_px"] is None else line,
        center=None if row["cx_px"] is None else (row["cy_px"], row["cx_px"]),
        reach_px=row["reach_px"],
        geometry=tuple(_line(polyline) for polyline in json.loads(row["geometry"] or "[]")),
        flags=tuple(flags),
    )  # fmt: skip


def finite(number: float | None) -> float | None:
    """A number as SQLite takes it; None if it is none, or not finite."""
    return None if number is None or _is_broken(number) else float(number)


def _is_broken(number: float | None) -> bool:
    return number is not None and not math.isfinite(number)


def _scaled(number: float | None, scale: float | None) -> float | None:
    return None if number is None or scale is None else number * scale


def _points(points: Iterable[Point]) -> list[tuple[float, float]]:
    """Points as the database has them, x first, without those that lie nowhere."""
    numbers = [(float(column), float(row)) for row, column in points]
    return [(x, y) for x, y in numbers if math.isfinite(x) and math.isfinite(y)]


def _line(points: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    return tuple((y, x) for x, y in points)


def to_json(value: object) -> str:
    """Write `value` as one line of JSON, null where a number is not finite."""
    text = json.dumps(value, default=_plain)
    plain = json.loads(text, parse_constant=lambda _: None)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _plain(value: object) -> object:
    """A NumPy scalar or array as JSON knows it, anything else as its text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
