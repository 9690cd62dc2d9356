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
from backend.learning.image_network import ImageNetwork, TrainingSettings
from backend.learning.simulated_annotator import correct, first_strokes
from backend.microscope.synthetic import make_image

QUICK = GuideSettings(
    temperature=1, training=TrainingSettings(encoder_weights="random", crop_px=64)
)
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
    """Make a guide whose network starts from random weights."""
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
        guide = quick_guide(layers(shape), seed=3)
        guide.update(strokes(shape))
        guide.train(2)
        torch.rand(5)
        guide.update(strokes(shape))
        guide.train(1)
        predictions.append(guide.predict())
    first, second = predictions
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.spots == second.spots


def test_another_seed_gives_another_prediction():
    """The seed reaches the trees."""
    first, second = (quick_guide(seed=seed).update(strokes()) for seed in (0, 1))
    assert not np.array_equal(first.probabilities, second.probabilities)


def test_random_numbers_of_the_caller_stay():
    """Making, training and asking leave torch's and NumPy's generators alone."""
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    guide = quick_guide()
    guide.update(strokes())
    guide.train(1)
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


def test_training_joins_the_answer(device):
    """With the answer left to the network, steps make it better than none."""
    scribbles = np.where(np.arange(64)[:, None] % 8 < 2, TRUTH, UNLABELED).astype(np.uint8)
    guide = Guide(device, 3, settings=GuideSettings(network_share=1, min_agreement=0))
    guide.update(scribbles)
    guide.train(1)
    poor = guide.predict()
    guide.train(15)
    assert accuracy(guide.predict()) > max(0.8, accuracy(poor) + 0.1)


def test_training_before_any_stroke_does_nothing(device):
    """There is nothing to learn."""
    guide = quick_guide(device)
    guide.train(3)
    assert (guide.predict().uncertainty == 1).all()


def test_prior_corrects_the_classifier():
    """The same strokes give more with it, on a device that it has never seen."""
    drawn = make_image("gate", "C", seed=5, shape=(256, 256)).without_databar()
    scribbles = first_strokes(drawn.label_map, np.random.default_rng(0))
    right = []
    for share in (0, 1):
        guide = Guide(drawn.image, 4, settings=GuideSettings(prior_share=share))
        right.append((guide.update(scribbles).label_map == drawn.label_map).mean())
    assert right[1] > right[0] + 0.01


def test_erased_stroke_is_forgotten(device):
    """An answer depends on what is drawn now, not on what was."""
    right = np.full(TRUTH.shape, UNLABELED, np.uint8)
    right[8:11, 5:20], right[30:33, 5:20], right[54:57, 5:20] = 0, 1, 2
    wrong = right.copy()
    wrong[50:60, 25:60] = 0
    guide = Guide(device, classes=3)
    guide.update(right)
    misled = guide.update(wrong)
    undone = guide.update(right)
    assert accuracy(undone) > accuracy(misled)


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


