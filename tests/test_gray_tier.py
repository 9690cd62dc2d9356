"""Gray values move edges to where they are, and never into the grain of a material."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr

from backend.metrology.edge_shapes import blurred_skin
from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration

LABELS = ("substrate", "oxide", "metal")
WIDTH_PX, HEIGHT_PX, LEFT_PX = 37.3, 60.0, 81.2
RECIPE = {
    "schema": "tem-cd-recipe/1",
    "name": "gray",
    "version": 1,
    "materials": {"si": "substrate", "ox": "oxide", "gate": "metal"},
    "frame": {"align": "interface", "between": ["si", "ox"]},
    "structures": {"gate": {"materials": ["gate"], "base": {"interface_with": "si"}}},
    "measurements": [
        {"id": "mcd", "kind": "width", "of": "gate", "at": {"fraction": 0.5, "band": 0.6}},
        {"id": "h", "kind": "height", "of": "gate"},
        {"id": "swa", "kind": "sidewall_angle", "of": "gate"},
    ],
}


def recipe(prefer=("gray", "label")):
    """A gate on a substrate."""
    return Recipe.model_validate(RECIPE | {"edges": {"prefer": list(prefer), "u_gray_px": 0.05}})


@cache
def gate(too_wide_px=0.0, texture=0.0, seed=0, skin=0.0):
    """A gate with walls of 3 degrees, blurred by 1.5 px, and a label that may be too wide."""
    rows, columns = np.mgrid[:200, :200].astype(float)
    lean = (rows - 100) * np.tan(np.radians(3))  # wider below
    left, right = columns - LEFT_PX + lean, columns - LEFT_PX - WIDTH_PX - lean
    top, base = rows - 70, rows - 70 - HEIGHT_PX
    inside = ndtr(left / 1.5) * ndtr(-right / 1.5) * ndtr(top / 1.5) * ndtr(-base / 1.5)
    below = ndtr(base / 1.5)
    rng = np.random.default_rng(seed)
    gray = 1000 + 1000 * (1 - inside - below) + 500 * below
    for depth in (left, -right):
        gray += 1000 * skin * blurred_skin(depth, 1.5, 5.0) * ndtr(top / 1.5) * ndtr(-base / 1.5)
    gray += rng.normal(0, 100, gray.shape)
    if texture:
        grain = np.kron(rng.normal(0, 1, (25, 25)), np.ones((8, 8)))
        gray += texture * inside * grain
    label = np.ones(gray.shape, dtype=np.uint8)
    label[base > 0] = 0
    label[(left > -too_wide_px) & (right < too_wide_px) & (top > 0) & (base <= 0)] = 2
    return Subject(label, LABELS, Calibration(0.2, 0.2, "manual"), gray=gray)


def rows(subject, prefer=("gray", "label")):
    """What is measured, by measurement and side."""
    measured = measure_image(subject, recipe(prefer))
    return {(cd.measurement, cd.side): cd for cd in measured.cds if cd.instance == 0}


@pytest.mark.parametrize("seed", range(3))
def test_gray_edges_are_better_than_the_label(seed):
    """Contrast to noise 10: width, height and wall angle within 4 sigma, sigma 0.2 px at most."""
    found = rows(gate(seed=seed))
    assert found["mcd", ""].method == "gray"
    assert found["mcd", ""].u_value < 0.2
    assert abs(found["mcd", ""].value - WIDTH_PX) < 4 * found["mcd", ""].u_value
    assert abs(found["h", ""].value - HEIGHT_PX) < 4 * found["h", ""].u_value
    for side in ("left", "right"):
        assert abs(found["swa", side].value - 87) < max(4 * found["swa", side].u_value, 0.5)


def test_a_label_slightly_too_wide_is_moved_onto_the_edge():
    """Half a pixel on each side: the edge is in the gray values."""
    found = rows(gate(too_wide_px=0.45))["mcd", ""]
    assert found.method == "gray"
    assert abs(found.value - WIDTH_PX) < 0.25
    assert found.value_label - WIDTH_PX > 0.5


def test_a_label_far_from_the_gray_edge_is_reported_and_flagged():
    """Which of the two is right is for a person to say."""
    found = rows(gate(too_wide_px=2.0))["mcd", ""]
    assert "label_gray_disagree" in found.flags
    assert found.status == "flagged"
    assert found.value == found.value_label


@pytest.mark.parametrize("seed", range(3))
def test_grain_in_the_metal_never_gives_a_wrong_width_that_looks_right(seed):
    """Grain half as strong as the edge: within 4 sigma, or flagged."""
    found = rows(gate(texture=500.0, seed=seed))["mcd", ""]
    assert found.status == "flagged" or abs(found.value - WIDTH_PX) < 4 * found.u_value


def test_clipped_gray_values_near_an_edge_are_not_fitted():
    """A plateau cut off at white moves a fitted edge: the label is used, and the row says why."""
    subject = gate()
    clipped = replace(subject, gray=np.minimum(subject.gray, 1950))
    found = rows(clipped)["mcd", ""]
    assert found.method == "label"
    assert "clipped" in found.flags


def test_unknown_gamma_keeps_the_gray_values_out():
    """The image says so, and its rows are those of the label."""
    subject = replace(gate(), no_gray="unknown_gamma")
    measured = measure_image(subject, recipe())
    assert "unknown_gamma" in measured.flags
    assert {cd.method for cd in measured.cds} == {"label"}


def test_rows_are_the_same_whichever_tier_measures():
    """Keys never depend on what succeeded."""
    gray, label = rows(gate()), rows(gate(), ("label",))
    assert list(gray) == list(label)
    assert gray["mcd", ""].value_label == pytest.approx(label["mcd", ""].value)


def test_dead_pixels_are_left_out():
    """Not-a-number among the intensities is no reason to fail."""
    dead = np.random.default_rng(0).random((200, 200)) < 0.005
    subject = replace(gate(), gray=np.where(dead, np.nan, gate().gray))
    found = rows(subject)["mcd", ""]
    assert abs(found.value - WIDTH_PX) < 4 * found.u_value


def test_a_limit_that_one_hot_pixel_exceeds_is_a_limit():
    """Values that pile up are clipped, whatever the brightest pixel of the image holds."""
    subject = gate()
    gray = np.minimum(subject.gray, 1900.0)
    gray[5, 5] = 60000
    found = rows(replace(subject, gray=gray))
    assert found["mcd", ""].method == "label"
    assert "clipped" in found["mcd", ""].flags


@pytest.mark.parametrize("too_wide_px", [0.0, 0.6])
def test_a_skin_of_the_metal_does_not_narrow_the_gate(too_wide_px):
    """Its rim lacks 40 % of the contrast over 5 px; a plain fit is 2 px too narrow."""
    found = rows(gate(too_wide_px=too_wide_px, skin=0.4))["mcd", ""]
    assert found.method == "gray"
    assert abs(found.value - WIDTH_PX) < min(2 * found.u_value, 0.8)


def test_a_narrow_band_is_fitted_over_as_many_lines_as_asked():
    """A row of a noisy wall by 12 px of it, or by 40: less than half the square of the error."""
    narrow = {"id": "cd", "kind": "width", "of": "gate", "at": {"fraction": 0.5, "band": 0.02}}
    u = []
    for lines in (1, 12, 40):
        edges = {"prefer": ["gray", "label"], "u_gray_px": 0.0, "average_along_px": lines}
        changed = RECIPE | {"edges": edges, "measurements": [narrow]}
        (cd,) = measure_image(gate(), Recipe.model_validate(changed)).cds
        assert cd.method == "gray"
        u.append(cd.u_value)
    assert u[0] == u[1] > np.sqrt(2) * u[2]
