"""Rough edges have the amplitude, the spectrum and the freedom they were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.microscope.roughness import Roughness, palasantzas_noise, rough_line, rough_polygon


@settings(max_examples=15, deadline=None)
@given(sigma=st.floats(0.2, 1), xi=st.floats(5, 20), hurst=st.floats(0.5, 0.8))
def test_amplitude_is_the_one_asked_for(sigma, xi, hurst):
    """On a long edge the realised 1 sigma meets the requested one."""
    noise = palasantzas_noise(200_000, 0.4, Roughness(sigma, xi, hurst), np.random.default_rng(1))

    assert noise.std() == pytest.approx(sigma, rel=0.06)


def test_short_edges_are_smoother_than_the_spectrum():
    """An edge shorter than a few correlation lengths cannot show all of its roughness."""
    rough = Roughness(1.0, 20, 0.7)
    line = np.array([[0.0, 0.0], [0.0, 40.0]])
    rng = np.random.default_rng(0)

    spreads = [rough_line(line, rough, rng)[:, 0].std() for _ in range(40)]

    assert 0.2 < np.mean(spreads) < 0.9


def test_neighbours_move_together():
    """A longer correlation length gives a smoother edge."""
    short, long = (
        palasantzas_noise(50_000, 0.4, Roughness(1, xi, 0.7), np.random.default_rng(0))
        for xi in (5, 20)
    )

    assert np.abs(np.diff(long)).mean() < 0.7 * np.abs(np.diff(short)).mean()


def test_no_roughness_leaves_the_shape():
    """Sigma 0 only resamples."""
    disc = shapely.Point(0, 0).buffer(20, quad_segs=64)

    rough = rough_polygon(disc, Roughness(0, 10, 0.7), np.random.default_rng(0))

    assert rough.symmetric_difference(disc).area < 1e-3 * disc.area


def test_rough_polygon_keeps_area_on_average():
    """Roughness has no mean: it makes nothing larger."""
    box = shapely.box(0, 0, 200, 200)
    rng = np.random.default_rng(0)

    areas = [rough_polygon(box, Roughness(0.7, 10, 0.7), rng).area for _ in range(10)]

    assert np.mean(areas) == pytest.approx(box.area, rel=2e-3)
