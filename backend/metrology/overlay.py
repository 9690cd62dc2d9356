"""A run, redrawn from the database alone: what was measured where, over its image, PNG and SVG.

The picture itself is looked up beside the database. If it is gone, or no longer the one that was
measured, the lines stand on an empty canvas, and the footer says so.
"""

from __future__ import annotations

import base64
import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backend.files import write_atomically
from backend.metrology.database import CdDatabase, get_row, record_overlays
from backend.metrology.records import path_beside
from backend.metrology.rows import Row
from backend.metrology.tables import with_unit
from backend.microscope.images import to_gray
from backend.microscope.importers import ImportOptions, import_file

COLORS = {"ok": "#35d07f", "flagged": "#ffb02e"}
_EDGE, _LOST, _TEXT, _PAPER = "#4fc3f7", "#ff6b6b", "#e8e8e8", "#202020"
_WIDTH_PX = 1000  # of the canvas, about
_FONT_PX, _LINE_PX, _CHAR_PX = 13, 17, 7.5
_TICK_PX = 5
_MARGIN_PX = 8
_NICE = (1, 2, 5)
_MAIN = ("", "mean")  # quantities that are the value itself

Place = tuple[float, float]  # (x, y) on the canvas


@dataclass(frozen=True)
class Stroke:
    """A polyline on the canvas."""

    points: tuple[Place, ...]
    color: str
    width: int = 1


@dataclass(frozen=True)
class Word:
    """A line of text, its upper left corner at a place on the canvas."""

    place: Place
    text: str
    color: str = _TEXT


@dataclass(frozen=True)
class Drawing:
    """All that either writer draws."""

    size: tuple[int, int]  # (width, height) of the canvas
    picture: NDArray[np.uint8]  # (H, W), magnified already
    strokes: tuple[Stroke, ...]
    words: tuple[Word, ...]


def draw_run(database: CdDatabase, path: Path, run_id: str) -> Drawing:
    """Describe the overlay of a run.

    Args:
        database: An open CD database.
        path: Where it lies: images are looked up from there.
        run_id: Which run.

    Raises:
        KeyError: There is no such run.
    """
    run = get_row(database, "runs", run_id)
    image = get_row(database, "images", run["image_id"])
    rows = _rows(database, "measurements", run_id)
    zoom = max(1, round(_WIDTH_PX / image["width_px"]))
    pixels, note = _look_up(image, path)
    picture = np.kron(pixels, np.ones((zoom, zoom), np.uint8))
    height, width = picture.shape
    strokes = [
        Stroke(_on_canvas(json.loads(edge["points"]), zoom), _EDGE)
        for edge in _rows(database, "edges", run_id)
    ]
    strokes += [stroke for row in rows for stroke in _strokes(row, zoom)]
    words = list(_labels(rows, zoom, (width, height)))
    scale = run["calibration_id"] and get_row(database, "calibrations", run["calibration_id"])
    bar, bar_word = _scale_bar(scale, zoom, (width, height + _MARGIN_PX))
    columns = int((width - 2 * _MARGIN_PX) / _CHAR_PX)
    footer = [
        Word((_MARGIN_PX, 0), line, color)
        for text, color in _footer(database, run, scale, note, rows)
        for line in textwrap.wrap(text, columns)
    ]
    footer = [
        Word((_MARGIN_PX, height + _MARGIN_PX + _LINE_PX * i), word.text, word.color)
        for i, word in enumerate(footer, start=1)
    ]
    size = (width, height + 2 * _MARGIN_PX + _LINE_PX * (1 + len(footer)))
    return Drawing(size, picture, (*strokes, bar), (*words, bar_word, *footer))


