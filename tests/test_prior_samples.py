"""Samples for the prior: true strokes, beliefs of a classifier, the same for the same seed."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning import prior_samples
from backend.learning.prior_samples import draw_sample, make_samples

SIDE_PX = 128


pytestmark = pytest.mark.usefixtures("small_samples")


@pytest.mark.parametrize("device_share", [0, 1])
def test_strokes_are_true_and_grow(monkeypatch, device_share):
    """Of random scenes and of devices: each stage keeps what was drawn and adds to it."""
    monkeypatch.setattr(prior_samples, "_DEVICE_SHARE", device_share)
    sample = draw_sample(np.random.default_rng(3))
    assert sample.image.shape == sample.label_map.shape == (SIDE_PX, SIDE_PX)
    assert sample.scribbles.shape == (4, SIDE_PX, SIDE_PX)
    drawn = sample.scribbles != UNLABELED
    for scribbles, where in zip(sample.scribbles, drawn, strict=True):
        assert (scribbles[where] == sample.label_map[where]).all()
    shares = drawn.mean(axis=(1, 2))
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] > shares[0]


def test_beliefs_improve_with_the_strokes():
    """What the classifier believes sums to 1, and is right more often at the last stage."""
    right = []
    for seed in range(4):
        sample = draw_sample(np.random.default_rng(seed))
        assert np.abs(sample.beliefs.sum(axis=1, dtype=int) - 255).max() <= sample.beliefs.shape[1]
        believed = sample.beliefs.argmax(axis=1)
        right.append((believed == sample.label_map[::2, ::2]).mean(axis=(1, 2)))
    first, *_, last = np.mean(right, axis=0)
    assert last > first + 0.02


def test_same_seed_gives_the_same_sample():
    """To the bit."""
    first, again = (draw_sample(np.random.default_rng(5)) for _ in range(2))
    for name in vars(first):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_shards_that_are_there_are_kept(tmp_path):
    """A run that was interrupted goes on; the samples are those of seed and number."""
    first = make_samples(tmp_path, count=2, seed=7, workers=1)
    (tmp_path / "7-0001.npz").unlink()
    kept = (tmp_path / "7-0000.npz").stat().st_mtime_ns
    again = make_samples(tmp_path, count=2, seed=7, workers=1)
    assert (tmp_path / "7-0000.npz").stat().st_mtime_ns == kept
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.beliefs, other.beliefs)
