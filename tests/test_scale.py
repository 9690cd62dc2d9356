"""Which pixel size counts, and what speaks against it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import InvalidImageError
from backend.microscope.calibration import Calibration
from backend.microscope.scale import choose_scale, nm_per_unit

SOURCES = ("lattice", "pitch", "metadata", "sidecar", "manual", "scale_bar")  # first beats second


@given(st.permutations(SOURCES))
def test_sources_have_their_order(sources):
    """However they are found: what was measured in the image, then what the maker wrote."""
    found = [Calibration(0.2, 0.2, source) for source in sources]

    assert [scale.source for scale in choose_scale(found).found] == list(SOURCES)


@pytest.mark.parametrize(("other_nm", "flags"), [(0.2019, ()), (0.2021, ("scale_conflict",))])
def test_sources_that_differ_by_more_than_a_percent_are_flagged(other_nm, flags):
    """The first still counts, and somebody has to look."""
    scale = choose_scale([Calibration(0.2, 0.2, "metadata"), Calibration(other_nm, 0.2, "manual")])

    assert scale.calibration.nm_per_px_x == 0.2
    assert scale.flags == flags


def test_a_conflict_does_not_depend_on_the_order():
    """0.2 and 0.198 differ by 1.01 %, whoever comes first."""
    for first, second in ((0.2, 0.198), (0.198, 0.2)):
        found = [Calibration(first, first, "metadata"), Calibration(second, second, "metadata")]
        assert choose_scale(found).flags == ("scale_conflict",)


def test_without_a_source_there_is_no_scale():
    """And so no nanometre."""
    scale = choose_scale([])
    assert (scale.calibration, scale.flags) == (None, ("uncalibrated",))


@pytest.mark.parametrize("size", [0.0049, 51])
def test_an_implausible_pixel_is_refused_until_someone_insists(size):
    """It is mostly a slip of units."""
    found = [Calibration(size, size, "metadata", detail="the tag")]
    with pytest.raises(InvalidImageError, match=r"the tag.*--any-pixel-size"):
        choose_scale(found)
    assert choose_scale(found, any_size=True).calibration is found[0]


def test_a_plausible_source_beats_an_implausible_one_and_both_are_kept():
    """With the flag, for they contradict each other."""
    metres, right = Calibration(2e9, 2e9, "metadata"), Calibration(0.2, 0.2, "sidecar")
    scale = choose_scale([metres, right])
    assert (scale.found, scale.flags) == ((right, metres), ("scale_conflict",))


def test_pixels_that_are_not_square_are_flagged():
    """Above half a percent."""
    assert choose_scale([Calibration(0.2, 0.2008, "metadata")]).flags == ()
    assert choose_scale([Calibration(0.2, 0.2012, "metadata")]).flags == ("anisotropic",)


@pytest.mark.parametrize("unit", ["", "1/nm", "1 / nm", "eV", "px", "mrad", "s"])
def test_what_is_no_length_is_refused(unit):
    """A diffraction pattern measured in nm would be a wrong number that looks right."""
    with pytest.raises(ValueError, match="no unit of length"):
        nm_per_unit(unit)


@pytest.mark.parametrize("micro", ["µm", "μm", "um", "micron", "\\u00B5m", "Um"])
def test_micrometres_are_spelled_in_many_ways(micro):
    """Two Greek letters, ImageJ's escape, plain text."""
    assert nm_per_unit(micro) == 1000
