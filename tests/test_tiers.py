"""Edges of one image by tier, and how well each tier says to know them."""

from __future__ import annotations

import pytest
from drawings import drawing, recipe, rows_of, subject

WIDTH = {"id": "w", "kind": "width", "of": "gate", "at": {"fraction": 0.5}}
FILM = {
    "id": "f",
    "kind": "thickness",
    "film": "ox",
    "between": ["si", "gate"],
    "site": {"structure": "gate", "part": "base"},
}


@pytest.mark.parametrize(("rule", "quantity"), [(WIDTH, ""), (FILM, "mean")])
def test_a_model_has_no_hand_that_drew(rule, quantity):
    """Its label is rounded to pixels; how wrong it is, runs on drawn labels tell."""
    labels = drawing()
    labels[74:80] = 1  # an oxide under the gates
    edges = {"prefer": ["label"], "u_place_px": 0.5}
    u = [
        rows_of(subject(labels, is_inferred=model), recipe(rule, edges=edges))[
            rule["id"], 0, "", quantity
        ].u_value
        for model in (False, True)
    ]
    assert u[0] ** 2 - u[1] ** 2 == pytest.approx(2 * 0.5**2)
    assert u[1] >= 0.4  # of two edges along the pixels
