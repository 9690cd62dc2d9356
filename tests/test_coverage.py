"""Pixels get their exact share of a polygon, without bias."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate

from backend.microscope.coverage import coverage_fractions, covered_fraction, label_at_centers

SHAPE = (40, 50)
RING = shapely.Point(24.3, 19.2).buffer(15.37) - shapely.Point(22.1, 20.6).buffer(6.21)


@settings(max_examples=30, deadline=None)
@given(dx=st.floats(-40, 40), dy=st.floats(-40, 40))
def test_center_test_agrees_with_shapely(dx, dy):
    """Pixel centres are judged as shapely judges points, also for holes and cut-off shapes."""
    shape = translate(RING, dx + 1e-4, dy + 1e-4)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]

    inside = covered_fraction(shape, SHAPE, supersampling=1) > 0

    differs = inside != shapely.contains_xy(shape, columns, rows)
    on_outline = shapely.distance(shapely.points(columns, rows), shape.boundary) < 1e-9
    assert not (differs & ~on_outline).any()


@pytest.mark.parametrize("phase", np.linspace(0, 1, 7))
def test_area_has_no_bias(phase):
    """Trap T1: the sum of all shares is the area of the polygon."""
    box = shapely.affinity.rotate(shapely.box(8 + phase, 7, 41.3 + phase, 33.6), 3)

    assert covered_fraction(box, SHAPE).sum() == pytest.approx(box.area, rel=1e-3)


def test_even_supersampling_is_refused():
    """An even number of samples moves edges; the error says what to use."""
    with pytest.raises(ValueError, match="supersampling is 8: use an odd number"):
        covered_fraction(RING, SHAPE, supersampling=8)


def test_fractions_sum_to_one():
    """What the first polygons leave is the last one's."""
    left = shapely.box(-5, -5, 20.3, 60)
    rest = shapely.box(-5, -5, 60, 60) - left - RING

    fractions = coverage_fractions([left, RING - left, rest], SHAPE)

    assert np.allclose(fractions.sum(axis=0), 1, atol=1e-6)
    assert fractions.min() >= 0


def test_label_names_the_polygon_at_the_center():
    """A pixel half covered belongs to whoever holds its centre."""
    left = shapely.box(-0.5, -0.5, 1.1, 0.5)

    label_map = label_at_centers([left, shapely.box(1.1, -0.5, 3.5, 0.5)], (1, 4))

    assert label_map.tolist() == [[0, 0, 1, 1]]
