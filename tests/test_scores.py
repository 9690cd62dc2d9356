"""Scores: counted by hand on small pictures."""

import math

import numpy as np

from backend.arrays import UNLABELED
from backend.learning.scores import CONFIDENCE_BINS, edge_band, mean_iou, reliability, score
from backend.learning.spots import Spot


def halves(shape=(20, 20)):
    """Class 0 above, 1 below."""
    truth = np.zeros(shape, np.uint8)
    truth[shape[0] // 2 :] = 1
    return truth


def box(row, column, height, width):
    """A recommended box."""
    return Spot(row, column, height, width, 1.0, "")


def test_unknown_pixels_count_nowhere():
    """Neither as right nor as wrong, nor as a border."""
    truth = halves()
    truth[:5] = UNLABELED
    shown = halves()
    shown[:5] = 1
    shown[5:10, :2] = 1

    scores = score(shown, truth, ())

    assert math.isclose(scores.accuracy, 1 - 10 / 300)
    assert math.isclose(scores.mean_iou, (90 / 100 + 200 / 210) / 2)
    assert not edge_band(truth)[:6].any()


def test_band_lies_on_both_sides_of_a_border():
    """The last row of the upper class and 3 px around it."""
    band = edge_band(halves())

    assert np.flatnonzero(band.all(axis=1)).tolist() == [6, 7, 8, 9, 10, 11, 12]
    assert band.sum() == 7 * 20


def test_errors_at_an_edge_weigh_more_in_the_band():
    """A border one row too low: 20 of 400 px, but 20 of 140."""
    shown = np.zeros((20, 20), np.uint8)
    shown[11:] = 1

    scores = score(shown, halves(), ())

    assert scores.accuracy == 0.95
    assert math.isclose(scores.edge_band_accuracy, 1 - 20 / 140)


def test_class_nobody_showed_costs_its_share_of_the_mean():
    """One answer for all: half of one class, none of the other."""
    assert mean_iou(np.zeros((20, 20), np.uint8), halves()) == 0.25


def test_errors_in_and_outside_the_boxes():
    """Overlapping boxes count once; no box, no rate."""
    shown = halves()
    shown[:4, :4] = 1

    inside = score(shown, halves(), (box(0, 0, 4, 8), box(0, 4, 4, 4)))
    without = score(shown, halves(), ())

    assert (inside.error_in_spots, inside.error_elsewhere) == (0.5, 0)
    assert math.isnan(without.error_in_spots)
    assert without.error_elsewhere == 16 / 400


def test_undecided_is_wrong():
    """Before two materials are drawn, nothing is shown."""
    assert score(np.full((20, 20), UNLABELED, np.uint8), halves(), ()).accuracy == 0


def test_reliability_tells_the_sure_from_the_unsure():
    """Right as often as it says where it is sure, not where it is unsure; unknown counts not."""
    truth = np.zeros((2, 100), np.uint8)
    truth[0, 90:] = 1
    truth[1, :20] = UNLABELED
    shown = np.empty((2, 2, 100), np.float32)
    shown[0, 0], shown[0, 1] = 0.9, 0.6
    shown[1] = 1 - shown[0]

    measured = reliability(shown, truth)

    assert measured.pixels.sum() == 180
    sure, unsure = int(0.9 * CONFIDENCE_BINS), int(0.6 * CONFIDENCE_BINS)
    assert math.isclose(measured.accuracy[sure], 0.9)
    assert math.isclose(measured.confidence[sure], 0.9, rel_tol=1e-6)
    assert measured.accuracy[unsure] == 1
    error = measured.expected_calibration_error
    assert math.isclose(error, 80 / 180 * 0.4, rel_tol=1e-5)


def test_reliability_of_nothing_is_unknown():
    """No pixel of the truth is known."""
    truth = np.full((2, 2), UNLABELED, np.uint8)
    measured = reliability(np.full((2, 2, 2), 0.5, np.float32), truth)
    assert math.isnan(measured.expected_calibration_error)
