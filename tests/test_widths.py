"""Pitches and spaces between neighbours that differ, lean or are lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawings import measured, recipe, subject

from backend.metrology.measure import measure_image

WALL_DEG = 80.0
AT = {"fraction": 0.5, "band": 0.2}
SPACE = {"id": "space", "kind": "space", "of": "gate", "at": AT}
PITCH = {"id": "pitch", "kind": "pitch", "of": "gate", "at": AT}
DISTANCE = {"id": "d", "kind": "distance", "of": "gate", "to": "plug", "at": AT, "sides": ["right"]}
OVERLAY = {"id": "o", "kind": "overlay", "of": "gate", "to": "plug", "at": AT}


def tapered(right_material=2):
    """A gate 60 px high beside one of 90 px, 90 px apart, 50 and 60 px wide at their base."""
    rows, columns = np.indices((150, 240))
    up = 119.5 - rows
    labels = np.where(up < 0, 0, 1).astype(np.uint8)
    for center, half, height, material in ((70.3, 25, 60, 2), (160.3, 30, 90, right_material)):
        lean = up * math.tan(math.radians(90 - WALL_DEG))
        inside = (up > 0) & (up < height) & (np.abs(columns - center) < half - lean)
        labels[inside] = material
    return labels


def test_a_space_is_measured_on_one_level():
    """Half way up the left gate, where the higher one is wider than half way up itself."""
    row = measured(tapered(), SPACE)["space", 0, "", ""]
    lean = 30 * math.tan(math.radians(90 - WALL_DEG))
    assert row.value == pytest.approx(90 - (25 - lean) - (30 - lean), abs=0.3)
    (left_row, left), (right_row, right) = row.line
    assert left_row == pytest.approx(right_row)
    assert left == pytest.approx(70.3 + 25 - lean, abs=0.3)
    assert right == pytest.approx(160.3 - 30 + lean, abs=0.3)


@pytest.mark.parametrize(("rules", "material"), [((SPACE, PITCH), 2), ((DISTANCE, OVERLAY), 3)])
def test_an_uncertain_level_counts_between_walls_that_lean_apart(rules, material):
    """Between edges by the lean of both; from middle to middle not at all, since they cancel."""
    edges = {"prefer": ["label"], "u_place_px": 1.0}
    found = measured(tapered(material), *rules, edges=edges)
    apart, middles = (
        next(row for key, row in found.items() if key[0] == rule["id"] and row.value is not None)
        for rule in rules
    )
    u_level = math.sqrt(1 / 2)  # of base and top, each placed to 1 px
    expected = 2 * math.tan(math.radians(90 - WALL_DEG)) * u_level
    of_level = math.sqrt(apart.u_value**2 - 2 * middles.u_value**2)
    assert of_level == pytest.approx(expected, rel=0.15)


def gates_at(*columns):
    """Gates 20 px wide and 40 px high."""
    labels = np.ones((100, 400), dtype=np.uint8)
    labels[80:] = 0
    for column in columns:
        labels[40:80, column : column + 20] = 2
    return subject(labels)


@pytest.mark.parametrize("rule", [PITCH, SPACE])
def test_a_lost_gate_shows_in_the_gap_it_leaves(rule):
    """Of five gates the third is missing: the gap is no pitch, and somebody has to look."""
    found = measure_image(gates_at(30, 100, 240, 310), recipe(rule))
    assert ["uneven_pitch" in cd.flags for cd in found.cds] == [False, True, False]
    assert found.cds[1].status == "flagged"
    assert "uneven_pitch:gate" in found.flags
    assert found.status == "review"


def test_pitch_walking_is_no_lost_gate():
    """Gaps of 60 and 80 px in turn are what double patterning leaves."""
    found = measure_image(gates_at(30, 90, 170, 230), recipe(PITCH))
    flags = (*found.flags, *(flag for cd in found.cds for flag in cd.flags))
    assert not any(flag.startswith("uneven_pitch") for flag in flags)


def gates_and_plugs(*plugs):
    """Four gates 80 px apart, and plugs of 10 px from these columns on."""
    one = gates_at(30, 110, 190, 270)
    for column in plugs:
        one.label_map[50:80, column : column + 10] = 3
    return one


def statuses(rule, *plugs):
    """Rounded values of a measurement of all gates, or their only flag."""
    cds = measure_image(gates_and_plugs(*plugs), recipe(rule)).cds
    return [round(cd.value, 1) if cd.value is not None else cd.flags[0] for cd in cds]


def test_a_gate_without_its_plug_has_no_overlay():
    """That of the third gate was not printed: the nearest one is the second's."""
    assert statuses(OVERLAY, 60, 140, 300) == [25, 25, "no_neighbour", 25]
    assert statuses(OVERLAY, 60, 140, 220, 300) == [25, 25, 25, 25]


def test_a_distance_runs_through_no_other_gate():
    """The third gate's plug is missing: what lies right of it belongs to the fourth."""
    assert statuses(DISTANCE, 60, 140, 300) == [10, 10, "no_neighbour", 10]


def test_two_gates_share_the_plug_between_them():
    """Its distance from either is a length of its own."""
    both = {**DISTANCE, "sides": ["left", "right"]}
    assert statuses(both, 60)[1:3] == [10, 40]
