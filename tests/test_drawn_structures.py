"""Frames that follow structures and cuts that keep what lies below, on drawn shapes."""

import math

import numpy as np
import pytest

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_checks import check_recipe
from backend.metrology.subject import Subject

SHAPE = (160, 300)
LABELS = ("Si", "Gate", "Cap")
WIDTH_PX = 30
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def content(**changes):
    """A recipe of gates on silicon, in pixels."""
    return {
        "schema": "tem-cd-recipe/1", "name": "drawn", "version": 1,
        "materials": {"si": "Si", "gate": "Gate", "cap": "Cap"},
        "calibration": {"require": False},
        "edges": {"prefer": ["label"], "u_place_px": 0.1},
        "frame": {"align": "structure_axis", "axis_of": "gate"},
        "structures": {"gate": {"materials": ["gate"]}},
        "measurements": [
            {"id": "cd", "kind": "width", "of": "gate", "at": {"fraction": 0.5, "band": 0.3}},
            {"id": "h", "kind": "height", "of": "gate"},
        ],
    } | changes  # fmt: skip


def leaning_gates(lean_deg):
    """Three gates whose walls lean to the right, their bases on one row. (H, W)."""
    label_map = np.zeros(SHAPE, np.uint8)
    shift = math.tan(math.radians(lean_deg)) * (120 - ROWS)
    for left in (60.3, 140.1, 220.7):
        inside = (left + shift <= COLUMNS) & (left + WIDTH_PX + shift > COLUMNS)
        label_map[inside & (ROWS >= 40) & (ROWS < 120)] = 1
    return label_map


def measured(label_map, recipe):
    """Measure by a recipe; values of each measurement, and all of it."""
    result = measure_image(Subject(label_map, LABELS), Recipe.model_validate(recipe))
    values = {}
    for cd in result.cds:
        values.setdefault(cd.measurement, []).append(cd.value)
    return values, result


@pytest.mark.parametrize("lean_deg", [0.0, 3.0, -8.0])
def test_the_frame_leans_with_the_structures(lean_deg):
    """Widths are across the axis then: a row of them times the cosine."""
    values, result = measured(leaning_gates(lean_deg), content())
    assert result.tilt_deg == pytest.approx(lean_deg, abs=0.2)
    assert abs(result.tilt_deg - lean_deg) <= 3 * result.tilt_u_deg
    expected = WIDTH_PX * math.cos(math.radians(lean_deg))
    assert values["cd"] == [pytest.approx(expected, abs=0.5)] * 3


@pytest.mark.parametrize("frame", [{"max_tilt_deg": 5}, {"min_baseline_px": 400}])
def test_a_bad_axis_is_refused(frame):
    """Too steep, or too short in all: the run is under review."""
    rule = {"align": "structure_axis", "axis_of": "gate", **frame}
    _, result = measured(leaning_gates(8.0), content(frame=rule))
    assert "no_align" in result.flags
    assert (result.status, result.tilt_deg) == ("review", None)


def mistakes(recipe):
    """What the checks say."""
    return [f"{mistake.path}: {mistake.text}" for mistake in check_recipe(recipe, None)]


def test_lean_is_not_measured_against_itself():
    """An error in such a frame; taper is none."""
    tilts = [{"id": q, "kind": "tilt", "of": "gate", "quantity": q} for q in ("lean", "taper")]
    (told,) = mistakes(content(measurements=tilts))
    assert "('measurements', 0)" in told
    assert "leans with the structures" in told
    assert mistakes(content(measurements=tilts, frame={"align": "none"})) == []


def test_an_axis_needs_a_structure_that_needs_no_frame():
    """One that exists, and is not cut at a level; form is checked with the recipe."""
    cut = {"materials": ["cap"], "cut": {"level_of": "gate", "part": "top", "keep": "below"}}
    structures = {"gate": {"materials": ["gate"]}, "cap": cut}
    rule = {"align": "structure_axis", "axis_of": "cap"}
    assert "needs a frame first" in mistakes(content(structures=structures, frame=rule))[0]
    unknown = content(frame={"align": "structure_axis", "axis_of": "gaet"})
    assert "did you mean gate" in mistakes(unknown)[0]
    for frame in ({"align": "structure_axis"}, {"align": "none", "axis_of": "gate"}):
        with pytest.raises(ValueError, match="go together"):
            Recipe.model_validate(content(frame=frame))


def plugs_beside_a_gate():
    """A gate from row 40 to 120, and two plugs beside it from row 20 to 110. (H, W)."""
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[40:120, 135:165] = 1
    for left in (40, 220):
        label_map[20:110, left : left + 40] = 2
    return label_map


@pytest.mark.parametrize(
    ("part", "keep", "height_px", "area_px"),
    [
        ("top", "below", 70, 2800),  # rows 40 to 110
        ("top", "above", 20, 800),  # rows 20 to 40
    ],
)
def test_a_cut_keeps_one_side(part, keep, height_px, area_px):
    """The level of the gate's top parts the plugs; what is kept ends there."""
    cut = {"level_of": "gate", "part": part, "keep": keep}
    base = "cut" if keep == "above" else "bbox_bottom"
    plug = {"materials": ["cap"], "base": base, "cut": cut}
    recipe = content(
        frame={"align": "none"},
        structures={"gate": {"materials": ["gate"]}, "plug": plug},
        measurements=[
            {"id": "h", "kind": "height", "of": "plug"},
            {"id": "area", "kind": "area", "of": "plug"},
            {"id": "cd", "kind": "width", "of": "plug", "at": {"fraction": 0.5}},
        ],
    )
    values, result = measured(plugs_beside_a_gate(), recipe)
    assert values["h"] == [pytest.approx(height_px, abs=0.1)] * 2
    assert values["area"] == [pytest.approx(area_px, rel=0.01)] * 2
    assert values["cd"] == [pytest.approx(40, abs=0.1)] * 2
    heights = [cd for cd in result.cds if cd.measurement == "h"]
    assert all(0.1 < cd.u_value < 1 for cd in heights)  # of its own face, and of the cut


def test_below_a_cut_the_base_is_its_own():
    """`base: cut` would be its top."""
    cut = {"level_of": "gate", "part": "base", "keep": "below"}
    structures = {"gate": {"materials": ["gate"]},
                  "plug": {"materials": ["cap"], "base": "cut", "cut": cut}}  # fmt: skip
    with pytest.raises(ValueError, match="has it as its top"):
        Recipe.model_validate(content(structures=structures))
