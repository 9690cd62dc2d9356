"""Films on gray values, beside layers that are near."""

import numpy as np
import pytest
from gray_edges import layers

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject

LABELS = ("Si", "Film", "Cap", "Fill")
RECIPE = Recipe.model_validate(
    {
        "schema": "tem-cd-recipe/1", "name": "films", "version": 1,
        "materials": {"si": "Si", "film": "Film", "cap": "Cap", "fill": "Fill"},
        "calibration": {"require": False},
        "frame": {"align": "none"},
        "edges": {"prefer": ["gray", "label"], "u_place_px": 0.1, "u_gray_px": 0.0},
        "structures": {"block": {"materials": ["si"], "border": "keep_flagged"}},
        "measurements": [
            {"id": "t", "kind": "thickness", "film": "film", "between": ["si", "cap"],
             "site": {"structure": "block", "part": "top", "inset_px": 12}},
        ],
    }
)  # fmt: skip


def thickness(film_px, cap_px, levels):
    """Measure a film on silicon, under a cap of this thickness; the mean."""
    places = np.cumsum([30.3, 40.0, film_px, cap_px])[[1, 2, 3]]
    image = layers(levels, places, shape=(120, 140)).T[::-1]  # silicon below
    image = image + np.random.default_rng(0).normal(0, 4, image.shape)
    label_map = np.searchsorted(places, np.arange(140)).astype(np.uint8)
    label_map = np.repeat(label_map[::-1, None], 120, axis=1)
    cds = measure_image(Subject(label_map, LABELS, gray=image), RECIPE).cds
    (mean,) = [cd for cd in cds if cd.quantity == "mean"]
    return mean


STEPS = [(120, 220, 60, 180), (60, 120, 200, 90)]


@pytest.mark.parametrize("levels", STEPS)
@pytest.mark.parametrize("cap_px", [6.0, 8.0, 30.0])
def test_a_layer_behind_a_film_does_not_pull_it(cap_px, levels):
    """The window ends before the next edge; up to that edge, a cap of 8 px took 0.16 px of it."""
    cd = thickness(9.4, cap_px, levels)
    assert cd.method == "gray"
    assert "grid_locked" not in cd.flags  # the label is, the fit is not
    assert cd.value == pytest.approx(9.4, abs=0.06)
    assert cd.u_value < 0.2


@pytest.mark.parametrize("cap_px", [3.0, 4.0, 5.0])
def test_a_layer_too_near_leaves_the_film_to_the_label(cap_px):
    """Its own level is not to be seen: up to 0.4 px would look right."""
    cd = thickness(9.4, cap_px, STEPS[1])
    assert cd.method == "label"
    assert {"crowded", "grid_locked"} <= set(cd.flags)
    assert abs(cd.value - 9.4) < 2 * cd.u_value
