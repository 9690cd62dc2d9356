"""The forests an annotator could use instead."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning.peers import ForestPeer


def two_textures():
    """Dark above bright, in noise, with a stroke in each. (64, 48)."""
    noise = np.random.default_rng(0).normal(0, 20, (64, 48))
    scribbles = np.full(noise.shape, UNLABELED, np.uint8)
    scribbles[10:14, 10:40], scribbles[50:54, 10:40] = 2, 0
    return np.where(np.arange(64)[:, None] < 32, 60, 180) + noise, scribbles


@pytest.mark.parametrize("kind", ["random forest", "extra trees"])
def test_forest_learns_two_materials(kind):
    """A class that nobody drew gets nothing; the same seed gives the same."""
    image, scribbles = two_textures()

    first, second = (ForestPeer(image, 3, kind, seed=1).update(scribbles) for _ in "12")

    assert first.shape == (3, 64, 48)
    np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)
    assert (first[1] == 0).all()
    assert (first[:, :25].argmax(axis=0) == 2).mean() > 0.95
    assert (first[:, 40:].argmax(axis=0) == 0).mean() > 0.95
    np.testing.assert_array_equal(first, second)


def test_extra_trees_tell_equal_layers_apart_by_their_row():
    """The plain recipe can't: above and below are the same noise."""
    image = np.random.default_rng(0).normal(0, 20, (64, 48))
    _, scribbles = two_textures()
    truth = np.where(np.arange(64) < 32, 2, 0)[:, None]

    plain, layered = (
        (ForestPeer(image, 3, kind, seed=0).update(scribbles).argmax(axis=0) == truth).mean()
        for kind in ("random forest", "extra trees")
    )

    assert layered > plain + 0.05
