"""Overlays come from the database alone: lines where they were measured, and why to believe it."""

import hashlib
import io
from contextlib import closing
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from cd_runs import gate_run, gates, lost, width
from PIL import Image

from backend.metrology.database import open_database, write_run
from backend.metrology.overlay import COLORS, draw_run, save_overlays, to_png, to_svg
from backend.metrology.results import Measured

SHAPE = (300, 400)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def path(tmp_path):
    """Where the database lies."""
    return tmp_path / "cds.db"


@pytest.fixture
def database(path):
    """An empty CD database."""
    with closing(open_database(path)) as database:
        yield database


def save_image(path):
    """Save a picture beside the database; return its hash."""
    pixels = np.tile(np.linspace(40, 220, SHAPE[1]).astype(np.uint8), (SHAPE[0], 1))
    (path.parent / "images").mkdir()
    file = path.parent / "images" / "gate_0.tif"
    Image.fromarray(pixels).save(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def texts(drawing):
    """All words of a drawing."""
    return [word.text for word in drawing.words]


def test_line_lies_where_it_was_measured(database, path):
    """From column 80 to 120 on row 150, twice as large, at the centres of pixels, ticks across."""
    run_id = write_run(database, gate_run(), Measured("ok", (width(0, 40.0),)))

    drawing = draw_run(database, path, run_id)

    zoom = drawing.picture.shape[1] // SHAPE[1]
    x0, x1, y = 80.5 * zoom, 120.5 * zoom, 150.5 * zoom
    line, left, right, _ = drawing.strokes
    assert line.points == ((x0, y), (x1, y))
    assert {x for x, _ in left.points} == {x0}
    assert {x for x, _ in right.points} == {x1}
    assert left.points[0][1] < y < left.points[1][1]


def test_value_instance_and_status_are_shown(database, path):
    """A flagged width in another color; a lost one is named in the footer."""
    cds = (width(0, 40.0), width(1, 41.0, status="flagged", flags=("low_cnr",)), lost(2))
    run_id = write_run(database, gate_run(), Measured("review", cds))

    drawing = draw_run(database, path, run_id)

    colors = {word.text: word.color for word in drawing.words}
    assert colors["gate_mcd 0: 8.00 nm"] == COLORS["ok"]
    assert colors["gate_mcd 1: 8.20 nm"] == COLORS["flagged"]
    assert "not measured: gate_mcd 2 missing" in colors
    assert "flags: low_cnr, not_found" in colors


def test_footer_says_what_values_stand_on(database, path):
    """Recipe, its hash, the scale and where it is from."""
    run = gate_run()
    run_id = write_run(database, run, gates(40.0))

    shown = " ".join(texts(draw_run(database, path, run_id)))

    assert f"recipe gate 1, {run.recipe_id}" in shown
    assert "scale 0.2 nm/px ± 5 % from manual (stage micrometer)" in shown


def test_without_calibration_pixels_are_pixels(database, path):
    """Value, bar and footer say so."""
    run_id = write_run(database, gate_run(calibration=None), Measured("ok", (width(0, 40.0),)))

    drawing = draw_run(database, path, run_id)

    assert "gate_mcd 0: 40.00 px" in texts(drawing)
    assert any("NO CALIBRATION" in text for text in texts(drawing))
    assert not any(text.endswith(" nm") for text in texts(drawing))


def test_scale_bar_is_as_long_as_it_says(database, path):
    """At 0.2 nm a pixel, and the magnification of the canvas."""
    run_id = write_run(database, gate_run(), gates(40.0))

    drawing = draw_run(database, path, run_id)

    (x0, _), (x1, _) = drawing.strokes[-1].points
    zoom = drawing.picture.shape[1] // SHAPE[1]
    assert f"{(x1 - x0) / zoom * 0.2:g} nm" in texts(drawing)


def test_labels_do_not_cover_each_other(database, path):
    """Five widths measured on nearly the same row."""
    cds = [
        replace(width(0, 40.0), measurement=f"w{i}", line=((150.0 + i, 80.0), (150.0 + i, 120.0)))
        for i in range(5)
    ]
    run_id = write_run(database, gate_run(), Measured("ok", tuple(cds)))

    words = [word for word in draw_run(database, path, run_id).words if word.text[0] == "w"]

    tops = sorted(word.place[1] for word in words)
    assert len(tops) == 5
    assert min(np.diff(tops)) >= 13


def test_only_the_mean_of_a_film_is_labeled(database, path):
    """Its scatter beside the same line would read as a second thickness; axes have no mean."""
    film = [width(0, value, quantity=name) for name, value in (("std", 1.0), ("mean", 40.0))]
    axes = [width(1, 50.0, measurement="d", quantity=name) for name in ("major", "minor")]
    axes[1] = replace(axes[1], line=((100.0, 200.0), (200.0, 200.0)), value=60.0)
    run_id = write_run(database, gate_run(), Measured("ok", (*film, *axes)))

    shown = [text for text in texts(draw_run(database, path, run_id)) if ": " in text]

    assert shown == ["gate_mcd 0: 8.00 nm", "d.major 1: 10.00 nm", "d.minor 1: 12.00 nm"]


def test_picture_is_looked_up_beside_the_database(database, path):
    """Brighter to the right, as it was saved."""
    run_id = write_run(database, gate_run(file_sha256=save_image(path)), gates(40.0))

    picture = draw_run(database, path, run_id).picture

    assert picture[5, 5] < picture[5, 400] < picture[5, 795]


@pytest.mark.parametrize("is_there", [True, False])
def test_another_picture_is_not_shown(database, path, is_there):
    """One that was not measured would lend its looks to lines that are not its own."""
    if is_there:
        save_image(path)
    run_id = write_run(database, gate_run(), gates(40.0))  # of other bytes

    drawing = draw_run(database, path, run_id)

    assert not drawing.picture.any()
    expected = "is no longer the one that was measured" if is_there else "not found or not readable"
    assert any(expected in text for text in texts(drawing))


def test_both_writers_draw_all(database, path):
    """As many lines and words in the SVG as described; color where the PNG has a line."""
    run_id = write_run(database, gate_run(), gates(40.0))
    drawing = draw_run(database, path, run_id)

    svg = ET.fromstring(to_svg(drawing))  # noqa: S314 - ours
    assert len(svg.findall(f"{SVG}polyline")) == len(drawing.strokes)
    assert [text.text for text in svg.findall(f"{SVG}text")] == texts(drawing)
    with Image.open(io.BytesIO(to_png(drawing))) as png:
        assert png.size == drawing.size
        x0, y = drawing.strokes[1].points[0]
        assert png.getpixel((int(x0) + 3, int(y))) == (0x35, 0xD0, 0x7F)


def test_overlays_are_saved_and_noted(database, path):
    """The same bytes each time, as everything comes from the database."""
    run_id = write_run(database, gate_run(), gates(40.0))

    first = [file.read_bytes() for file in save_overlays(database, path, run_id, path.parent / "o")]
    again = [file.read_bytes() for file in save_overlays(database, path, run_id, path.parent / "o")]

    assert first == again
    run = database.table("runs").get(run_id)
    assert (run["overlay_png"], run["overlay_svg"]) == (f"o/{run_id}.png", f"o/{run_id}.svg")
