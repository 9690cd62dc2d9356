"""The guide as a library: strokes in, a prediction out, the same for the same seed."""

import gc
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend import Guide, GuideSettings
from backend.arrays import UNLABELED
from backend.errors import InvalidImageError

QUICK = GuideSettings(encoder_weights="random", steps=1)
SHAPE = (33, 47)
TRUTH = np.zeros((64, 64), np.uint8)  # three layers, and a particle in the middle one
TRUTH[20:44], TRUTH[44:], TRUTH[28:38, 40:50] = 1, 2, 0


def layers(shape=SHAPE):
    """Make an image with a dark upper and a bright lower half, and noise: (H, W) of float64."""
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return np.where(np.arange(shape[0])[:, None] < shape[0] // 2, 60, 190) + noise


def strokes(shape=SHAPE, upper=0, lower=1):
    """Draw a stroke in each half."""
    scribbles = np.full(shape, UNLABELED, np.uint8)
    scribbles[shape[0] // 5 : shape[0] // 5 + 3, 4:-4] = upper
    scribbles[-shape[0] // 5 - 3 : -shape[0] // 5, 4:-4] = lower
    return scribbles


def quick_guide(image=None, classes=2, **options):
    """Make a guide that trains one step from random weights."""
    image = layers() if image is None else image
    return Guide(image, classes, settings=QUICK, **options)


@pytest.mark.parametrize("shape", [(33, 47), (32, 32), (64, 96), (100, 35)])
def test_prediction_covers_the_image(shape):
    """Odd sizes, the smallest, a multiple of the stride; all arrays in their types."""
    prediction = quick_guide(layers(shape), classes=3).update(strokes(shape))
    assert prediction.probabilities.shape == (3, *shape)
    assert prediction.label_map.shape == prediction.uncertainty.shape == shape
    assert prediction.probabilities.dtype == prediction.uncertainty.dtype == np.float32
    assert prediction.label_map.dtype == np.uint8


def test_probabilities_sum_to_one_and_name_the_label_map():
    """The map is the likeliest class, the uncertainty lies in 0..1."""
    prediction = quick_guide(classes=4).update(strokes())
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert (prediction.label_map == prediction.probabilities.argmax(axis=0)).all()
    assert (prediction.uncertainty >= 0).all()
    assert (prediction.uncertainty <= 1).all()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_image_of_any_depth_is_learned(depth):
    """8 and 16 bits, floats."""
    scale = 200 if depth == np.uint16 else 1
    prediction = quick_guide((layers() * scale).astype(depth)).update(strokes())
    assert (prediction.label_map[:12] == 0).mean() > 0.95
    assert (prediction.label_map[-12:] == 1).mean() > 0.95


@pytest.mark.parametrize("shape", [(31, 64), (64, 31), (64, 64, 3), (64,)])
def test_image_of_a_wrong_shape_is_refused(shape):
    """Less than 32 px, or more than one channel."""
    with pytest.raises(InvalidImageError):
        quick_guide(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("classes", [-1, 0, 1, 255])
def test_number_of_classes_is_checked(classes):
    """2 to 254."""
    with pytest.raises(ValueError, match=f"{classes} classes: a guide needs 2 to 254"):
        quick_guide(classes=classes)


def test_names_must_fit_the_classes():
    """A name too few would give wrong reasons."""
    with pytest.raises(ValueError, match="1 class names are given for 2 classes"):
        quick_guide(class_names=["Si"])


def test_same_seed_gives_the_same_predictions():
    """Two guides, two turns, random crops: equal to the bit, whatever others draw by chance."""
    predictions, shape = [], (100, 131)
    for _ in range(2):
        guide = Guide(layers(shape), 2, settings=replace(QUICK, crop_px=64), seed=3)
        guide.update(strokes(shape))
        torch.rand(5)
        predictions.append(guide.update(strokes(shape)))
    first, second = predictions
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.spots == second.spots


def test_another_seed_gives_another_prediction():
    """The seed reaches trees and network."""
    first, second = (quick_guide(seed=seed).update(strokes()) for seed in (0, 1))
    assert not np.array_equal(first.probabilities, second.probabilities)


def test_random_numbers_of_the_caller_stay():
    """Making, training and asking leave torch's and NumPy's generators alone."""
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    quick_guide().update(strokes())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002


@pytest.fixture(scope="module")
def device():
    """An image of three layers and a particle, in noise."""
    noise = np.random.default_rng(0).normal(0, 15, TRUTH.shape)
    return np.clip(np.choose(TRUTH, [60, 120, 180]) + noise, 0, 255).astype(np.uint8)


def accuracy(prediction):
    """Share of the pixels that are right."""
    return (prediction.label_map == TRUTH).mean()


def test_guide_improves_with_strokes(device):
    """A correction of what was wrong makes it right, and the whole better."""
    guide = Guide(device, classes=3)
    scribbles = np.full(TRUTH.shape, UNLABELED, np.uint8)
    scribbles[8:11, 5:20], scribbles[30:33, 5:20], scribbles[54:57, 5:20] = 0, 1, 2
    first = guide.update(scribbles)
    scribbles[31:35, 42:48], scribbles[26, 30:60] = 0, 1
    second = guide.update(scribbles)
    assert accuracy(first) > 0.85
    assert accuracy(second) > max(accuracy(first), 0.95)


def test_network_is_trained(device):
    """With the answer left to it alone, steps make it better than none."""
    scribbles = np.where(np.arange(64)[:, None] % 8 < 2, TRUTH, UNLABELED).astype(np.uint8)
    settings = GuideSettings(network_share=1)
    trained = Guide(device, 3, settings=settings).update(scribbles)
    untrained = Guide(device, 3, settings=replace(settings, steps=0)).update(scribbles)
    assert accuracy(trained) > max(0.8, accuracy(untrained) + 0.2)


def test_network_sees_the_image_in_its_place():
    """The padding of an odd size lies below and to the right, and is cut off again."""
    guide = Guide(layers(), 2, settings=GuideSettings(network_share=1))
    label_map = guide.update(strokes()).label_map
    assert (label_map[:12] == 0).mean() > 0.8
    assert (label_map[-12:] == 1).mean() > 0.8


def test_drawn_pixels_keep_their_class(device):
    """Nearly always: one wrong pixel in a stroke is the annotator's slip."""
    drawn = (np.arange(64)[:, None] % 8 < 2) & (np.arange(64) % 3 > 0)
    scribbles = np.where(drawn, TRUTH, UNLABELED).astype(np.uint8)
    label_map = quick_guide(device, classes=3).update(scribbles).label_map
    assert (label_map[drawn] == TRUTH[drawn]).mean() > 0.98


def test_pixels_of_one_stroke_are_enough():
    """A single click in each material."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    scribbles[4, 20], scribbles[28, 20] = 0, 1
    label_map = quick_guide().update(scribbles).label_map
    assert (label_map[4, 20], label_map[28, 20]) == (0, 1)


def test_whole_image_may_be_drawn():
    """No background is left."""
    scribbles = (np.arange(33)[:, None] >= 16) * np.ones(SHAPE, np.uint8)
    prediction = quick_guide().update(scribbles.astype(np.uint8))
    assert (prediction.label_map == scribbles).mean() > 0.98
    assert prediction.spots == ()


@pytest.mark.parametrize("drawn", [[], [0], [2]])
def test_fewer_than_two_materials_are_undecided(drawn):
    """Nothing to tell apart: even everywhere, and boxes for first strokes."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    for label in drawn:
        scribbles[5:8, 5:9] = label
    prediction = quick_guide(classes=3).update(scribbles)
    np.testing.assert_allclose(prediction.probabilities, 1 / 3, rtol=1e-6)
    assert (prediction.uncertainty == 1).all()
    assert 1 <= len(prediction.spots) <= 3


def test_spots_name_the_materials():
    """With the names given, else by number."""
    scribbles = strokes()
    scribbles[5:10, 5:8] = 1  # contradicts the gray values: doubt
    for names, word in [(("Silicon", "Oxide"), "Silicon"), ((), "class 0")]:
        spots = quick_guide(class_names=names).update(scribbles).spots
        assert spots
        assert all(word in spot.reason for spot in spots)


@pytest.mark.parametrize(
    ("scribbles", "sentence"),
    [
        (np.zeros((33, 48), np.uint8), r"shape \(33, 48\) on an image of \(33, 47\)"),
        (np.zeros((1, *SHAPE), np.uint8), "on an image of"),
        (np.zeros(SHAPE, np.int64), "int64: give uint8"),
        (np.full(SHAPE, 2, np.uint8), "class 2 is drawn, but there are only 2"),
        (np.full(SHAPE, 254, np.uint8), "class 254 is drawn"),
    ],
)
def test_scribbles_that_do_not_fit_are_refused(scribbles, sentence):
    """Other shape, other type, a class that does not exist."""
    with pytest.raises(ValueError, match=sentence):
        quick_guide().update(scribbles)


def test_scribbles_are_left_as_they_are():
    """The caller goes on with them."""
    scribbles = strokes()
    scribbles.flags.writeable = False
    quick_guide().update(scribbles)


def no_steps(**options):
    """Make a guide that predicts only, and with the network alone."""
    settings = replace(QUICK, steps=0, network_share=1)
    return Guide(layers(), 2, settings=settings, **options)


def test_saved_guide_goes_on(tmp_path):
    """Loaded into a guide of another seed, the network believes the same."""
    first, second = no_steps(seed=1), no_steps(seed=2)
    first.save(tmp_path / "a.safetensors")
    expected = first.update(strokes()).probabilities
    before = second.update(strokes()).probabilities
    second.load(tmp_path / "a.safetensors")
    assert not np.allclose(before, expected, atol=1e-3)
    np.testing.assert_allclose(second.update(strokes()).probabilities, expected, atol=1e-6)


def test_loaded_guide_trains(tmp_path):
    """Its optimizer belongs to the loaded weights."""
    guide, path = quick_guide(), tmp_path / "a.safetensors"
    guide.update(strokes())
    guide.save(path)
    guide.load(path)
    guide.update(strokes())
    guide.save(tmp_path / "b.safetensors")
    assert path.read_bytes() != (tmp_path / "b.safetensors").read_bytes()


def test_weights_of_other_classes_are_refused(tmp_path):
    """And the guide goes on with its own."""
    quick_guide(classes=3).save(tmp_path / "a.safetensors")
    guide = quick_guide()
    with pytest.raises(ValueError, match="for this network"):
        guide.load(tmp_path / "a.safetensors")
    assert guide.update(strokes()).probabilities.shape == (2, *SHAPE)


def test_memory_is_told():
    """At least the features and the weights, and no more than a tenth above all that is held."""
    guide = quick_guide()
    weights = sum(p.numel() * 4 for p in guide._network.parameters())
    assert guide.nbytes >= guide._features.nbytes + weights
    assert guide.nbytes <= 1.1 * (guide._features.nbytes + 4 * weights)


def test_larger_image_takes_more_memory():
    """The cache of the service counts on it."""
    small, large = (quick_guide(layers((64, side))).nbytes for side in (64, 640))
    assert large > small + 64 * 576 * 4


def test_memory_does_not_grow():
    """Twenty turns on a small image leave no tensor behind, and the peak where it was."""
    guide, scribbles = quick_guide(), strokes()
    for _ in range(5):
        guide.update(scribbles)
    gc.collect()
    tensors, peak_kb = count_tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        guide.update(scribbles)
    gc.collect()
    assert count_tensors() == tensors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb < 30_000


def count_tensors():
    """Count the tensors that are alive."""
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_stroke_is_held_against_the_answer_before_it():
    """OBAL's accuracy is that of the last answer: the classifier recalls what it was fitted on."""
    seen = []

    class Watching(Guide):
        def _train(self, scribbles, inference):
            seen.append(inference)
            super()._train(scribbles, inference)

    image = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None], 64, axis=1)
    scribbles = np.full(image.shape, UNLABELED, np.uint8)
    scribbles[4:8], scribbles[56:60] = 0, 1
    drawn = scribbles != UNLABELED
    guide = Watching(image, 2, settings=GuideSettings(encoder_weights="random", steps=1))
    answer = guide.update(scribbles).probabilities
    guide.update(scribbles)
    assert (seen[0][:, drawn] == 0.5).all()
    assert (seen[1][:, drawn] == answer[:, drawn]).all()
