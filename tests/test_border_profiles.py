"""Mean profiles across all borders of two materials."""

import numpy as np
import pytest
from gray_edges import layers

from backend.metrology.border_profiles import REACH_PX, border_profile


def bars(rows=60):
    """A bar of class 1 and gray 200 between columns 20 and 45, in class 0 and gray 100."""
    image = layers((100, 200, 100), [19.5, 44.5], (rows, 66))
    label = np.zeros(image.shape, dtype=np.uint8)
    label[:, 20:45] = 1
    return image, label


def test_both_sides_of_a_bar_give_one_profile():
    """From class 0 to class 1, whichever comes first in the image."""
    image, label = bars()
    profile = border_profile(image, label, 0, 1)
    other = border_profile(image, label, 1, 0)
    assert len(profile.across_px) == 2 * REACH_PX
    assert profile.gray == pytest.approx(
        layers((100, 200), [REACH_PX - 0.5], (1, 2 * REACH_PX))[0], abs=0.1
    )
    assert other.gray == pytest.approx(profile.gray[::-1])
    assert profile.u < 0.1


def test_flat_borders_are_those_of_the_transposed_image():
    """Rows and columns change places; a bar has no flat ones."""
    image, label = bars()
    flat = border_profile(image.T.T, label, 0, 1)
    assert border_profile(image.T, label.T, 0, 1) is None
    assert flat is not None


def test_a_thin_neighbour_shortens_the_reach():
    """Behind 8 px of class 0 lies class 2: what its blur reaches is left out."""
    image, label = bars()
    label[:, :12], label[:, 53:] = 2, 2
    image[:, :12], image[:, 53:] = 900, 900
    profile = border_profile(image, label, 0, 1)
    assert profile.across_px[0] == pytest.approx(-4.5)
    assert profile.gray.max() < 201


@pytest.mark.parametrize(("rows", "left", "right"), [(20, 0, 1), (60, 0, 2), (60, 2, 3)])
def test_too_few_rows_tell_nothing(rows, left, right):
    """A short bar, and classes that don't meet."""
    assert border_profile(*bars(rows), left, right) is None


def test_dead_pixels_spoil_their_rows_only():
    """A NaN in one row leaves the others."""
    image, label = bars()
    image[7, 22] = np.nan
    assert np.isfinite(border_profile(image, label, 0, 1).gray).all()
