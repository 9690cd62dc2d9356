"""The network of one image: it learns strokes and background by OBAL's weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.arrays import UNLABELED
from backend.learning.image_network import ImageNetwork, TrainingSettings

SIDE_PX = 128
TRUTH = np.zeros((SIDE_PX, SIDE_PX), np.uint8)  # three layers
TRUTH[40:88], TRUTH[88:] = 1, 2
SETTINGS = TrainingSettings(crop_px=96)


@pytest.fixture(scope="module")
def image():
    """Three layers in noise, (128, 128) in 0..1."""
    noise = np.random.default_rng(0).normal(0, 0.06, TRUTH.shape)
    return np.clip(np.choose(TRUTH, [0.2, 0.5, 0.8]) + noise, 0, 1).astype(np.float32)


@pytest.fixture
def scribbles():
    """A stroke in each layer."""
    drawn = np.full(TRUTH.shape, UNLABELED, np.uint8)
    drawn[20:24, 10:60], drawn[62:66, 10:60], drawn[104:108, 10:60] = 0, 1, 2
    return drawn


def certain(label_map):
    """Probabilities of an inference result that is nearly sure of `label_map`."""
    return np.where(np.arange(3)[:, None, None] == label_map, 0.98, 0.01).astype(np.float32)


def accuracy(network):
    """Share of the pixels that it gets right."""
    return (network.probabilities().argmax(axis=0) == TRUTH).mean()


def test_it_learns(image, scribbles):
    """From strokes, and from an inference result that is right."""
    network = ImageNetwork(image, 3, SETTINGS, seed=0)
    network.train(scribbles, certain(TRUTH), steps=25)
    assert accuracy(network) > 0.9
    assert network.trained_steps == 25


def test_strokes_win_over_the_inference_result(image, scribbles):
    """Everything is said to be class 0; where something else is drawn, that is learned."""
    network = ImageNetwork(image, 3, SETTINGS, seed=0)
    wrong = certain(np.zeros_like(TRUTH))
    network.train(scribbles, wrong, steps=25)
    drawn = scribbles != UNLABELED
    assert (network.probabilities().argmax(axis=0) == TRUTH)[drawn].mean() > 0.9


def test_background_teaches(image, scribbles):
    """With nearly all weight on it, the inference result is learned, whatever is drawn."""
    settings = replace(SETTINGS, obal=replace(SETTINGS.obal, background_share=0.999))
    network = ImageNetwork(image, 3, settings, seed=0)
    network.train(scribbles[::-1].copy(), certain(TRUTH), steps=40)  # strokes of upside-down layers
    assert accuracy(network) > 0.8


def test_same_seed_gives_the_same_network(image, scribbles):
    """To the bit, however the steps are divided, and the caller's random numbers stay."""
    settings = replace(SETTINGS, encoder_weights="random")
    first, second = (ImageNetwork(image, 3, settings, seed=4) for _ in range(2))
    state = torch.random.get_rng_state()
    first.train(scribbles, certain(TRUTH), steps=3)
    second.train(scribbles, certain(TRUTH), steps=1)
    second.train(scribbles, certain(TRUTH), steps=2)
    np.testing.assert_array_equal(first.probabilities(), second.probabilities())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_asking_twice_gives_the_same(image, scribbles):
    """Statistics of BatchNorm are settled once after a training."""
    network = ImageNetwork(image, 3, replace(SETTINGS, encoder_weights="random"), seed=0)
    network.train(scribbles, certain(TRUTH), steps=1)
    np.testing.assert_array_equal(network.probabilities(), network.probabilities())


def test_restored_network_goes_on(image, scribbles):
    """With the weights of another it believes the same, and can learn on."""
    settings = replace(SETTINGS, encoder_weights="random")
    first, second = (ImageNetwork(image, 3, settings, seed=seed) for seed in (1, 2))
    first.train(scribbles, certain(TRUTH), steps=2)
    second.restore(first.weights(), first.trained_steps)
    np.testing.assert_allclose(second.probabilities(), first.probabilities(), atol=1e-6)
    assert second.trained_steps == 2
    second.train(scribbles, certain(TRUTH), steps=1)
    assert not np.allclose(second.probabilities(), first.probabilities(), atol=1e-3)


def test_weights_of_other_classes_are_refused(image):
    """And the network goes on with its own."""
    settings = replace(SETTINGS, encoder_weights="random")
    weights = ImageNetwork(image, 4, settings, seed=0).weights()
    network = ImageNetwork(image, 3, settings, seed=0)
    with pytest.raises(ValueError, match="for this network"):
        network.restore(weights, trained_steps=1)
    assert network.probabilities().shape == (3, SIDE_PX, SIDE_PX)


def test_memory_is_told(image):
    """Weights, gradients and moments."""
    network = ImageNetwork(image, 3, replace(SETTINGS, encoder_weights="random"), seed=0)
    weights = sum(p.numel() * 4 for p in network._network.parameters())
    assert network.nbytes == 4 * weights + image.nbytes
