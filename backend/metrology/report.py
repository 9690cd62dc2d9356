"""CD database → a folder for a meeting: one HTML page, its figures, tables and overlays."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.files import write_atomically
from backend.metrology import report_figures
from backend.metrology.agreement import Agreement, Comparison, agreement, compare
from backend.metrology.control_charts import image_means
from backend.metrology.database import CdDatabase
from backend.metrology.flag_meanings import meaning
from backend.metrology.overlay import save_overlays
from backend.metrology.rows import Row
from backend.metrology.summary import summarize
from backend.metrology.tables import csv_text, rounded, write_tables

_STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:80em;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .6em;"
    "text-align:left}img{max-width:100%}"
)
_PX_UNITS = ("px", "px^2")


@dataclass(frozen=True)
class ReportOptions:
    """What a report holds beside tables and figures."""

    overlays: bool = False  # of the newest runs
    baseline: int | None = None  # first images that control limits come from; None: all


def write_report(
    database: CdDatabase, path: Path, folder: Path, options: ReportOptions | None = None
) -> Path:
    """Write all about the database at `path` into `folder`.

    Returns:
        The page.

    Raises:
        OSError: The folder cannot be written.
    """
    options = options or ReportOptions()
    write_tables(database, folder)
    parts = [
        _heading("What was measured", _table(_counts(database))),
        _heading("What its flags say", _table(_flags(database))),
        _heading("Outside the limits", _table(_violations(database))),
        _heading("Image by image", *_series(database, folder, options.baseline)),
        _heading("Drawn labels and models", *_agreements(database, folder)),
    ]
    if options.overlays:
        parts.append(_heading("Overlays", *_overlays(database, path, folder)))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>CDs of {_text(path.name)}'
        f"</title><style>{_STYLE}</style><h1>CDs of {_text(path.name)}</h1>"
        '<p>Tables: <a href="cds_long.csv">a row for each CD</a>, '
        '<a href="cds_wide.csv">a row for each image</a>.</p>' + "".join(parts) + "</html>\n"
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"


def _counts(database: CdDatabase) -> list[Row]:
    """How many CDs of the newest runs are what they should be."""
    return list(
        database.query(
            "select recipe, source, measurement, side, quantity,"
            " count(distinct image_id) as images, sum(status = 'ok') as ok,"
            " sum(status = 'flagged') as flagged, sum(status = 'missing') as missing,"
            " sum(status = 'failed') as failed from measurement_latest"
            " group by recipe, source, measurement, side, quantity"
        )
    )


def _flags(database: CdDatabase) -> list[Row]:
    """The flags of the newest runs and their CDs, how often, and what each says."""
    rows = database.query(
        "select flag.value as flag, count(distinct latest.id) as cds,"
        " count(distinct latest.run_id) as runs from measurement_latest latest,"
        " json_each((select json_group_array(value) from (select value from"
        " json_each(latest.flags) union select value from json_each(latest.run_flags)))) flag"
        " group by flag.value order by cds desc, flag"
    )
    return [row | {"meaning": meaning(row["flag"])} for row in rows]


def _violations(database: CdDatabase) -> list[Row]:
    rows = database.query(
        "select image, recipe, source, measurement, instance, side, quantity, value, u_value, unit,"
        " lsl, usl, verdict from spec_check where verdict <> 'inside'"
        " order by image, measurement, instance"
    )
    return [row | {"value": rounded(row["value"], row["unit"]),
                   "u_value": rounded(row["u_value"], row["unit"])} for row in rows]  # fmt: skip


def _series(database: CdDatabase, folder: Path, baseline: int | None) -> Iterator[str]:
    """A table of all series, and figures of those that are no level of a sweep."""
    found = image_means(database)
    rows = []
    for key, series in found.items():
        values = summarize([one.mean for one in series.means])
        rows.append(vars(key) | {"images": values["n"]} | {
            name: rounded(values[name], key.unit)
            for name in ("mean", "three_sigma", "min", "max", "ci95_low", "ci95_high")
        } | {"charted": series.order})  # fmt: skip
    yield "<p>Statistics of image means; the instances of an image share its scale and tilt.</p>"
    yield _table(rows)
    for number, (key, series) in enumerate(found.items()):
        if "@" not in key.measurement:
            figure = report_figures.draw_series(key, series, baseline)
            yield _figure(
                folder,
                f"series_{number:03}_{key.measurement}_{key.side}",
                report_figures.to_png(figure),
            )


def _agreements(database: CdDatabase, folder: Path) -> Iterator[str]:
    """A table of all comparisons, also as CSV, and figures of those in the unit of the value."""
    compared = [(one, agreement(one.pairs)) for one in compare(database)]
    rows = [_agreement_row(one, found) for one, found in compared]
    write_atomically(folder / "label_vs_model.csv", csv_text(rows).encode("utf-8-sig"))
    yield (
        "<p>Bias is model minus label; its interval takes images, not CDs, as independent. "
        "<i>trained on</i>: images that the model has learned from, on which any model looks "
        "good.</p>"
    )
    yield _table(rows)
    has_nm = {one.group.measurement for one, _ in compared if one.group.unit not in _PX_UNITS}
    for number, (one, found) in enumerate(compared):
        is_shown_in_nm = one.group.unit in _PX_UNITS and one.group.measurement in has_nm
        if one.pairs and "@" not in one.group.measurement and not is_shown_in_nm:
            figure = report_figures.draw_agreement(one, found)
            name = f"agreement_{number:03}_{one.group.measurement}_{one.group.side}"
            yield _figure(folder, name, report_figures.to_png(figure))


def _agreement_row(comparison: Comparison, found: Agreement) -> Row:
    low, high = found.ci95 or (None, None)
    lower, upper = found.limits or (None, None)
    figures = {
        "bias": found.bias, "ci95_low": low, "ci95_high": high, "three_sigma": found.three_sigma,
        "limit_low": lower, "limit_high": upper, "slope": found.slope, "r2": found.r2,
    }  # fmt: skip
    return {
        **vars(comparison.group), "pairs": found.pairs, "images": found.images,
        "only_label": comparison.only_label, "only_model": comparison.only_model,
        **{name: None if value is None else round(value, 3) for name, value in figures.items()},
    }  # fmt: skip


def _overlays(database: CdDatabase, path: Path, folder: Path) -> Iterator[str]:
    runs = database.query("select distinct run_id from measurement_latest order by image, run_id")
    for row in list(runs):
        png, svg = save_overlays(database, path, row["run_id"], folder / "overlays")
        yield (
            f'<p><a href="overlays/{svg.name}"><img src="overlays/{png.name}" '
            f'alt="overlay of run {row["run_id"]}"></a></p>'
        )


def _figure(folder: Path, name: str, png: bytes) -> str:
    file = f"figures/{re.sub(r'[^0-9A-Za-z]+', '_', name).strip('_')}.png"
    write_atomically(folder / file, png)
    return f'<p><img src="{file}" alt="{_text(name)}"></p>'


def _heading(title: str, *parts: str) -> str:
    return f"<h2>{title}</h2>{''.join(parts)}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>Nothing.</p>"
    head = "".join(f"<th>{_text(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: object) -> str:
    return "" if value is None else html.escape(str(value))