def to_png(drawing: Drawing) -> bytes:
    """Draw it as a PNG file."""
    canvas = Image.new("RGB", drawing.size, _PAPER)
    canvas.paste(Image.fromarray(drawing.picture).convert("RGB"), (0, 0))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_PX)
    for stroke in drawing.strokes:
        pen.line(stroke.points, fill=stroke.color, width=stroke.width)
    for word in drawing.words:
        pen.text(word.place, word.text, word.color, font, stroke_width=1, stroke_fill="black")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def to_svg(drawing: Drawing) -> bytes:
    """Draw it as an SVG file, the picture inside."""
    width, height = map(str, drawing.size)
    head = {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height}
    svg = ET.Element("svg", head, viewBox=f"0 0 {width} {height}")
    ET.SubElement(svg, "rect", width=width, height=height, fill=_PAPER)
    buffer = io.BytesIO()
    Image.fromarray(drawing.picture).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    rows, columns = drawing.picture.shape
    size = {"width": str(columns), "height": str(rows)}
    ET.SubElement(svg, "image", size, href=f"data:image/png;base64,{data}")
    for stroke in drawing.strokes:
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in stroke.points)
        look = {"stroke": stroke.color, "stroke-width": str(stroke.width), "fill": "none"}
        ET.SubElement(svg, "polyline", look, points=points)
    look = {"font-family": "sans-serif", "font-size": str(_FONT_PX), "paint-order": "stroke",
            "stroke": "black", "stroke-width": "2"}  # fmt: skip
    for word in drawing.words:
        x, y = word.place
        place = {"x": f"{x:.1f}", "y": f"{y + _FONT_PX:.1f}", "fill": word.color}
        ET.SubElement(svg, "text", look | place).text = word.text
    return bytes(ET.tostring(svg, encoding="utf-8", xml_declaration=True))


def save_overlays(database: CdDatabase, path: Path, run_id: str, folder: Path) -> list[Path]:
    """Write PNG and SVG of a run into `folder`, named by its id, and note them in the database.

    Raises:
        KeyError: There is no such run.
        OSError: The folder cannot be written.
    """
    drawing = draw_run(database, path, run_id)
    png, svg = folder / f"{run_id}.png", folder / f"{run_id}.svg"
    write_atomically(png, to_png(drawing))
    write_atomically(svg, to_svg(drawing))
    record_overlays(database, run_id, png=path_beside(path, png), svg=path_beside(path, svg))
    return [png, svg]


def _rows(database: CdDatabase, table: str, run_id: str) -> list[Row]:
    return list(database.table(table).rows_where("run_id = ?", [run_id], order_by="rowid"))


def _look_up(image: Mapping[str, Any], database: Path) -> tuple[NDArray[np.uint8], str]:
    """The picture in 8 bits, or an empty one and why."""
    blank = np.zeros((image["height_px"], image["width_px"]), np.uint8)
    path = database.parent / image["path_rel"]
    try:
        options = ImportOptions(image["dataset"], any_pixel_size=True)
        (found,) = import_file(path, options)
        gray = to_gray(found.pixels)
    except (OSError, ValueError, ImportError):
        return blank, f"image {image['path_rel']} not found or not readable"
    hashes = image["file_sha256"], image["label_png_sha256"]  # an import keeps its picture only
    if found.file_sha256 not in hashes or gray.shape != blank.shape:
        return blank, f"image {image['path_rel']} is no longer the one that was measured"
    return np.round(gray * 255).astype(np.uint8), ""


def _on_canvas(points: Sequence[Sequence[float]], zoom: int) -> tuple[Place, ...]:
    """Pixel centres are integers in the database; the canvas counts from a pixel's corner."""
    return tuple(((x + 0.5) * zoom, (y + 0.5) * zoom) for x, y in points)


def _strokes(row: Row, zoom: int) -> Iterator[Stroke]:
    """The measured line with a tick at each end, and the outlines."""
    color = COLORS.get(row["status"], _LOST)
    for polyline in json.loads(row["geometry"] or "[]"):
        yield Stroke(_on_canvas(polyline, zoom), color)
    if row["x0_px"] is None:
        return
    ends = _on_canvas(((row["x0_px"], row["y0_px"]), (row["x1_px"], row["y1_px"])), zoom)
    yield Stroke(ends, color, 2)
    (x0, y0), (x1, y1) = ends
    length = math.hypot(x1 - x0, y1 - y0)
    if length:
        across = (-(y1 - y0) / length * _TICK_PX, (x1 - x0) / length * _TICK_PX)
        for x, y in ends:
            tick = ((x - across[0], y - across[1]), (x + across[0], y + across[1]))
            yield Stroke(tick, color, 2)


def _labels(rows: Sequence[Row], zoom: int, size: tuple[int, int]) -> Iterator[Word]:
    """Instance and value beside each line, where no other label is."""
    taken: list[tuple[float, float, float]] = []
    for row in _labeled(rows):
        quantity = "" if row["quantity"] in _MAIN else f".{row['quantity']}"
        text = f"{row['measurement']}{quantity} {row['instance']}: {_value(row)}"
        width = len(text) * _CHAR_PX
        x = ((row["x0_px"] + row["x1_px"] + 1) * zoom - width) / 2
        y = (row["y0_px"] + row["y1_px"] + 1) * zoom / 2 + 3
        place = _free_place((x, y, width), taken, size)
        taken.append((*place, width))
        yield Word(place, text, COLORS.get(row["status"], _LOST))


