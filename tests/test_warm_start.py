"""What a shared model spares: a guide that it starts is ahead of a cold one on an unseen image."""

import numpy as np
import pytest
from taught_network import taught_network

from backend import Guide, GuideSettings, TrainingSettings
from backend.arrays import UNLABELED
from backend.learning.registry import ModelCard
from backend.learning.scores import score
from backend.learning.shared_model import SharedModel
from backend.learning.simulated_annotator import Annotator
from backend.microscope.images import to_gray
from backend.microscope.synthetic import make_image

SIDE_PX = 256
UNSEEN = 3, 4, 5
SETTINGS = GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=128))


def gate(seed):
    """A part of a synthetic gate: image, truth and the names of its classes."""
    drawn = make_image("gate", "A", seed, (SIDE_PX + 64, SIDE_PX)).without_databar()
    part = np.s_[:SIDE_PX, :SIDE_PX]
    return drawn.image[part], drawn.label_map[part], drawn.materials


@pytest.fixture(scope="module")
def shared():
    """A model that two other gates have taught for some seconds."""
    images, truths, (materials, _) = zip(*(gate(seed) for seed in (1, 2)), strict=True)
    gray = np.hstack([to_gray(image) for image in images])
    card = ModelCard("2026-11-28", materials, None, {}, {})
    return SharedModel(card, taught_network(gray, np.hstack(truths)))


def accuracies(shared):
    """Without a stroke and after the first strokes: means of the unseen images."""
    return np.mean([turns(shared, *gate(seed)) for seed in UNSEEN], axis=0)


def turns(shared, image, truth, materials):
    """The same of one image."""
    guide = Guide(image, len(materials), settings=SETTINGS, shared=shared)
    nothing = guide.update(np.full(truth.shape, UNLABELED, np.uint8))
    annotator = Annotator("careful", truth, seed=0)
    annotator.begin()
    first = guide.update(annotator.scribbles)
    return [score(answer.label_map, truth, ()).accuracy for answer in (nothing, first)]


def test_warm_guide_is_ahead_of_a_cold_one_on_unseen_images(shared):
    """Without a stroke already, and after the same first strokes; seen were .960, .960 and .932."""
    cold_nothing, cold_first = accuracies(None)
    warm_nothing, warm_first = accuracies(shared)
    assert cold_nothing == 0
    assert warm_nothing > cold_first + 0.01
    assert warm_first > cold_first + 0.01
