"""Film thickness on hand-made masks of real coatings, against that counted column by column."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject

COATINGS = Path(__file__).parents[2] / "shared" / "data" / "ebc_layers"
RECIPE = Recipe.model_validate(
    {
        "schema": "tem-cd-recipe/1",
        "name": "coating",
        "version": 1,
        "materials": {"upper": "upper", "film": "oxide", "lower": "lower"},
        "calibration": {"require": False},
        "frame": {"align": "none"},
        "edges": {"prefer": ["label"]},
        "structures": {
            "lower": {"materials": ["lower"], "border": "keep_flagged", "min_area_px2": 20000}
        },
        "measurements": [
            {
                "id": "film",
                "kind": "thickness",
                "film": "film",
                "between": ["lower", "upper"],
                "site": {"structure": "lower", "part": "top", "inset_px": 0},
                "sides": ["left"],
            }
        ],
    }
)


@pytest.mark.skipif(not COATINGS.exists(), reason="the real images are not here")
def test_wavy_films_are_measured_from_border_to_border():
    """All but two within half a pixel; those two lie in several pieces in some columns."""
    errors = []
    for item in json.loads((COATINGS / "manifest.json").read_text())["items"]:
        mask = np.array(Image.open(COATINGS / item["mask"]))
        labels = np.choose(mask, [0, 1, 1, 2]).astype(np.uint8)  # a crack is part of the film
        measured = measure_image(Subject(labels, ("upper", "oxide", "lower")), RECIPE)
        (mean,) = (cd for cd in measured.cds if cd.quantity == "mean")
        assert mean.n_lines > 0.98 * labels.shape[1]
        assert "border" in mean.flags
        errors.append(mean.value - item["cd_truth"]["solid"]["mean"])
    assert np.sum(np.abs(errors) <= 0.5) == 8
    assert np.abs(errors).max() < 1.2
