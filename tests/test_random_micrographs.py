"""Random pictures show their scene, each in its own way."""

import numpy as np
import pytest

from backend.microscope.random_micrographs import photograph
from backend.microscope.random_scenes import draw_scene


@pytest.mark.parametrize("seed", range(6))
def test_picture_has_the_size_of_the_scene(seed):
    """8 bits, with contrast."""
    rng = np.random.default_rng(seed)
    label_map = draw_scene(rng, (97, 130))
    image = photograph(rng, label_map)
    assert (image.shape, image.dtype) == (label_map.shape, np.uint8)
    assert image.std() > 5


def test_same_seed_takes_the_same_picture():
    """And another seed another one."""
    label_map = draw_scene(np.random.default_rng(0), (96, 96))
    first, again, other = (photograph(np.random.default_rng(s), label_map) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_materials_are_often_told_apart_by_gray_and_sometimes_not():
    """Look-alikes are part of it: an answer then needs texture, place or strokes."""
    label_map = np.zeros((96, 96), np.uint8)
    label_map[:, 48:] = 1
    contrasts = []
    for seed in range(40):
        image = photograph(np.random.default_rng(seed), label_map).astype(float)
        gap = abs(image[:, :40].mean() - image[:, 56:].mean())
        contrasts.append(gap / image.std())
    assert np.mean(np.array(contrasts) > 1) > 0.3
    assert np.mean(np.array(contrasts) < 0.5) > 0.1
