"""Label maps as PNGs: to the pixel, with their moment, and never an error for a damaged moment."""

from datetime import datetime, timezone

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.state.label_pngs import LONG_AGO, from_png, moment_of, to_png

MOMENT = datetime(2026, 11, 30, 19, 40, 0, 123456, tzinfo=timezone.utc)
label_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(label_maps, st.datetimes(timezones=st.just(timezone.utc)))
def test_map_and_moment_come_back(label_map, moment):
    """Any map, to the pixel, and the microsecond."""
    content = to_png(label_map, moment)
    np.testing.assert_array_equal(from_png(content), label_map)
    assert moment_of(content) == moment


def test_same_map_gives_the_same_bytes():
    """They are named by their hash; a moment would make each another."""
    label_map = np.eye(8, dtype=np.uint8)
    assert to_png(label_map) == to_png(label_map.copy())
    assert to_png(label_map) != to_png(label_map, MOMENT)
    assert moment_of(to_png(label_map)) == LONG_AGO


@given(st.binary(max_size=200))
def test_damaged_file_is_as_old_as_can_be(content):
    """So it is replaced."""
    assert moment_of(content) == LONG_AGO


def test_file_cut_in_its_moment_is_as_old_as_can_be():
    """At each byte."""
    content = to_png(np.eye(8, dtype=np.uint8), MOMENT)
    assert all(moment_of(content[:end]) in {LONG_AGO, MOMENT} for end in range(len(content)))
