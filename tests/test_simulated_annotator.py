"""A simulated annotator draws what is true, where it helps."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning.simulated_annotator import (
    Annotator,
    Habits,
    correct,
    dab,
    depth_px,
    first_strokes,
    scatter,
    split_strokes,
    uncertain_windows,
)
from backend.learning.spots import Spot


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


def spot(row, column, size=24):
    """A recommended box."""
    return Spot(row, column, size, size, 1.0, "")


def wrong_share(annotator, truth):
    """Share of the drawn pixels that have another class than the truth."""
    drawn = annotator.scribbles != UNLABELED
    return (annotator.scribbles[drawn] != truth[drawn]).mean()


def take_turns(name, truth, seed=0, turns=4):
    """Begin, then react to an undecided answer with a box where three materials meet."""
    annotator = Annotator(name, truth, seed)
    annotator.begin()
    for _ in range(turns):
        probabilities = np.full((3, *truth.shape), 1 / 3, np.float32)
        annotator.react(probabilities, [spot(48, 48)])
    return annotator


@pytest.mark.parametrize("name", ["careful", "spots", "random"])
@pytest.mark.parametrize("seed", [0, 1])
def test_annotators_who_do_not_err_draw_what_is_true(truth, name, seed):
    """Whatever they look at."""
    assert wrong_share(take_turns(name, truth, seed), truth) == 0


def test_erring_annotator_errs_now_and_then(truth):
    """Some strokes have another material, or reach across a border; most don't."""
    shares = [wrong_share(take_turns("erring", truth, seed), truth) for seed in range(8)]
    assert np.count_nonzero(shares) >= 6
    assert np.mean(shares) < 0.2


def test_hand_shakes_across_a_border(truth):
    """A dab in a thin liner reaches into its neighbors, but only so far."""
    truth[:60, 60:66] = 2
    annotator = Annotator("spots", truth, 0)
    annotator._habits = Habits(shake_px=3)
    for _ in range(20):
        annotator.react(np.full((3, *truth.shape), 1 / 3, np.float32), [spot(20, 51)])
    across = (annotator.scribbles == 2) & (truth != 2)
    assert across[:, 57:60].any()
    assert across[:, 66:69].any()
    assert not across[:60, :57].any()
    assert not across[:60, 69:].any()


def test_slips_name_materials_that_exist(truth):
    """A wrong key, not one that has no material."""
    annotator = Annotator("erring", np.where(truth == 1, 5, truth).astype(np.uint8), 0)
    annotator._habits = Habits(slip_share=1)
    annotator.begin()
    assert set(np.unique(annotator.scribbles).tolist()) <= {0, 2, 5, UNLABELED}
    drawn = annotator.scribbles != UNLABELED
    assert (annotator.scribbles[drawn] != np.where(truth == 1, 5, truth)[drawn]).all()


def test_follower_of_spots_draws_nowhere_else(truth):
    """But for the first strokes."""
    annotator = Annotator("spots", truth, 0)
    annotator.begin()
    before = annotator.scribbles.copy()
    annotator.react(np.full((3, *truth.shape), 1 / 3, np.float32), [spot(48, 48)])
    changed = annotator.scribbles != before
    assert changed[spot(48, 48).window].sum() == changed.sum() > 0


def test_nothing_recommended_nothing_drawn(truth):
    """Neither by who follows the spots, nor by who draws as much elsewhere."""
    for name in ("spots", "random"):
        annotator = Annotator(name, truth, 0)
        annotator.begin()
        strokes = annotator.strokes
        annotator.react(np.full((3, *truth.shape), 1 / 3, np.float32), [])
        assert annotator.strokes == strokes


def test_scattered_boxes_keep_their_size_and_lie_inside():
    """All over the image, up to its borders."""
    rng = np.random.default_rng(0)
    boxes = [box for _ in range(200) for box in scatter([spot(0, 0)], (30, 60), rng)]
    assert all((box.height, box.width) == (24, 24) for box in boxes)
    assert {box.row for box in boxes} == set(range(7))
    assert (min(box.column for box in boxes), max(box.column for box in boxes)) == (0, 36)


def test_seeds_begin_elsewhere(truth):
    """The first as the duel does; the same seed begins at the same place."""
    begun = [take_turns("careful", truth, seed, turns=0).scribbles for seed in (0, 1, 2, 1)]
    assert (begun[0] == first_strokes(truth, np.random.default_rng(0))).all()
    assert (begun[1] == begun[3]).all()
    assert len({scribbles.tobytes() for scribbles in begun}) == 3


def test_touching_strokes_of_two_classes_are_two():
    """And apart ones of one class as well."""
    drawn = np.full((8, 8), UNLABELED, np.uint8)
    drawn[0, :4], drawn[0, 4:], drawn[5, 5] = 0, 1, 0
    assert sorted((int(mask.sum()), label) for mask, label in split_strokes(drawn)) == [
        (1, 0),
        (4, 0),
        (4, 1),
    ]


def test_strokes_are_counted(truth):
    """One for each material at first."""
    annotator = take_turns("careful", truth, turns=0)
    assert annotator.strokes == 3
