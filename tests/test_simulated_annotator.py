"""A simulated annotator draws what is true, where it helps."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning.simulated_annotator import (
    Habits,
    correct,
    dab,
    depth_px,
    first_strokes,
    uncertain_windows,
)


@pytest.fixture
def truth():
    """Three materials: left, right, and a disc of unknown pixels. (96, 128)."""
    label_map = np.zeros((96, 128), np.uint8)
    label_map[:, 60:], label_map[60:, :] = 1, 2
    label_map[:5, :5] = UNLABELED
    return label_map


def certain(label_map):
    """Probabilities of a method that is nearly sure of `label_map`."""
    shown = np.where(label_map == UNLABELED, 0, label_map)
    return np.where(np.arange(3)[:, None, None] == shown, 0.98, 0.01).astype(np.float32)


def test_first_strokes_are_true_and_in_every_material(truth):
    """A cross in each, none where the truth is unknown."""
    scribbles = first_strokes(truth, np.random.default_rng(0))
    drawn = scribbles != UNLABELED
    assert (scribbles[drawn] == truth[drawn]).all()
    assert set(np.unique(scribbles).tolist()) == {0, 1, 2, UNLABELED}


def test_habits_change_the_strokes(truth):
    """A longer reach and a wider brush draw more."""
    rng = np.random.default_rng(0)
    few, many = (
        (first_strokes(truth, rng, habits) != UNLABELED).sum()
        for habits in (Habits(stroke_px=5, brush_px=1), Habits(stroke_px=30, brush_px=5))
    )
    assert many > 4 * few


def test_large_errors_are_corrected(truth):
    """A dab of the true material inside the error, though the method is sure."""
    predicted = truth.copy()
    predicted[20:40, 80:110] = 0
    scribbles = np.full(truth.shape, UNLABELED, np.uint8)
    correct(scribbles, truth, certain(predicted), Habits(windows=0))
    assert (scribbles[20:40, 80:110] == 1).any()
    assert (scribbles != UNLABELED).sum() == (scribbles[20:40, 80:110] == 1).sum()


def test_small_errors_are_overlooked(truth):
    """Fewer than 60 px."""
    predicted = truth.copy()
    predicted[20:27, 80:87] = 0
    scribbles = np.full(truth.shape, UNLABELED, np.uint8)
    correct(scribbles, truth, certain(predicted), Habits(windows=0))
    assert (scribbles == UNLABELED).all()


def test_uncertain_places_are_dabbed(truth):
    """All materials seen there, each with what it is."""
    probabilities = certain(truth)
    probabilities[:, 40:70, 50:70] = 1 / 3
    scribbles = np.full(truth.shape, UNLABELED, np.uint8)
    correct(scribbles, truth, probabilities, Habits(windows=1, errors=0))
    drawn = scribbles != UNLABELED
    assert set(scribbles[drawn].tolist()) == {0, 1, 2}
    assert (scribbles[drawn] == truth[drawn]).all()


def test_windows_lie_apart_and_inside():
    """The most uncertain first."""
    uncertainty = np.zeros((100, 100), np.float32)
    uncertainty[30:40, 30:40], uncertainty[70:80, 70:80] = 1, 0.5
    first, second = uncertain_windows(uncertainty, count=2, size_px=16)
    assert uncertainty[first].sum() > uncertainty[second].sum() > 0


def test_dab_stays_in_its_material(truth):
    """A brush wider than the material does not paint over the border."""
    scribbles = np.full(truth.shape, UNLABELED, np.uint8)
    dab(scribbles, truth, (30, 58), radius_px=6)
    assert set(np.unique(scribbles).tolist()) == {0, UNLABELED}
    assert (scribbles[:, 60:] == UNLABELED).all()


def test_depth_counts_the_border_of_the_image():
    """A stroke should keep away from it as well."""
    assert depth_px(np.ones((3, 3), bool)).tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]
