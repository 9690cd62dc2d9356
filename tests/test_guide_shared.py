"""A guide that a shared model starts: it knows before the first stroke, and strokes still win."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from taught_network import taught_network

from backend import Guide, GuideSettings
from backend.arrays import UNLABELED
from backend.learning import networks
from backend.learning.image_network import TrainingSettings
from backend.learning.shared_model import SharedModel
from tests.test_registry import CARD

SETTINGS = GuideSettings(training=TrainingSettings(crop_px=128))
SHAPE = (96, 96)
TRUTH = np.zeros(SHAPE, np.uint8)
TRUTH[48:] = 1
IMAGE = TRUTH * 120 + np.random.default_rng(0).integers(40, 60, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def shared():
    """A network that has learned this image, from all of its truth."""
    image = networks.pad_image((IMAGE - 40.0).astype(np.float32) / 140)
    return SharedModel(CARD, taught_network(image, np.pad(TRUTH, (0, 32), mode="edge")))


def guide_of(shared):
    """A guide of that image."""
    return Guide(IMAGE, 2, settings=SETTINGS, shared=shared)


def nothing():
    """No stroke."""
    return np.full(SHAPE, UNLABELED, np.uint8)


def first_strokes():
    """One in each class."""
    scribbles = nothing()
    scribbles[10:14, 10:40], scribbles[80:84, 10:40] = 0, 1
    return scribbles


def test_image_is_segmented_before_the_first_stroke(shared):
    """With uncertainty and spots, as after any other turn."""
    prediction = guide_of(shared).update(nothing())
    assert (prediction.label_map == TRUTH).mean() > 0.98
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert prediction.uncertainty[:30].mean() < 0.1


class Shifted(torch.nn.Module):
    """A network that knows what lies above and below, and is wrong by 3 px where they meet."""

    def __init__(self):
        """It has one weight, by which its device is told."""
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        """Logits of rows."""
        rows = torch.arange(images.shape[2]).view(1, 1, -1, 1).expand(len(images), 1, -1, 128)
        return self.weight * torch.cat([51 - rows, rows - 51], 1) * 4.0


def test_edges_are_the_images_own():
    """The model says what is where, and the guide finds in the image where it ends."""
    shared = SharedModel(CARD, Shifted())
    assert (guide_of(shared)._shared_opinion.argmax(0)[:96, :96] == TRUTH).mean() < 0.97
    prediction = guide_of(shared).update(nothing())
    assert (prediction.label_map == TRUTH).mean() > 0.985


def test_strokes_win_where_the_model_is_wrong(shared):
    """What is drawn against it is believed there; far from it the model goes on to count."""
    scribbles = nothing()
    scribbles[10:14, 10:40] = 1  # of a particle that the model has never seen
    scribbles[80:84, 10:40], scribbles[10:14, 60:90] = 1, 0
    guide = guide_of(shared)
    guide.update(nothing())
    prediction = guide.update(scribbles)
    assert prediction.probabilities[1, 11:13, 15:35].mean() > 0.5
    assert (prediction.label_map[60:] == 1).mean() > 0.98


def test_network_starts_from_the_shared_weights_and_leaves_them_alone(shared):
    """A step later its own have changed; those of the model serve other guides."""
    before = {name: tensor.clone() for name, tensor in shared.network.state_dict().items()}
    guide = guide_of(shared)
    assert not guide._has_network
    guide.update(first_strokes())
    guide.train(2)
    ours = guide._network.weights()
    name = "unet.encoder.model.conv_stem.weight"
    assert 0 < (ours[name] - before[name]).abs().max() < 0.01
    for name, tensor in shared.network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert (guide.predict().label_map == TRUTH).mean() > 0.98


def test_what_was_learned_from_erased_strokes_is_forgotten(shared):
    """The model's own opinion takes its place."""
    guide = guide_of(shared)
    first = guide.update(nothing())
    scribbles = nothing()
    scribbles[10:14, 10:40], scribbles[80:84, 10:40] = 1, 0  # all wrong
    guide.update(scribbles)
    guide.train(2)
    guide.predict()
    np.testing.assert_array_equal(guide.update(nothing()).probabilities, first.probabilities)


def test_saved_guide_goes_on(shared, tmp_path):
    """With its own network, whatever model is published by then."""
    guide = guide_of(shared)
    guide.update(first_strokes())
    guide.train(2)
    guide.predict()
    guide.save(tmp_path / "guide.safetensors")
    torch.manual_seed(3)
    again = guide_of(SharedModel(CARD, networks.SharedNetwork(2, "random").eval()))
    again.load(tmp_path / "guide.safetensors")
    for name, tensor in again._network.weights().items():
        torch.testing.assert_close(tensor, guide._network.weights()[name])


def test_saved_guide_goes_on_without_the_model(shared, tmp_path):
    """Strokes and answers are there; its network, which was of another kind, begins anew."""
    guide = guide_of(shared)
    guide.update(first_strokes())
    guide.train(2)
    guide.save(tmp_path / "guide.safetensors")
    again = guide_of(None)
    again.load(tmp_path / "guide.safetensors")
    assert not again._has_network
    assert (again.predict().label_map == TRUTH).mean() > 0.95
    again.train(1)


def test_good_model_weighs_more_than_a_poor_one(shared):
    """By how good it was near edges of images it had not seen, before strokes say otherwise."""
    poor, good = (
        SharedModel(replace(CARD, metrics={"edge_band_accuracy": accuracy}), shared.network)
        for accuracy in (0.5, 0.99)
    )
    opinion = guide_of(shared)._shared_opinion[:, : SHAPE[0], : SHAPE[1]]
    far, near = (
        np.abs(guide_of(model).update(nothing()).probabilities - opinion).mean()
        for model in (poor, good)
    )
    assert near < far


def test_models_opinion_stays_beside_that_of_its_trained_network(shared):
    """It may be the better one: the network learned from few strokes."""
    settings = replace(SETTINGS, network_share=0.01, min_agreement=0)
    sure = SharedModel(replace(CARD, metrics={"edge_band_accuracy": 0.999}), shared.network)
    guide = Guide(IMAGE, 2, settings=settings, shared=sure)
    before = guide.update(first_strokes()).probabilities
    weights = guide._network.weights()
    reversed_head = {name: -weights[name] for name in networks.SHARED_HEAD}
    guide._network.restore({**weights, **reversed_head}, 2)
    after = guide.predict().probabilities
    assert guide.opinion_steps == 2
    assert 0 < np.abs(after - before).max() < 0.1
