"""Edges between materials with skins: what a blur makes of them."""

import numpy as np
import pytest

from backend.metrology.edge_shapes import PLAIN, EdgeShape, Skin, blurred_skin

ACROSS_PX = np.linspace(-12, 12, 97)
SHAPE = EdgeShape(Skin(-0.2, 2.0), Skin(0.4, 5.0), 0.3, 0.1)


@pytest.mark.parametrize("skin_px", [1.6, 4.0, 12.0])
def test_a_blurred_skin_is_what_convolving_gives(skin_px):
    """Summed numerically on steps of a hundredth of a pixel."""
    fine = np.arange(-40, 40, 0.01) + 0.005
    skin = np.where(fine > 0, np.exp(-((fine / skin_px) ** 2)), 0)
    for depth in (-3.0, 0.0, 2.5):
        blur = np.exp(-(((depth - fine) / 1.5) ** 2) / 2) / (1.5 * np.sqrt(2 * np.pi))
        level = blurred_skin(np.array([depth]), 1.5, skin_px)
        assert level[0] == pytest.approx((skin * blur).sum() * 0.01, abs=1e-4)


@pytest.mark.parametrize("shape", [PLAIN, SHAPE])
def test_derivatives_are_those_of_the_profile(shape):
    """By differences; more blur changes a profile by its curvature times the blur."""
    level, slope, bend = shape.derivatives(ACROSS_PX, 1.5)
    step = 1e-4
    before, after = (shape.profile(ACROSS_PX + shift, 1.5) for shift in (-step, step))
    assert level == pytest.approx(shape.profile(ACROSS_PX, 1.5))
    assert slope == pytest.approx((after - before) / (2 * step), abs=1e-6)
    assert bend == pytest.approx((after - 2 * level + before) / step**2, abs=1e-5)
    less, more = (shape.profile(ACROSS_PX, 1.5 + change) for change in (-step, step))
    assert 1.5 * bend == pytest.approx((more - less) / (2 * step), abs=1e-6)


def test_from_the_other_side_an_edge_is_mirrored():
    """Levels from 1 to 0 and backwards; twice is the same again."""
    other = SHAPE.mirrored()
    assert other.profile(ACROSS_PX, 1.5) == pytest.approx(1 - SHAPE.profile(-ACROSS_PX, 1.5))
    assert other.shift_px == -SHAPE.shift_px
    assert other.mirrored() == SHAPE
