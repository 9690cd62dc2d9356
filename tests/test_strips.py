"""Strips: original pixels around a line, each once, at its true distance."""

import numpy as np
import pytest

from backend.metrology.strips import cut_strip, line_frame


def plane(shape, row_slope, column_slope):
    """Make an image whose gray value tells the place of a pixel."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    return row_slope * rows + column_slope * columns


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((40.0, 20.3), (10.0, 20.3)),
        ((10.2, 25.0), (40.7, 19.0)),
        ((20.0, 5.5), (24.0, 44.0)),
        ((30.0, 44.0), (9.0, 12.0)),
    ],
)
def test_every_pixel_has_its_true_place(start, end):
    """Distance along and across, in whatever direction the line runs."""
    _, along, across = line_frame(start, end)
    for unit, name in ((along, "along_px"), (across, "across_px")):
        middle = np.mean([start, end], axis=0)
        image = plane((50, 50), *unit) - unit @ middle
        strip = cut_strip(image, start, end, (6, 3))
        assert np.allclose(strip.values[strip.valid], getattr(strip, name)[strip.valid])
        assert strip.valid.sum() > 200


def test_window_counts_to_the_left_and_to_the_right_of_the_walk():
    """Walking up a column, the right hand lies at larger columns."""
    strip = cut_strip(plane((9, 40), 0, 1), (8.0, 20.0), (0.0, 20.0), (2, 5))
    columns = strip.values[strip.valid]
    assert (columns.min(), columns.max()) == (18, 25)
    assert strip.valid.any(axis=1).sum() == 9


def test_pixels_outside_the_image_and_without_value_take_no_part():
    """Neither is invented from a neighbour."""
    image = np.ones((20, 20))
    image[5, 3] = np.nan
    strip = cut_strip(image, (25.0, 2.0), (0.0, 2.0), (4, 4))
    assert strip.valid.sum() == 20 * 7 - 1


def test_neighbours_along_the_line_stand_below_each_other():
    """A tilted line keeps its pixels within half a pixel of the column they are listed in."""
    strip = cut_strip(np.ones((80, 60)), (70.0, 20.0), (10.0, 32.0), (5, 5))
    assert np.ptp(strip.across_px, axis=0).max() <= 1
    assert np.all(np.diff(strip.across_px[0]) > 0)


def test_cells_hold_all_pixels_and_tell_their_scatter():
    """Their number, their sum and the sum of their squares remain, in far fewer values."""
    image = np.random.default_rng(0).normal(100, 10, (80, 60))
    strip = cut_strip(image, (70.0, 20.0), (10.0, 24.0), (5, 5))
    cells, pixels = strip.cells(), strip.pixels()
    assert cells.counts.sum() == len(pixels.values) > 5 * len(cells.values)
    assert cells.counts @ cells.values == pytest.approx(pixels.values.sum())
    squares = cells.counts @ cells.values**2 + cells.scatter
    assert squares == pytest.approx((pixels.values**2).sum())
    distance = np.abs(cells.across_px[:, None] - pixels.across_px).min(axis=1)
    assert distance.max() < 0.25  # no mean is taken over pixels that lie apart


def test_point_is_no_line():
    """Two equal ends have no direction."""
    with pytest.raises(ValueError, match="no direction"):
        cut_strip(np.ones((5, 5)), (2.0, 2.0), (2.0, 2.0), (1, 1))
