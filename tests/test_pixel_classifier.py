"""The fast first answer: features of each cell, and trees that learn the drawn ones."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning import pixel_classifier
from backend.learning.pixel_classifier import cell_features, classify_cells, to_cells

SHAPE = (34, 48)
CELLS = (17, 24)


@pytest.fixture(scope="module")
def image():
    """A dark upper and a bright lower half with noise, (34, 48)."""
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    return (np.where(np.arange(SHAPE[0])[:, None] < 16, 0.3, 0.7) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def features(image):
    """Its features, which take a moment."""
    return cell_features(image)


def strokes(upper=0, lower=1):
    """Draw a stroke in each half."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    scribbles[5:8, 5:40], scribbles[25:28, 5:40] = upper, lower
    return scribbles


def test_each_cell_is_described(features):
    """(H, W) -> (h, w, D) of float16, all finite."""
    assert features.shape[:2] == CELLS
    assert features.dtype == np.float16
    assert np.isfinite(features).all()


@pytest.mark.parametrize(("shape", "last"), [((40, 20), 19 / 20), ((20, 40), 9 / 20)])
def test_row_is_a_feature_in_units_of_the_longer_side(shape, last):
    """Device images are layered; an aspect ratio must not stretch that."""
    rows = cell_features(np.zeros(shape, np.float32))[..., -1]
    assert (rows[0, 0], rows[-1, 0]) == (0, pytest.approx(last, rel=1e-3))
    assert (rows == rows[:, :1]).all()


def test_strokes_teach_both_halves(features):
    """All cells far from the boundary are right after one stroke each."""
    probabilities = classify_cells(features, strokes(), classes=2, seed=0)
    assert (probabilities[0, :6] > 0.5).all()
    assert (probabilities[1, 10:] > 0.5).all()


def test_probabilities_sum_to_one(features):
    """(classes, h, w) of float32."""
    probabilities = classify_cells(features, strokes(), classes=5, seed=0)
    assert (probabilities.shape, probabilities.dtype) == ((5, *CELLS), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)


def test_class_nobody_drew_gets_nothing(features):
    """Classes 1 and 3 are drawn: theirs are the places 1 and 3, the others are 0."""
    probabilities = classify_cells(features, strokes(1, 3), classes=5, seed=0)
    assert (probabilities[[0, 2, 4]] == 0).all()
    assert (probabilities[1, :6] > 0.5).all()


def test_same_seed_gives_the_same_trees(features):
    """To the bit; another seed gives others."""
    first, again, other = (classify_cells(features, strokes(), 2, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_prediction_in_chunks_is_the_same(features, monkeypatch):
    """Chunks save memory and change nothing."""
    whole = classify_cells(features, strokes(), classes=2, seed=0)
    monkeypatch.setattr(pixel_classifier, "_CHUNK_CELLS", 100)
    chunked = classify_cells(features, strokes(), classes=2, seed=0)
    np.testing.assert_array_equal(chunked, whole)


def test_small_material_counts_as_much_as_a_large_one(features):
    """Five pixels against a painted half: the trees balance them."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    scribbles[:14], scribbles[30, 20:25] = 0, 1
    probabilities = classify_cells(features, scribbles, classes=2, seed=0)
    assert (probabilities[1, 12:] > 0.5).mean() > 0.95


def test_long_strokes_are_sampled(features, monkeypatch):
    """Beyond the limit the trees see a part, which is nearly as good and takes no longer."""
    full = np.zeros(SHAPE, np.uint8)
    full[16:] = 1
    monkeypatch.setattr(pixel_classifier, "MAX_CELLS_PER_CLASS", 20)
    probabilities = classify_cells(features, full, classes=2, seed=0)
    assert (probabilities.argmax(axis=0) == to_cells(full)).mean() > 0.9
    assert (probabilities.max(axis=0) < 1).any()  # trees are sure of cells that they have seen


@pytest.mark.parametrize("label", [0, UNLABELED])
def test_one_class_or_none_is_refused(features, label):
    """The sentence says what to do."""
    with pytest.raises(ValueError, match="draw a stroke in another material"):
        classify_cells(features, np.full(SHAPE, label, np.uint8), classes=2, seed=0)


def test_a_stroke_counts_in_every_cell_it_touches():
    """Of two classes in one cell the lower counts."""
    scribbles = np.full((4, 6), UNLABELED, np.uint8)
    scribbles[1, 1], scribbles[0, 1], scribbles[2, 4] = 0, 3, 2
    none = UNLABELED
    assert to_cells(scribbles).tolist() == [[0, none, none], [none, none, 2]]
