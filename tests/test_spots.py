"""Spots: few, apart, inside, the most doubtful first, and none where all is sure."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from backend.arrays import UNLABELED
from backend.learning.guide import GuideSettings
from backend.learning.pixel_classifier import cell_features
from backend.learning.spots import (
    MAX_SPOTS,
    MIN_DOUBT,
    class_doubt,
    first_spots,
    rank_spots,
)
from backend.learning.uncertainty import tempered

NAMES = ("Si", "Oxide", "Metal")
SIDE_PX = 128


def beliefs(first):
    """Make probabilities (3, H, W) from that of the first class; the third has none."""
    return np.stack([first, 1 - first, np.zeros_like(first)]).astype(np.float32)


def blurred_boundary(blur_px, side_px=SIDE_PX):
    """Make the beliefs about a correct boundary down the middle, as a blurred edge leaves them."""
    columns = np.arange(side_px) - side_px / 2 + 0.5
    return beliefs(np.tile(0.5 - 0.5 * erf(columns / blur_px), (side_px, 1)))


def rank(probabilities, scribbles=None, names=NAMES):
    """Rank the spots of these beliefs, with nothing drawn."""
    if scribbles is None:
        scribbles = np.full(probabilities.shape[1:], UNLABELED, np.uint8)
    return rank_spots(probabilities, scribbles, names)


def with_blob(probabilities, row, column, doubt=0.5, size_px=12):
    """Doubt a square: its first class has probability 1 - doubt, the second has the rest."""
    changed = probabilities.copy()
    place = np.s_[:, row : row + size_px, column : column + size_px]
    changed[place] = np.array([1 - doubt, doubt, 0])[:, None, None]
    return changed


@st.composite
def doubtful_images(draw):
    """Beliefs of up to 90 x 90 px: tiles, each of them sure or in doubt."""
    height, width = draw(st.integers(32, 90)), draw(st.integers(32, 90))
    tiles = draw(st.lists(st.sampled_from([0, 0.01, 0.3, 0.5, 1]), min_size=16, max_size=16))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return beliefs(np.array(tiles).reshape(4, 4)[rows[:, None], columns])


@given(doubtful_images())
def test_spots_lie_inside_the_image(probabilities):
    """Every box, wholly."""
    for spot in rank(probabilities):
        assert 0 <= spot.row <= probabilities.shape[1] - spot.height
        assert 0 <= spot.column <= probabilities.shape[2] - spot.width
        assert 0 <= spot.score <= 1


@given(doubtful_images())
def test_spots_are_few_and_apart(probabilities):
    """At most five, no pixel in two of them."""
    spots = rank(probabilities)
    covered = np.zeros(probabilities.shape[1:], int)
    for spot in spots:
        covered[spot.row : spot.row + spot.height, spot.column : spot.column + spot.width] += 1
    assert len(spots) <= MAX_SPOTS
    assert covered.max() <= 1


@given(doubtful_images())
def test_spots_are_sorted_by_their_doubt(probabilities):
    """The most doubtful first, none below the limit."""
    doubt = class_doubt(probabilities)
    means = [
        doubt[s.row : s.row + s.height, s.column : s.column + s.width].mean()
        for s in rank(probabilities)
    ]
    assert all(first >= second - 1e-5 for first, second in pairwise(means))
    assert all(mean >= MIN_DOUBT - 1e-5 for mean in means)


@pytest.mark.parametrize(
    ("probabilities", "doubt"),
    [([1, 0, 0], 0), ([0.5, 0.5, 0], 1), ([0.2, 0.2, 0.6], 1 / 9), ([0.9, 0.05, 0.05], 1 / 324)],
)
def test_doubt_is_how_close_the_second_comes(probabilities, doubt):
    """However many share the rest: a class that is evenly ahead is in little doubt."""
    pixel = np.array(probabilities, np.float32)[:, None, None]
    assert class_doubt(pixel).item() == pytest.approx(doubt, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_is_left_to_label_where_all_is_certain(classes):
    """No spot is a normal answer, with and without a boundary."""
    probabilities = np.zeros((classes, SIDE_PX, SIDE_PX), np.float32)
    probabilities[0] = 1
    assert rank(probabilities) == ()
    probabilities[:, 40:] = probabilities[::-1, 40:]
    assert rank(probabilities) == ()


@pytest.mark.parametrize("blur_px", [0.5, 1, 2])
def test_sharp_boundary_attracts_none(blur_px):
    """An edge of finite blur is uncertain even where it is right."""
    shown = tempered(blurred_boundary(blur_px), GuideSettings().temperature)
    assert rank(shown) == ()


@pytest.mark.parametrize("doubt", [0.3, 0.4, 0.5])
def test_doubtful_place_off_the_boundary_is_found_first(doubt):
    """Beside a blurred boundary, which is uncertain all along."""
    spot = rank(with_blob(blurred_boundary(3), 100, 20, doubt))[0]
    assert spot.row <= 106 < spot.row + spot.height
    assert spot.column <= 26 < spot.column + spot.width


def test_doubtful_piece_of_a_boundary_is_found():
    """Boundaries are not masked off: where one is much wider than the rest, it is marked."""
    probabilities = blurred_boundary(1)
    wide = blurred_boundary(9)
    probabilities[:, 90:110] = wide[:, 90:110]
    spots = rank(probabilities)
    assert spots
    assert all(75 < spot.row <= 110 for spot in spots)


def test_most_doubtful_of_two_places_comes_first():
    """Half and half before seven to three."""
    probabilities = with_blob(with_blob(blurred_boundary(1), 10, 10, 0.3), 100, 10, 0.5)
    assert [spot.row > 60 for spot in rank(probabilities)] == [True, False]


def test_drawn_pixels_attract_none():
    """The annotator has spoken there."""
    probabilities = with_blob(blurred_boundary(1), 100, 20)
    scribbles = np.full((SIDE_PX, SIDE_PX), UNLABELED, np.uint8)
    scribbles[98:114, 18:34] = 0
    assert rank(probabilities, scribbles) == ()


def test_reason_names_the_two_likeliest_classes():
    """The likelier first, with percents."""
    (spot,) = rank(with_blob(blurred_boundary(1), 100, 20, doubt=0.48))
    assert spot.reason == "Si or Oxide, 52/48 %"


def test_reason_uses_the_names_of_the_classes():
    """Whatever the annotator calls them."""
    (spot,) = rank(with_blob(blurred_boundary(1), 100, 20, 0.4), names=("TiN", "High-k", "W"))
    assert re.match("TiN or High-k", spot.reason)


def test_all_undecided_gives_the_full_number_of_spots():
    """Everywhere is as good as anywhere."""
    assert len(rank(np.full((2, SIDE_PX, SIDE_PX), 0.5, np.float32), names=NAMES[:2])) == MAX_SPOTS


def quarters(side_px=96):
    """Make an image of four textures: dark, bright, noise and stripes, one in each quarter."""
    half = side_px // 2
    image = np.full((side_px, side_px), 0.1, np.float32)
    image[:half, half:] = 0.9
    image[half:, :half] = np.random.default_rng(0).random((half, half))
    image[half:, half:] = np.arange(half) % 6 < 3
    return image


def test_first_spots_cover_the_textures():
    """One box in each quarter."""
    spots = first_spots(cell_features(quarters()), (96, 96), count=4, seed=0)
    found = {(s.row + s.height / 2 > 48, s.column + s.width / 2 > 48) for s in spots}
    assert len(found) == 4


@given(st.integers(32, 70), st.integers(32, 70), st.integers(1, 9))
def test_first_spots_lie_inside_and_apart(height, width, count):
    """No more than asked for."""
    cells = ((height + 1) // 2, (width + 1) // 2, 3)
    features = np.random.default_rng(0).random(cells, dtype=np.float32)
    spots = first_spots(features, (height, width), count, seed=0)
    covered = np.zeros((height, width), int)
    for spot in spots:
        assert spot.row + spot.height <= height
        assert spot.column + spot.width <= width
        covered[spot.row : spot.row + spot.height, spot.column : spot.column + spot.width] += 1
    assert 1 <= len(spots) <= count
    assert covered.max() == 1


def test_first_spots_of_an_image_without_texture_are_one():
    """A constant image has one place like any other; nothing is divided by zero."""
    assert len(first_spots(np.zeros((32, 32, 5), np.float32), (64, 64), count=3, seed=0)) == 1


def test_first_spots_repeat_for_a_seed():
    """Asking again moves no box."""
    features = cell_features(quarters())
    assert first_spots(features, (96, 96), 4, 1) == first_spots(features, (96, 96), 4, 1)
