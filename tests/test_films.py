"""Thickness of films that lie along the pixel rows, or nearly."""

from __future__ import annotations

import numpy as np
import pytest
from drawings import measured, recipe, rows_of, subject
from shapely import affinity, box

from backend.microscope.coverage import label_at_centers

FILM_PX = 6.4
FILM = {
    "id": "film",
    "kind": "thickness",
    "film": "ox",
    "between": ["si", "gate"],
    "site": {"structure": "gate", "part": "base", "inset_px": 3},
}


def gate_on_film(tilt_deg, shift_px=0.0):
    """A gate of 40 px on an oxide of 6.4 px, in a fill, turned by a few degrees."""
    top = 100 + shift_px
    gate = box(60, 40, 100, top)
    silicon = box(-200, top + FILM_PX, 400, 400)
    oxide = box(-200, top, 400, top + FILM_PX)
    fill = box(-200, -200, 400, top) - gate
    tiles = [affinity.rotate(tile, tilt_deg, (80, 80)) for tile in (silicon, oxide, gate, fill)]
    return label_at_centers(tiles, (140, 160))


def films(tilt_deg, **more):
    """The rows of the film by quantity."""
    frame = {"align": "angle", "angle_deg": tilt_deg}
    one = subject(gate_on_film(tilt_deg), **more)
    return {key[3]: row for key, row in rows_of(one, recipe(FILM, frame=frame)).items()}


def test_a_film_along_the_rows_is_known_to_a_pixel_only():
    """6.4 px are known as 6 or 7: it says so, and its error is no smaller than 0.4 px."""
    for row in films(0.0).values():
        assert "grid_locked" in row.flags
        assert row.status == "flagged"
    mean = films(0.0)["mean"]
    assert mean.value in (pytest.approx(6), pytest.approx(7))
    assert mean.u_value >= 0.4


def test_a_film_that_crosses_the_rows_is_not_locked():
    """At 5 degrees both interfaces cross two rows under the gate."""
    mean = films(5.0)["mean"]
    assert "grid_locked" not in mean.flags
    assert mean.value == pytest.approx(FILM_PX, abs=0.15)


def cap(part, **site):
    """The thickness of a cap on top of a gate, or of a block at its left."""
    site = {"structure": "gate", "part": part, **site}
    materials = {"film": "plug", "between": ["gate", "ox"]}
    return {"id": "cap", "kind": "thickness", **materials, "site": site, "sides": ["left"]}


def capped_gate(width_px, slope=0.0):
    """A gate so wide with a cap that covers it, 40 px thick at its left and thinner by a slope."""
    labels = np.ones((160, 160), dtype=np.uint8)
    rows, columns = np.indices(labels.shape)
    inside = (columns >= 60) & (columns < 60 + width_px)
    labels[140:] = 0
    labels[inside & (rows >= 90) & (rows < 140)] = 2
    labels[inside & (rows >= 50 + slope * (columns - 60)) & (rows < 90)] = 3
    return labels


@pytest.mark.parametrize("width_px", [16, 20, 36, 80])
@pytest.mark.parametrize("part", ["top", "sidewall"])
def test_a_film_may_be_thicker_than_its_structure_is_wide(width_px, part):
    """A cap of 40 px on gates that are narrower, or a block as thick beside them."""
    labels = capped_gate(width_px)
    if part == "sidewall":
        labels[labels == 3] = 1
        labels[90:140, 20:60] = 3
    rows = {key[3]: row.value for key, row in measured(labels, cap(part)).items()}
    assert (rows["mean"], rows["max"]) == pytest.approx((40, 40))


def test_a_thick_film_is_not_cut_where_it_is_thickest():
    """From 40 px at its left to 20 at its right, on a gate of 40 px: the left would be lost."""
    rule = cap("top", inset_px=2)
    rows = {key[3]: row.value for key, row in measured(capped_gate(40, slope=0.5), rule).items()}
    assert rows["mean"] == pytest.approx(30, abs=0.5)
    assert rows["max"] == pytest.approx(39, abs=0.8)


def test_a_film_that_ends_with_the_image_is_between_nothing():
    """However long its rays are made."""
    labels = capped_gate(20)
    labels[:90, 60:80] = 3
    rows = measured(labels, cap("top"))
    assert {row.flags for row in rows.values()} == {("not_between",)}
