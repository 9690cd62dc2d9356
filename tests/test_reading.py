"""What files tell becomes a calibration, or a sentence why not."""

from __future__ import annotations

import pytest

from backend.microscope.reading import Acquisition, Axes, Reading, join, read_axes, scale_of


def test_each_axis_has_its_unit():
    """2 Å high and 1 nm wide, as Digital Micrograph may write it."""
    scale = scale_of(Axes(1.0, 2.0, "nm", "A", "axes"), "metadata")
    assert (scale.nm_per_px_x, scale.nm_per_px_y) == (1.0, pytest.approx(0.2))


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        (Axes(1, 1, "nm", "nm", "the tag"), "nobody calibrated"),
        (Axes(0.2, 0.2, "", "", "the tag"), "no unit of length"),
        (Axes(0.2, 0.2, "nm", "1/nm", "the tag"), "no unit of length"),
        (Axes(0, 0, "nm", "nm", "the tag"), "positive"),
    ],
)
def test_what_is_no_scale_becomes_a_sentence(axes, why):
    """It names the place, so that a user can look there."""
    reading = read_axes(axes, "metadata")
    assert reading.scales == ()
    assert reading.notes[0].startswith("the tag gives no pixel size")
    assert why in reading.notes[0]


def test_one_nm_that_a_user_wrote_counts():
    """Only cameras write 1 without meaning it."""
    assert read_axes(Axes(1, 1, "nm", "nm", "a.txt"), "sidecar").scales[0].nm_per_px == 1


def test_metres_keep_their_digits():
    """2.39e-11 m is no zero."""
    metres = Axes(2.392791775876109e-11, 2.392791775876109e-11, "m", "m", "SIS")
    assert scale_of(metres, "metadata").nm_per_px_x == pytest.approx(0.02392791775876109, rel=1e-12)


def test_the_first_word_about_an_acquisition_counts():
    """And a later source fills its gaps."""
    tag = Reading(acquisition=Acquisition(instrument="A"))
    sidecar = Reading(acquisition=Acquisition(instrument="B", voltage_kv=200), databar_rows=60)
    joined = join([tag, sidecar])
    assert joined.acquisition == Acquisition(instrument="A", voltage_kv=200)
    assert joined.databar_rows == 60
