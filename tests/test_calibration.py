"""Pixel sizes: what is no size is refused."""

import math

import pytest

from backend.microscope.calibration import Calibration


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf])
def test_what_is_no_pixel_size_is_refused(size):
    """Zero, a negative or an endless size never reaches a CD."""
    with pytest.raises(ValueError, match="give a positive number"):
        Calibration(0.2, size, "manual")


def test_a_negative_uncertainty_is_refused():
    """An uncertainty is a share of the scale, 0 or more."""
    with pytest.raises(ValueError, match="uncertain"):
        Calibration(0.2, 0.2, "manual", rel_uncertainty=-0.1)


def test_the_isotropic_pixel_keeps_the_area():
    """CDs are measured in squares as large as the pixels."""
    calibration = Calibration(0.2, 0.25, "metadata")
    assert calibration.nm_per_px**2 == pytest.approx(0.2 * 0.25)
    assert calibration.anisotropy == pytest.approx(0.25)