def test_saved_guide_goes_on(tmp_path, device):
    """Loaded into another guide, the network believes the same."""
    settings = replace(QUICK, network_share=1, min_agreement=0)
    first, second, third = (Guide(device, 3, settings=settings, seed=seed) for seed in (1, 2, 3))
    scribbles = np.where(np.arange(64)[:, None] % 8 < 2, TRUTH, UNLABELED).astype(np.uint8)
    first.update(scribbles)
    first.train(2)
    expected = first.predict().probabilities
    first.save(tmp_path / "a.safetensors")
    for guide in (second, third):
        guide.load(tmp_path / "a.safetensors")
    np.testing.assert_allclose(second.update(scribbles).probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(third.predict().probabilities, expected, atol=1e-6)


def test_answer_before_survives_on_disk(tmp_path):
    """A guide that was let go gives the next answer that it would have given in memory."""
    first, second, other = quick_guide(), quick_guide(), quick_guide()
    scribbles = strokes()
    first.update(scribbles)
    assert not first.is_saved
    first.save(tmp_path / "a.safetensors")
    assert first.is_saved
    second.load(tmp_path / "a.safetensors")
    more = with_one_more(scribbles)
    expected = first.update(more).probabilities
    np.testing.assert_array_equal(second.update(more).probabilities, expected)
    assert np.abs(other.update(more).probabilities - expected).max() > 0.02


@pytest.mark.parametrize(("shape", "classes"), [((64, 196), 2), (SHAPE, 3)])
def test_guide_of_something_else_is_refused(tmp_path, shape, classes):
    """Another image or number of classes; the guide goes on with its own."""
    quick_guide(layers(shape), classes=classes).save(tmp_path / "a.safetensors")
    guide = quick_guide()
    with pytest.raises(ValueError, match="of another image"):
        guide.load(tmp_path / "a.safetensors")
    assert guide.update(strokes()).label_map.shape == SHAPE


def test_network_counts_once_it_has_learned():
    """Not before it repeats most of what it was taught."""
    guide = Guide(layers(), 2, settings=replace(QUICK, min_agreement=1.01))
    answer = guide.update(strokes()).probabilities
    guide.train(1)
    np.testing.assert_array_equal(guide.predict().probabilities, answer)
    willing = Guide(layers(), 2, settings=replace(QUICK, min_agreement=0))
    willing.update(strokes())
    willing.train(1)
    assert np.abs(willing.predict().probabilities - answer).max() > 1e-3


def test_memory_is_told():
    """More once a network is trained: its weights, gradients and moments."""
    guide = quick_guide()
    guide.update(strokes())
    opened = guide.nbytes
    guide.train(1)
    assert guide.nbytes > opened + 4 * 4 * 3_000_000


def test_larger_image_takes_more_memory():
    """The cache of the service counts on it."""
    small, large = (quick_guide(layers((64, side))).nbytes for side in (64, 640))
    assert large > small + 64 * 576 * 4


def test_memory_does_not_grow():
    """Twenty turns on a small image leave no tensor behind, and the peak where it was."""
    guide, scribbles = quick_guide(), strokes()
    for _ in range(5):
        guide.update(scribbles)
        guide.train(1)
        guide.predict()
    gc.collect()
    tensors, peak_kb = count_tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        guide.update(scribbles)
        guide.train(1)
        guide.predict()
    gc.collect()
    assert count_tensors() == tensors
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb < 30_000


def count_tensors():
    """Count the tensors that are alive."""
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_stroke_is_held_against_the_answer_before_it(monkeypatch):
    """OBAL's accuracy is that of the last answer: the inference result has seen the strokes."""
    seen = []
    monkeypatch.setattr(ImageNetwork, "train", lambda _, __, inference, ___: seen.append(inference))
    scribbles = strokes()
    drawn = scribbles != UNLABELED
    guide = quick_guide()
    answer = guide.update(scribbles).probabilities
    guide.train(1)
    guide.update(with_one_more(scribbles))
    guide.train(1)
    first, second = (inference[:, : SHAPE[0], : SHAPE[1]] for inference in seen)
    assert (first[:, drawn] == 0.5).all()
    np.testing.assert_allclose(second[:, drawn], answer[:, drawn], atol=0.05)  # kept by cells


def with_one_more(scribbles, label=1):
    """Add a short stroke at the lower border."""
    more = scribbles.copy()
    more[-3:-1, 2:9] = label
    return more


def test_asking_again_without_a_new_stroke_changes_nothing():
    """The answer before counts once, however often somebody asks."""
    guide, scribbles = quick_guide(), strokes()
    guide.update(scribbles)
    second = guide.update(with_one_more(scribbles)).probabilities
    third = guide.update(with_one_more(scribbles)).probabilities
    np.testing.assert_array_equal(second, third)


def test_erased_stroke_leaves_no_trace():
    """A wrong stroke is undone: the answer is that of a guide which never saw it."""
    guide, scribbles = quick_guide(), strokes()
    guide.update(scribbles)
    guide.update(with_one_more(scribbles, label=0))
    guide.train(1)
    guide.predict()
    undone, other = guide.update(scribbles), quick_guide()
    np.testing.assert_array_equal(undone.probabilities, other.update(scribbles).probabilities)
    for one in (guide, other):
        one.train(1)
    np.testing.assert_array_equal(guide.predict().probabilities, other.predict().probabilities)


def test_answer_before_steadies_the_next():
    """Where it was sure, but for classes drawn for the first time."""
    settings = [replace(QUICK, previous_share=share, prior_share=0) for share in (0.0, 0.6)]
    first = strokes(TRUTH.shape)
    more = with_one_more(first, label=2)
    answers = []
    for setting in settings:
        guide = Guide(TRUTH * 80, 3, settings=setting)
        before = guide.update(first)
        answers.append(guide.update(more).probabilities)
    fresh, steady = answers
    np.testing.assert_allclose(steady[2], fresh[2], atol=1e-5)
    weight = 0.6 * (1 - before.uncertainty)
    assert weight.max() > 0.2
    expected = (1 - weight) * fresh[:2] + weight * before.probabilities[:2] * (1 - fresh[2])
    np.testing.assert_allclose(steady[:2], expected, atol=0.03)  # cells are averaged


def test_more_correct_strokes_do_not_make_the_answer_worse():
    """On this gate a forest alone loses 4 points and more at its second turn."""
    drawn = make_image("gate", "A", seed=1)
    guide = Guide(drawn.image, len(drawn.materials))
    scribbles = first_strokes(drawn.label_map, np.random.default_rng(0))
    accuracies = []
    for _ in range(4):
        prediction = guide.update(scribbles)
        accuracies.append(np.mean(prediction.label_map == drawn.label_map))
        correct(scribbles, drawn.label_map, prediction.probabilities)
    assert np.diff(accuracies).min() > -0.005
    assert accuracies[-1] > accuracies[0] + 0.01
