"""The measuring frame: coordinates turn there and back, and its tilt is honest."""

from __future__ import annotations

import numpy as np
import pytest

from backend.metrology.frame import (
    Frame,
    Limits,
    aligned,
    correlation_length,
    fit_straight_line,
    fragments,
)

LIMITS = Limits(max_tilt_deg=15, min_baseline_px=64)


def staircase(tilt_deg, phase=0.0, columns=200):
    """Where an interface lies between the pixels of a label map, (row, column)."""
    column = np.arange(columns, dtype=float)
    rows = np.floor(100 + phase + column * np.tan(np.radians(tilt_deg))) + 0.5
    return np.stack([rows, column], axis=1)


def test_points_turn_there_and_back():
    """For pixels that are not square, too."""
    frame = Frame(7.0, row_scale=1.02, column_scale=1 / 1.02)
    points = np.array([[3.0, 4.0], [100.5, -2.0]])
    assert frame.to_px(frame.to_uv(points)) == pytest.approx(points)


def test_v_points_away_from_the_substrate():
    """Rows run down and v runs up; u runs to the right."""
    up, right = Frame(0.0).to_uv(np.array([[-1.0, 0.0], [0.0, 1.0]]))
    assert up.tolist() == [0, 1]
    assert right.tolist() == [1, 0]


@pytest.mark.parametrize("tilt_deg", [-8.0, -1.3, 0.6, 3.0])
def test_tilt_of_an_interface_is_found_within_its_error(tilt_deg):
    """A staircase of pixels over 200 columns tells its slope to a tenth of a degree."""
    frame = aligned(Frame(0.0), [staircase(tilt_deg)], LIMITS)
    assert frame.flags == ()
    assert abs(frame.tilt_deg - tilt_deg) < 4 * frame.tilt_u_deg + 0.02
    assert frame.tilt_u_deg < 0.1


def test_a_particle_on_the_interface_does_not_tilt_it():
    """Outliers lose their weight."""
    points = staircase(2.0)
    points[150:170, 0] -= 25
    assert aligned(Frame(0.0), [points], LIMITS).tilt_deg == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("points", [staircase(20.0), staircase(1.0, columns=50), np.zeros((0, 2))])
def test_a_bad_reference_is_refused(points):
    """Too steep, too short or absent: the frame stays upright and says so."""
    frame = aligned(Frame(0.0), [points], LIMITS)
    assert (frame.tilt_deg, frame.flags) == (0.0, ("no_align",))


def pieces_of(tilt_deg, levels, columns=60, gap=20):
    """Pieces of one interface, each so many rows higher than the line through the first."""
    whole = staircase(tilt_deg, columns=len(levels) * (columns + gap))
    starts = range(0, len(whole), columns + gap)
    return [
        whole[start : start + columns] - np.array([level, 0.0])
        for start, level in zip(starts, levels, strict=True)
    ]


@pytest.mark.parametrize("tilt_deg", [0.0, 2.0, -5.0])
@pytest.mark.parametrize(
    "levels",
    [
        (0, 0, -60, -60),  # a step in the silicon: 12 degrees if it were tilt
        (0, 80, 0, 80, 0, 80),  # trench bottoms and fin tops
        (0, 20, 40, 60),  # stairs
    ],
)
def test_levels_of_an_interface_are_no_tilt(tilt_deg, levels):
    """The slope within pieces counts where they lie on several levels."""
    frame = aligned(Frame(0.0), pieces_of(tilt_deg, levels), LIMITS)
    assert frame.flags == ()
    assert abs(frame.tilt_deg - tilt_deg) < 2 * frame.tilt_u_deg
    assert frame.tilt_u_deg < 0.5


def test_one_level_is_known_from_all_its_pieces_together():
    """Pieces of 15 px alone would know its tilt to 1.6 degrees."""
    frame = aligned(Frame(0.0), pieces_of(3.8, (0, 0, 0, 0), columns=15, gap=75), LIMITS)
    assert frame.tilt_deg == pytest.approx(3.8, abs=0.2)
    assert frame.tilt_u_deg < 0.2


def test_a_tilt_that_is_hardly_known_is_refused():
    """Pieces of 15 px on two levels: neither together nor alone do they tell."""
    frame = aligned(Frame(0.0), pieces_of(0.0, (0, 0, 0, 60, 60, 60), columns=15), LIMITS)
    assert (frame.tilt_deg, frame.flags) == (0.0, ("no_align",))


def test_pieces_that_fall_differently_tell_less():
    """On two levels, half of them at 4 degrees and half at 0: their mean is known to 0.5."""
    pieces = [
        piece - np.array([level, 0])
        for level in (0, 80)
        for tilt_deg in (0.0, 4.0, 0.0, 4.0)
        for piece in pieces_of(tilt_deg, (0,))
    ]
    moved = [piece + np.array([0, 80 * place]) for place, piece in enumerate(pieces)]
    frame = aligned(Frame(0.0), moved, LIMITS)
    assert frame.tilt_deg == pytest.approx(2.0, abs=0.4)
    assert frame.tilt_u_deg > 0.5


def test_fragments_keep_their_central_part():
    """Rounded corners at the ends of each piece are left out."""
    piece = staircase(0.0, columns=9)
    points = np.concatenate([piece, piece + np.array([0, 50])])
    pieces = fragments(points, 1 / 3)
    assert [piece[:, 1].tolist() for piece in pieces] == [[3, 4, 5], [53, 54, 55]]


def test_points_of_a_fragment_are_no_independent_witnesses():
    """Ten points that go up and down together know a slope worse than ten that do not."""
    x = np.arange(100.0)
    y = np.random.default_rng(0).standard_normal(10).repeat(10)
    line = np.stack([x, y], axis=1)
    alone, together = (fit_straight_line(line, alike).angle_u_deg for alike in (1.0, 30.0))
    assert together > 1.2 * alone
    assert correlation_length(y) > 3
