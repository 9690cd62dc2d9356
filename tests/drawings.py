"""Label maps drawn by hand, measured by a few lines of a recipe."""

from __future__ import annotations

import numpy as np

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration

MATERIALS = ("si", "ox", "gate", "plug")


def recipe(*measurements, **changes):
    """Some measurements of gates and plugs, on perfect labels unless changed."""
    content = {
        "schema": "tem-cd-recipe/1",
        "name": "drawing",
        "version": 1,
        "materials": {name: name for name in MATERIALS},
        "frame": {"align": "none"},
        "edges": {"prefer": ["label"], "u_place_px": 0},
        "structures": {"gate": {"materials": ["gate"]}, "plug": {"materials": ["plug"]}},
        "measurements": list(measurements),
        **changes,
    }
    return Recipe.model_validate(content)


def subject(labels, **more):
    """A label map with a scale of 1 nm, and what else is known of the image."""
    return Subject(labels, MATERIALS, Calibration(1.0, 1.0, "manual"), **more)


def measured(labels, *measurements, **changes):
    """Rows of some measurements by (id, instance, side, quantity)."""
    return rows_of(subject(labels), recipe(*measurements, **changes))


def rows_of(one, by):
    """Rows of an image by (id, instance, side, quantity)."""
    cds = measure_image(one, by).cds
    return {(cd.measurement, cd.instance, cd.side, cd.quantity): cd for cd in cds}


def drawing():
    """Two gates, 20 wide and 40 high, 50 apart, with a plug of 10 px right of the first."""
    labels = np.ones((100, 160), dtype=np.uint8)
    labels[80:] = 0
    labels[40:80, 30:50] = 2
    labels[40:80, 80:100] = 2
    labels[50:80, 60:70] = 3
    return labels
