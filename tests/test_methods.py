"""The methods compared: each answers, and each ablation leaves out what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.arrays import UNLABELED
from backend.errors import RegistryError
from backend.learning import methods, networks
from backend.learning.guide import Guide, GuideSettings
from backend.learning.image_network import ImageNetwork
from backend.learning.labeled_images import LabeledImage
from backend.learning.methods import (
    METHODS,
    PLAIN_CROSS_ENTROPY,
    GuidePlayer,
    check_unseen,
    shared_methods,
)
from backend.learning.obal import obal_weights
from backend.learning.shared_model import SharedModel
from backend.microscope.images import pixels_sha256
from tests.test_registry import CARD

SHAPE = (40, 70)
NAMES = ("Si", "Oxide")


@pytest.fixture(scope="module")
def layers():
    """A dark and a bright layer in noise."""
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    return np.where(np.arange(SHAPE[0])[:, None] < 20, 60, 180) + noise


def strokes():
    """One in each layer."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    scribbles[8:12, 10:60], scribbles[28:32, 10:60] = 0, 1
    return scribbles


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_twice(name, layers):
    """In the image's own shape, with boxes, and after having gone on."""
    player = METHODS[name].start(layers, NAMES, 1, 0)

    for _ in range(2):
        prediction = player.answer(strokes())
        player.go_on()

    assert prediction.probabilities.shape == (2, *SHAPE)
    assert prediction.label_map.shape == prediction.uncertainty.shape == SHAPE
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("name", ["guide-shared", "guide-shared-untrained", "paper-shared"])
def test_methods_of_a_shared_model_answer_before_the_first_stroke(name, layers):
    """And after it; all begin with what the model believes."""
    torch.manual_seed(0)
    shared = SharedModel(CARD, networks.SharedNetwork(2, "random").eval())
    player = shared_methods(shared)[name].start(layers, NAMES, 1, 0)

    first = player.answer(np.full(SHAPE, UNLABELED, np.uint8))
    player.go_on()
    second = player.answer(strokes())

    assert (first.label_map != UNLABELED).all()
    assert first.probabilities.shape == second.probabilities.shape == (2, *SHAPE)


def test_a_shared_model_finds_materials_by_name(layers):
    """Whatever their order in the image's legend; one that it does not know is refused."""
    shared = SharedModel(CARD, networks.SharedNetwork(2, "random").eval())
    start = shared_methods(shared)["guide-shared-untrained"].start
    assert start(layers, NAMES[::-1], 1, 0)._guide.shared.card.materials == NAMES[::-1]
    with pytest.raises(RegistryError, match="but not Metal"):
        start(layers, ("Si", "Metal"), 1, 0)


def test_images_that_a_shared_model_cannot_be_held_against_are_refused(layers):
    """Those it learned from, and those of other materials."""
    truth = np.repeat([[0], [1]], 20, axis=0).astype(np.uint8) * np.ones((1, SHAPE[1]), np.uint8)
    image = LabeledImage("set", "one", layers, truth, NAMES)
    check_unseen(CARD, [image])
    with pytest.raises(ValueError, match="was trained on one of set"):
        check_unseen(replace(CARD, pictures=(pixels_sha256(layers),)), [image])
    with pytest.raises(ValueError, match=r"one of set shows class 0, class 1, but .* Si, Oxide"):
        check_unseen(CARD, [replace(image, legend=())])


def test_plain_cross_entropy_sees_strokes_only_and_evenly():
    """All of the weight is on drawn pixels, half on each class, the same for right and wrong."""
    scribbles = np.array([[0, 0, 1, UNLABELED]], np.uint8)
    belief = np.array([[[0.9, 0.2, 0.7, 0.6]], [[0.1, 0.8, 0.3, 0.4]]], np.float32)

    weights = obal_weights(scribbles, belief, PLAIN_CROSS_ENTROPY)

    np.testing.assert_allclose(weights, [[0.25, 0.25, 0.5, 0]], atol=1e-8)


@pytest.mark.parametrize(("name", "plain"), [("guide", "guide-plain"), ("network", "network-plain"),
                                             ("paper-imagenet", "paper-plain")])  # fmt: skip
