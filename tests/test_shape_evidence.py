"""Shapes of edges from mean profiles: skins are told from blur, or the doubt is told."""

import numpy as np
import pytest

from backend.metrology.border_profiles import BorderProfile
from backend.metrology.edge_shapes import PLAIN, EdgeShape, Skin
from backend.metrology.shape_evidence import edge_shape

ACROSS_PX = np.arange(-14, 14) + 0.5


def seen(shape, place_px=0.0, sigma_px=1.2, noise=0.005, seed=3):
    """What a profile with its step at `place_px` from the label's border is taken for."""
    dirt = np.random.default_rng(seed).normal(0, noise, len(ACROSS_PX))
    gray = 200 - 100 * (shape.profile(ACROSS_PX - place_px, sigma_px) + dirt)
    return edge_shape(BorderProfile(ACROSS_PX, gray, 100 * noise))


def missed_px(found, true, place_px=0.0, sigma_px=1.2):
    """How far a fit with the shape that was found lies from the true step."""
    places = np.arange(-4, 4, 0.02)
    level = true.profile(ACROSS_PX - place_px, sigma_px)
    misfits = []
    for place in places:
        part = found.profile(ACROSS_PX - place, sigma_px)
        model = np.stack([np.ones_like(part), part], axis=1)
        misfits.append(np.linalg.lstsq(model, level, rcond=None)[1][0])
    return float(places[np.argmin(misfits)]) + found.shift_px - place_px


@pytest.mark.parametrize("place_px", [-2.0, -0.4, 0.0, 1.5])
def test_a_plain_step_has_no_skins(place_px):
    """However far the label is off."""
    found = seen(PLAIN, place_px)
    assert (found.left, found.right) == (None, None)
    assert found.shift_px == 0
    assert found.u_px < 0.35


@pytest.mark.parametrize("skin_px", [4.0, 8.0])
@pytest.mark.parametrize("place_px", [-0.3, 0.0, 0.6])
def test_a_skin_of_the_right_material_is_seen_through(skin_px, place_px):
    """40 % of the step: a plain fit is off by far more than the one with the skin."""
    true = EdgeShape(right=Skin(-0.4, skin_px))
    found = seen(true, place_px)
    assert found.right is not None
    missed = abs(missed_px(found, true, place_px))
    assert missed < max(2 * found.u_px, 0.15)
    assert missed < abs(missed_px(PLAIN, true, place_px)) / 2


def test_a_skin_of_the_left_material_is_the_mirror_image():
    """The same profile backwards."""
    true = EdgeShape(right=Skin(-0.4, 5.0))
    found, other = seen(true, noise=1e-9), seen(true.mirrored(), noise=1e-9)
    assert other.left.share == pytest.approx(-found.right.share, abs=0.01)
    assert other.shift_px == pytest.approx(-found.shift_px, abs=0.01)


def test_a_skin_as_narrow_as_the_blur_leaves_doubt():
    """It cannot be told from a step elsewhere; wide ones can."""
    narrow, wide = (seen(EdgeShape(right=Skin(-0.4, px))) for px in (2.5, 8.0))
    assert narrow.u_px > 1.5 * wide.u_px


def test_a_profile_without_contrast_has_no_shape():
    """Equal levels."""
    assert edge_shape(BorderProfile(ACROSS_PX, np.full(28, 7.0), 1.0)) == PLAIN
