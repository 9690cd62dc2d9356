"""The prior: any number of classes, any size; it corrects a classifier on what it never saw."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.arrays import UNLABELED
from backend.learning import networks, prior
from backend.learning.pixel_classifier import cell_features, classify_cells
from backend.learning.prior import PriorNetwork, class_planes, enlarge, load_prior, refine
from backend.learning.simulated_annotator import first_strokes
from backend.microscope.images import to_gray
from backend.microscope.synthetic import make_image

SHAPE = (128, 256)


def beliefs_of(classes, shape=SHAPE):
    """Random beliefs of a classifier, (classes, h, w)."""
    values = np.random.default_rng(0).random((classes, shape[0] // 2, shape[1] // 2))
    return (values / values.sum(axis=0)).astype(np.float32)


def image_of(shape=SHAPE):
    """Noise."""
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def strokes(*labels, shape=SHAPE):
    """A stroke of each of the classes."""
    scribbles = np.full(shape, UNLABELED, np.uint8)
    for place, label in enumerate(labels):
        scribbles[10 + 12 * place : 16 + 12 * place, 20:60] = label
    return scribbles


@settings(deadline=None, max_examples=5)
@given(st.integers(2, 6))
def test_any_number_of_classes(classes):
    """Probabilities of each pixel sum to 1."""
    scribbles = strokes(*range(classes))
    refined = refine(load_prior(), image_of(), scribbles, beliefs_of(classes))
    assert (refined.shape, refined.dtype) == ((classes, *SHAPE), np.float32)
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_class_nobody_drew_gets_nothing():
    """The others share all of it."""
    refined = refine(load_prior(), image_of(), strokes(1, 3), beliefs_of(5))
    assert (refined[[0, 2, 4]] == 0).all()
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_order_of_the_classes_does_not_matter():
    """It looks at one class at a time: names and numbers mean nothing."""
    beliefs, order = beliefs_of(3), [2, 0, 1]
    one = refine(load_prior(), image_of(), strokes(0, 1, 2), beliefs)
    other = refine(load_prior(), image_of(), strokes(1, 2, 0), beliefs[order])
    np.testing.assert_allclose(other, one[order], atol=0.02)  # bfloat16


def test_planes_show_each_class_its_own_strokes():
    """And those of the others apart; the strongest rival; the row from top to bottom.

    Nothing of the second class, which nobody drew.
    """
    beliefs = np.zeros((3, 2, 2), np.float32)
    beliefs[:, 0, 0] = 0.5, 0.2, 0.3
    scribbles = np.full((4, 4), UNLABELED, np.uint8)
    scribbles[0, 0], scribbles[3, 3] = 0, 2
    full, cells = class_planes(np.full((4, 4), 0.75, np.float32), scribbles, beliefs)
    assert (full[:, 0] == 0.5).all()
    assert full[:, 1:, 0, 0].tolist() == [[1, 0], [0, 1]]
    assert full[:, 1:, 3, 3].tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(cells[:, :2, 0, 0], [[0.5, 0.3], [0.3, 0.5]])
    assert cells[0, 2].tolist() == [[0, 0], [1, 1]]


def test_untrained_it_believes_the_classifier():
    """What it learns is a correction."""
    network = PriorNetwork().eval()
    beliefs = np.full((2, 64, 64), 0.8, np.float32)
    beliefs[1] = 0.2
    with torch.no_grad():
        logits = network(
            *class_planes(image_of((128, 128)), strokes(0, 1, shape=(128, 128)), beliefs)
        )
    torch.testing.assert_close(torch.sigmoid(logits[0]), torch.full((128, 128), 0.8))


def test_tiles_leave_no_seam(monkeypatch):
    """A large image is answered as if it was seen whole, but for what lies far away."""
    drawn = make_image("gate", "A", seed=3, shape=(512, 512))
    image, scribbles = (
        to_gray(drawn.image),
        first_strokes(drawn.label_map, np.random.default_rng(0)),
    )
    beliefs = classify_cells(cell_features(image), scribbles, 4, seed=0)
    whole = refine(load_prior(), image, scribbles, beliefs)
    monkeypatch.setattr(prior, "TILE_PX", 256)
    tiled = refine(load_prior(), image, scribbles, beliefs)
    assert (whole.argmax(axis=0) == tiled.argmax(axis=0)).mean() > 0.97


def test_classes_a_few_at_a_time_are_the_same(monkeypatch):
    """Memory is bounded and nothing changes."""
    arguments = image_of(), strokes(0, 1, 2), beliefs_of(3)
    whole = refine(load_prior(), *arguments)
    monkeypatch.setattr(prior, "MAX_BATCH_PX", 1)
    np.testing.assert_allclose(refine(load_prior(), *arguments), whole, atol=0.02)


def test_cells_are_enlarged_smoothly():
    """(C, h, w) -> (C, H, W); what is constant stays so."""
    larger = enlarge(np.array([[[0.0, 1.0]], [[1.0, 1.0]]], np.float32))
    assert larger.shape == (2, 2, 4)
    assert larger[0, 0].tolist() == [0, 0.25, 0.75, 1]
    assert (larger[1] == 1).all()


@pytest.mark.parametrize(("module", "equipment"), [("gate", "A"), ("gate", "C"), ("active", "B")])
def test_it_corrects_the_classifier(module, equipment):
    """On devices whose seeds it was not trained with."""
    drawn = make_image(module, equipment, seed=7, shape=(384, 384)).without_databar()
    image = networks.pad_image(to_gray(drawn.image))
    truth = np.pad(
        drawn.label_map,
        [(0, p - s) for p, s in zip(image.shape, drawn.label_map.shape, strict=True)],
        constant_values=UNLABELED,
    )
    scribbles = first_strokes(truth, np.random.default_rng(0))
    beliefs = classify_cells(cell_features(image), scribbles, 4, seed=0)
    known = truth != UNLABELED
    before, after = (
        (answer.argmax(axis=0) == truth)[known].mean()
        for answer in (enlarge(beliefs), refine(load_prior(), image, scribbles, beliefs))
    )
    assert after > before + 0.005