def test_plain_arm_differs_in_its_loss_only(monkeypatch, layers, name, plain):
    """The same weights to start from, the same teacher, the same number of steps."""
    seen = []
    monkeypatch.setattr(
        ImageNetwork,
        "train",
        lambda self, _, inference, steps: seen.append((self.settings, inference, steps)),
    )
    for method in (name, plain):
        player = METHODS[method].start(layers, NAMES, 3, 0)
        player.answer(strokes())
        player.go_on()

    (ours, teacher, steps), (theirs, same_teacher, same_steps) = seen
    assert ours.obal != theirs.obal == PLAIN_CROSS_ENTROPY
    assert ours.encoder_weights == theirs.encoder_weights == "imagenet"
    np.testing.assert_array_equal(teacher, same_teacher)
    assert steps == same_steps == 3


@pytest.mark.parametrize("name", ["guide-untrained", "classifier", "prior", "forest", "trees"])
def test_methods_without_a_network_train_none(monkeypatch, layers, name):
    """An ablation that trained would show the network's share."""
    monkeypatch.setattr(ImageNetwork, "train", lambda *_: pytest.fail("a network was trained"))
    player = METHODS[name].start(layers, NAMES, 3, 0)
    player.answer(strokes())
    player.go_on()


def test_paper_s_network_is_taught_by_its_own_last_answer(monkeypatch, layers):
    """Not by a classifier or a prior: OBAL to the letter."""
    teachers = []
    monkeypatch.setattr(
        ImageNetwork, "train", lambda _, __, inference, ___: teachers.append(inference)
    )
    answers = iter(np.full((2, 128, 128), share, np.float32) for share in (0.1, 0.2, 0.3))
    monkeypatch.setattr(ImageNetwork, "probabilities", lambda _: next(answers))
    player = METHODS["paper-random"].start(layers, NAMES, 1, 0)

    shown = [float(player.answer(strokes()).probabilities.max()) for _ in range(2)]

    assert [round(float(teacher.max()), 1) for teacher in teachers] == [0.1, 0.2]
    assert [round(share, 1) for share in shown] == [0.2, 0.3]


@pytest.mark.parametrize("waits", [True, False])
def test_annotator_waits_for_the_training_or_not(monkeypatch, layers, waits):
    """Either way each turn trains once."""
    order = []
    monkeypatch.setattr(Guide, "train", lambda _, steps: order.append(steps))
    player = GuidePlayer(Guide(layers, 2, settings=GuideSettings(prior_share=0)), 5, waits=waits)

    player.answer(strokes())
    while_waiting = list(order)
    player.go_on()

    assert while_waiting == ([5] if waits else [])
    assert order == [5]


def test_classifier_alone_starts_from_nothing(layers):
    """No answer before may steady it: the same strokes, whatever was drawn before."""
    contradicted = strokes()
    contradicted[8:12, 10:60], contradicted[28:32, 10:60] = 1, 0
    fresh, misled = (METHODS["classifier"].start(layers, NAMES, 1, 0) for _ in "12")
    misled.answer(contradicted)

    first, second = (player.answer(strokes()).probabilities for player in (fresh, misled))

    np.testing.assert_array_equal(first, second)
    assert first[0, :16].mean() > 0.9


def test_all_methods_are_shown_alike(layers):
    """A forest's boxes are ranked as the guide's are, from its own probabilities."""
    guide = Guide(layers, 2)
    prediction = guide.update(strokes())

    shown = methods.to_prediction(prediction.probabilities, strokes())

    assert shown.spots == prediction.spots
    np.testing.assert_array_equal(shown.label_map, prediction.label_map)
    np.testing.assert_array_equal(shown.uncertainty, prediction.uncertainty)


def test_network_trained_meanwhile_joins_the_next_answer(layers):
    """Else the arms with and without it would be the same."""
    willing = GuideSettings(min_agreement=0)
    answers = []
    for steps in (0, 2):
        player = GuidePlayer(Guide(layers, 2, settings=willing), steps, waits=False)
        player.answer(strokes())
        player.go_on()
        answers.append(player.answer(strokes()).probabilities)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
