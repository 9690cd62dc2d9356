"""Kinds of measurements on drawings that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from drawings import MATERIALS, drawing, measured

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration


def test_distances_run_from_edge_to_edge_on_either_side():
    """The plug begins 10 px right of the first gate, and ends 10 px left of the second."""
    rule = {"id": "d", "kind": "distance", "of": "gate", "to": "plug"}
    rows = measured(drawing(), rule)
    assert rows["d", 0, "right", ""].value == pytest.approx(10)
    assert rows["d", 1, "left", ""].value == pytest.approx(10)
    assert rows["d", 0, "left", ""].status == "failed"
    assert rows["d", 0, "left", ""].flags == ("no_neighbour",)


def plug_at(left, labels=None):
    """The drawing, or a copy of other labels, with one plug of 10 px from a column on."""
    labels = np.where(drawing() == 3, 1, drawing()) if labels is None else labels.copy()
    labels[50:80, left : left + 10] = 3
    return labels


def test_overlay_is_from_centre_to_centre():
    """A plug's centre lies 20 px right of that of the first gate, and is not the second's."""
    rows = measured(plug_at(55), {"id": "o", "kind": "overlay", "of": "gate", "to": "plug"})
    assert rows["o", 0, "", ""].value == pytest.approx(20)
    assert rows["o", 1, "", ""].flags == ("no_neighbour",)
    assert rows["o", 1, "", ""].status == "failed"


def test_an_overlay_half_way_between_two_is_of_neither():
    """The plug 25 px from both gates: whose it is cannot be told."""
    rows = measured(drawing(), {"id": "o", "kind": "overlay", "of": "gate", "to": "plug"})
    assert [row.flags for row in rows.values()] == [("no_neighbour",)] * 2


def test_enclosure_gives_the_inner_margins():
    """A plug within a gate, 4 px from its left and 6 px from its right edge."""
    labels = drawing()
    labels[40:80, 84:94] = 3
    structures = {"gate": {"materials": ["gate", "plug"]}, "plug": {"materials": ["plug"]}}
    rule = {"id": "e", "kind": "enclosure", "of": "plug", "to": "gate"}
    rows = measured(labels, rule, structures=structures)
    assert rows["e", 1, "left", ""].value == pytest.approx(4)
    assert rows["e", 1, "right", ""].value == pytest.approx(6)


def test_only_what_overlaps_encloses():
    """A plug that sticks out by 2 px has a negative margin; one beside the gates has none."""
    rule = {"id": "e", "kind": "enclosure", "of": "plug", "to": "gate"}
    structures = {"gate": {"materials": ["gate", "plug"]}, "plug": {"materials": ["plug"]}}
    rows = measured(plug_at(92), rule, structures=structures)
    assert rows["e", 0, "left", ""].value == pytest.approx(12)
    apart = measured(drawing(), rule)
    assert [row.flags for row in apart.values()] == [("no_neighbour",)] * 2


def test_pitch_and_space_of_neighbours():
    """One row for two gates."""
    at = {"fraction": 0.5}
    rules = [{"id": kind, "kind": kind, "of": "gate", "at": at} for kind in ("pitch", "space")]
    rows = measured(drawing(), *rules)
    assert {key[:2]: cd.value for key, cd in rows.items()} == {
        ("pitch", 0): pytest.approx(50),
        ("space", 0): pytest.approx(30),
    }


def test_the_axes_of_an_ellipse():
    """Half axes of 30 and 20 px: within a few hundredths of a pixel."""
    rows, columns = np.indices((100, 120))
    labels = np.ones((100, 120), dtype=np.uint8)
    labels[((columns - 60.3) / 30) ** 2 + ((rows - 50.2) / 20) ** 2 < 1] = 2
    found = measured(labels, {"id": "d", "kind": "diameter", "of": "gate"})
    assert found["d", 0, "", "major"].value == pytest.approx(60, abs=0.1)
    assert found["d", 0, "", "minor"].value == pytest.approx(40, abs=0.1)
    assert found["d", 0, "", "ratio"].value == pytest.approx(2 / 3, abs=0.003)
    assert found["d", 0, "", "equivalent"].value == pytest.approx(np.sqrt(2400), abs=0.1)


def test_lean_and_taper_of_a_leaning_gate():
    """Both walls lean right by 1 in 10; then the left one leans in and the right one too."""
    labels = np.ones((120, 160), dtype=np.uint8)
    rows, columns = np.indices(labels.shape)
    height = 100 - rows
    inside = (height > 0) & (height <= 80)
    lean, taper = (
        {"id": q, "kind": "tilt", "of": "gate", "quantity": q} for q in ("lean", "taper")
    )
    leaning = labels.copy()
    leaning[inside & (columns > 50 + height / 10) & (columns < 90 + height / 10)] = 2
    tapered = labels.copy()
    tapered[inside & (columns > 50 + height / 10) & (columns < 90 - height / 10)] = 2
    degrees = np.degrees(np.arctan(0.1))
    found = measured(leaning, lean, taper)
    assert found["lean", 0, "", ""].value == pytest.approx(degrees, abs=0.1)
    assert found["taper", 0, "", ""].value == pytest.approx(0, abs=0.1)
    found = measured(tapered, lean, taper)
    assert found["lean", 0, "", ""].value == pytest.approx(0, abs=0.1)
    assert found["taper", 0, "", ""].value == pytest.approx(degrees, abs=0.1)


def test_radius_of_a_round_corner():
    """A radius of 15 px, within what the row states."""
    labels = np.ones((120, 160), dtype=np.uint8)
    rows, columns = np.indices(labels.shape)
    gap = np.hypot(np.maximum(45 - columns, 0), np.maximum(35 - rows, 0))
    labels[(columns >= 30) & (columns < 110) & (rows >= 20) & (rows < 100) & (gap < 15)] = 2
    found = measured(labels, {"id": "r", "kind": "corner_radius", "of": "gate", "sides": ["left"]})
    row = found["r", 0, "left", ""]
    assert abs(row.value - 15) < 4 * row.u_value
    assert row.value == pytest.approx(15, rel=0.1)


def test_a_swing_is_no_noise():
    """A wall that swings by 2 px is 3 x 2 / sqrt 2 rough; short lines are flagged."""
    labels = np.ones((160, 120), dtype=np.uint8)
    rows, columns = np.indices(labels.shape)
    right = 70 + 2 * np.sin(2 * np.pi * rows / 37)
    labels[(rows > 10) & (rows < 150) & (columns > 30) & (columns < right)] = 2
    rule = {"id": "l", "kind": "roughness", "of": "gate", "quantity": "ler", "sides": ["right"]}
    found = measured(labels, rule)
    assert found["l", 0, "right", "3s"].value == pytest.approx(3 * np.sqrt(2), rel=0.15)
    assert found["l", 0, "right", "3s_unbiased"].value == pytest.approx(3 * np.sqrt(2), rel=0.15)
    assert found["l", 0, "right", "floor"].value < 1
    assert "short_line" in found["l", 0, "right", "3s"].flags


def test_a_structure_at_the_border_is_left_out_unless_it_is_kept():
    """Half a gate has no width; kept, it is flagged."""
    labels = drawing()[:, 40:]
    rule = {"id": "w", "kind": "width", "of": "gate", "at": {"fraction": 0.5}}
    assert {key[1] for key in measured(labels, rule)} == {0}
    kept = {"gate": {"materials": ["gate"], "border": "keep_flagged"}}
    rows = measured(labels, rule, structures=kept)
    assert rows["w", 0, "", ""].flags[0] == "border"
    assert rows["w", 1, "", ""].value == pytest.approx(20)


def test_structures_that_cut_each_other_are_refused():
    """Neither could be found first."""
    cut = {"part": "base", "keep": "above"}
    structures = {
        "gate": {"materials": ["gate"], "cut": {"level_of": "plug", **cut}},
        "plug": {"materials": ["plug"], "cut": {"level_of": "gate", **cut}},
    }
    with pytest.raises(ValueError, match="circle"):
        measured(drawing(), {"id": "a", "kind": "area", "of": "gate"}, structures=structures)


def test_ratios_are_of_each_instance_or_of_the_image():
    """What stands alone is per instance; the pooled extremes of single values are one number."""
    rules = [
        {"id": "w", "kind": "width", "of": "gate", "at": {"fraction": 0.5}},
        {"id": "h", "kind": "height", "of": "gate"},
        {"id": "ar", "kind": "ratio", "expr": "h / w"},
        {"id": "spread", "kind": "ratio", "expr": "max(w) / min(w)"},
    ]
    found = measured(drawing(), *rules)
    ratios = {key[:2]: cd.value for key, cd in found.items() if cd.kind == "ratio"}
    assert ratios == {("ar", 0): 2.0, ("ar", 1): 2.0, ("spread", 0): 1.0}


def test_the_top_of_a_tapered_body_ends_where_its_walls_do():
    """A cap of 6 px is not measured along the film on walls of 75 degrees."""
    rows, columns = np.mgrid[:120, :160].astype(float)
    lean = np.tan(np.radians(15))

    def wedge(top, half):
        return (rows >= top) & (rows < 100) & (np.abs(columns - 80) < half + (rows - top) * lean)

    labels = np.ones(rows.shape, dtype=np.uint8)
    labels[100:] = 0
    labels[wedge(34, 22 - 6 * lean + 6 / np.cos(np.radians(15)))] = 3
    labels[wedge(40, 22)] = 2
    site = {"structure": "gate", "part": "top", "inset_px": 2}
    rule = {"id": "cap", "kind": "thickness", "film": "plug", "between": ["gate", "ox"],
            "site": site, "sides": ["left"]}  # fmt: skip
    found = measured(labels, rule)
    assert found["cap", 0, "", "mean"].value == pytest.approx(6, abs=0.05)
    assert found["cap", 0, "", "max"].value < 6.5


def test_a_body_cut_at_the_top_of_another_stands_on_it():
    """The gate above the plug's top, 30 px over the substrate, is 10 px high."""
    structures = {
        "plug": {"materials": ["plug"]},
        "gate": {
            "materials": ["gate"],
            "cut": {"level_of": "plug", "part": "top", "keep": "above"},
            "base": "cut",
        },
    }
    rows = measured(drawing(), {"id": "h", "kind": "height", "of": "gate"}, structures=structures)
    assert rows["h", 0, "", ""].value == pytest.approx(10)


