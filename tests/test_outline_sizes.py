"""Sizes that stand on the drawn outline say so, though gray values place other edges."""

from __future__ import annotations

import numpy as np
import pytest
from drawings import recipe, rows_of, subject
from scipy import ndimage as ndi

EDGES = {"prefer": ["gray", "label"], "u_place_px": 0.5, "u_gray_px": 0.05}
RULES = (
    {"id": "width", "kind": "width", "of": "gate", "at": {"fraction": 0.5, "band": 0.3}},
    {"id": "diameter", "kind": "diameter", "of": "gate"},
    {"id": "corner", "kind": "corner_radius", "of": "gate"},
)


def photographed(distance, grown_px):
    """An image blurred by 1.5 px, of what lies where a distance is negative, and its label."""
    fine = distance(5) < 0
    share = fine.reshape(fine.shape[0] // 5, 5, -1, 5).mean(axis=(1, 3))
    gray = ndi.gaussian_filter(1000 + 1000 * share, 1.5)
    gray += np.random.default_rng(0).normal(0, 40, gray.shape)
    labels = np.where(distance(1) < grown_px, 2, 1).astype(np.uint8)
    return subject(labels, gray=gray)


def grid(times, size=140):
    """Rows and columns of pixels, each cut into so many parts."""
    return (np.indices((size * times, size * times)) + 0.5) / times - 0.5


def disc(times):
    """Distance beyond a circle of 56.6 px."""
    rows, columns = grid(times)
    return np.hypot(rows - 70.2, columns - 69.7) - 28.3


def rounded(times):
    """Distance beyond a square of 80 px whose corners have a radius of 15 px."""
    rows, columns = grid(times)
    beyond = np.maximum(np.abs([rows - 70.2, columns - 69.7]) - 25, 0)
    return np.hypot(*beyond) - 15


@pytest.mark.parametrize("grown_px", [0.0, 0.45, 0.9])
@pytest.mark.parametrize(("shape", "of"), [(disc, "diameter"), (rounded, "corner")])
def test_what_stands_on_the_outline_says_so(shape, of, grown_px):
    """No gray value moved it, and its uncertainty is that of the hand that drew."""
    rows = rows_of(photographed(shape, grown_px), recipe(*RULES, edges=EDGES))
    sizes = [row for key, row in rows.items() if key[0] == of]
    assert len(sizes) in (2, 4)
    for row in sizes:
        assert row.value == pytest.approx(row.value_label, rel=0.02)
        assert row.method == "label"
        if row.unit == "px":
            assert row.u_value >= 0.5


def test_a_diameter_is_within_its_uncertainty_of_the_truth():
    """Of a label that is 0.45 px too large on each side: by gray's it was four of them off."""
    rows = rows_of(photographed(disc, 0.45), recipe(*RULES, edges=EDGES))
    for name in ("major", "minor", "equivalent"):
        row = rows["diameter", 0, "", name]
        assert abs(row.value - 56.6) < 2 * row.u_value


def test_what_a_fit_placed_has_another_value_than_the_label():
    """And the other way round: what has the label's value is the label's."""
    rows = rows_of(photographed(rounded, 0.45), recipe(*RULES, edges=EDGES))
    assert any(row.method == "gray" for row in rows.values())
    for row in rows.values():
        assert (row.value == row.value_label) <= (row.method == "label")