def _labeled(rows: Sequence[Row]) -> list[Row]:
    """One row for each line: the mean of a film, not its thinnest place or its scatter."""
    drawn = [row for row in rows if row["x0_px"] is not None]
    have_main = {_subject(row) for row in drawn if row["quantity"] in _MAIN}
    found: dict[tuple[Any, ...], Row] = {}
    for row in drawn:
        line = tuple(row[end] for end in ("x0_px", "y0_px", "x1_px", "y1_px"))
        if row["quantity"] in _MAIN or _subject(row) not in have_main:
            found.setdefault((_subject(row), line), row)
    return list(found.values())


def _subject(row: Row) -> tuple[Any, ...]:
    return row["measurement"], row["instance"], row["side"]


def _free_place(
    wanted: tuple[float, float, float],
    taken: Sequence[tuple[float, float, float]],
    size: tuple[int, int],
) -> Place:
    """The nearest place above or below where the text covers no other."""
    x, y, width = wanted
    x = max(0.0, min(x, size[0] - width))
    steps = [sign * k * _LINE_PX for k in range(size[1] // _LINE_PX) for sign in (1, -1)]
    inside = [y + step for step in steps if 0 <= y + step <= size[1] - _LINE_PX]
    for top in inside:
        if not any(abs(top - v) < _LINE_PX and x < u + w and u < x + width for u, v, w in taken):
            return x, top
    return x, inside[0] if inside else 0.0


def _value(row: Row) -> str:
    if row["value"] is not None:
        return with_unit(row["value"], row["unit"])
    if row["value_px"] is not None:
        return with_unit(row["value_px"], row["unit"].replace("nm", "px"))
    return str(row["status"])


def _scale_bar(scale: Row | None, zoom: int, place: tuple[int, int]) -> tuple[Stroke, Word]:
    """A round length of at most a quarter of the width; in pixels if there is no scale.

    It ends at the right, in a line of its own: on the picture it would cover a data bar.
    """
    per_px = (scale["nm_per_px_x"] if scale else 1.0) / zoom
    longest = place[0] / 4 * per_px
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(nice * power for nice in _NICE if nice * power <= longest)
    right, top = place[0] - _MARGIN_PX, place[1]
    y = top + _LINE_PX / 2
    bar = Stroke(((right - length / per_px, y), (right, y)), _TEXT, 4)
    text = f"{length:g} {'nm' if scale else 'px'}"
    start = right - length / per_px - _MARGIN_PX - len(text) * _CHAR_PX
    return bar, Word((start, top), text)


def _footer(
    database: CdDatabase, run: Row, scale: Row | None, note: str, rows: Sequence[Row]
) -> Iterator[tuple[str, str]]:
    """What the values stand on, and what is not to be seen in the picture."""
    recipe = get_row(database, "recipes", run["recipe_id"])
    source = "drawn labels" if run["source"] == "ground_truth" else "labels of a model"
    calibration = "NO CALIBRATION, pixels only"
    if scale:
        percent = 100 * scale["rel_uncertainty"]
        detail = f" ({scale['detail']})" if scale["detail"] else ""
        size = f"{scale['nm_per_px_x']:.5g} nm/px ± {percent:.2g} %"
        calibration = f"scale {size} from {scale['source']}{detail}"
    yield f"{run['name']}  |  {source}  |  {run['status']}  |  run {run['id']}", _TEXT
    yield f"recipe {recipe['name']} {recipe['version']}, {recipe['id']}  |  {calibration}", _TEXT
    lost = [
        " ".join(
            filter(None, (row["measurement"], str(row["instance"]), row["side"], row["status"]))
        )
        for row in rows
        if row["status"] not in COLORS
    ]
    if lost:
        yield "not measured: " + ", ".join(dict.fromkeys(lost)), _LOST
    flags = sorted({flag for row in (run, *rows) for flag in json.loads(row["flags"])})
    if flags:
        yield "flags: " + ", ".join(flags), COLORS["flagged"]
    if note:
        yield note, _LOST