def test_a_spur_under_a_body_is_not_its_base():
    """Two pixels of label that hang 3 px lower at its side do not make it higher."""
    labels = drawing()
    labels[80:83, 31:33] = 2
    rows = measured(labels, {"id": "h", "kind": "height", "of": "gate"})
    assert rows["h", 0, "", ""].value == pytest.approx(40, abs=0.5)


def test_a_base_on_something_else_than_the_recipe_says_is_flagged():
    """The gate's oxide was lost by a model: its CDs are measured from its lower edge."""
    structures = {"gate": {"materials": ["gate"], "base": {"interface_with": "plug"}}}
    rows = measured(drawing(), {"id": "h", "kind": "height", "of": "gate"}, structures=structures)
    assert rows["h", 0, "", ""].value == pytest.approx(40)
    assert rows["h", 0, "", ""].status == "flagged"
    assert "other_base" in rows["h", 0, "", ""].flags


def test_what_a_model_labeled_is_flagged():
    """It may be sure and wrong, by 30 px once: nobody has looked at it."""
    content = {
        "schema": "tem-cd-recipe/1",
        "name": "drawing",
        "version": 1,
        "materials": {"gate": "gate"},
        "frame": {"align": "none"},
        "structures": {"gate": {"materials": ["gate"]}},
        "measurements": [{"id": "h", "kind": "height", "of": "gate"}],
    }
    subject = Subject(drawing(), MATERIALS, Calibration(1.0, 1.0, "manual"), is_inferred=True)
    cds = measure_image(subject, Recipe.model_validate(content)).cds
    assert {cd.status for cd in cds} == {"flagged"}
    assert all("unverified" in cd.flags for cd in cds)
