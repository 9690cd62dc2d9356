"""Thickness of films that lie along the pixel rows, or nearly."""

from __future__ import annotations

import pytest
from drawings import recipe, rows_of, subject
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
