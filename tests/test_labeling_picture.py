"""The picture for the annotator: the same pixels, stretched to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from backend.microscope.labeling_picture import draw_labeling_picture

RAMP = np.arange(100 * 100, dtype=np.int32).reshape(100, 100) - 300  # negative too


def test_percentiles_become_black_and_white():
    """0.1 % of 10,000 values are ten."""
    picture = draw_labeling_picture(RAMP)
    assert (picture.low, picture.high) == pytest.approx((-300 + 9.999, 9699 - 9.999))
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 255)
    assert picture.pixels.shape == RAMP.shape


def test_the_order_of_intensities_stays():
    """What was brighter is not darker."""
    flat = draw_labeling_picture(RAMP).pixels.ravel().astype(int)
    assert (np.diff(flat) >= 0).all()


def test_a_data_bar_does_not_count():
    """Its white letters must not darken the image."""
    image = RAMP.copy()
    image[90:] = 1_000_000
    with_bar = draw_labeling_picture(image, databar_rows=10)
    without = draw_labeling_picture(image[:90])
    assert (with_bar.low, with_bar.high) == (without.low, without.high)
    assert (with_bar.pixels[:90] == without.pixels).all()
    assert (with_bar.pixels[90:] == 255).all()


@pytest.mark.parametrize("value", [0, -7.5, 65535])
def test_an_even_image_is_black(value):
    """Nothing is divided by 0."""
    assert not draw_labeling_picture(np.full((40, 40), value)).pixels.any()


def test_few_bright_pixels_stay_visible():
    """Fewer than the percentile would show."""
    image = np.zeros((100, 100))
    image[3, 4] = 5
    assert draw_labeling_picture(image).pixels[3, 4] == 255
