"""Random scenes: each has materials one can draw on, and the kinds really occur."""

import numpy as np
import pytest

from backend.microscope import random_scenes
from backend.microscope.random_scenes import MIN_MATERIAL_PX, PAINTERS, draw_scene, smooth_noise


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(128, 128), (97, 160)])
def test_every_material_can_be_drawn_on(seed, shape):
    """Numbered without gaps, two or more, none too small."""
    label_map = draw_scene(np.random.default_rng(seed), shape)
    sizes = np.bincount(label_map.ravel())
    assert (label_map.shape, label_map.dtype) == (shape, np.uint8)
    assert 2 <= len(sizes) <= random_scenes.MAX_MATERIALS
    assert sizes.min() >= MIN_MATERIAL_PX


def test_same_seed_draws_the_same_scene():
    """And another seed another one."""
    first, again, other = (draw_scene(np.random.default_rng(s), (128, 128)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("painter", PAINTERS)
def test_every_painter_paints(painter):
    """It changes some scenes; where it has nothing to paint on it leaves them alone."""
    changed = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scene = random_scenes._layers(random_scenes._blank(rng, (128, 128)), rng)
        painted = painter(scene, rng)
        assert painted.label_map.shape == (128, 128)
        changed += bool((painted.label_map != scene.label_map).any())
    assert changed >= 3


def test_noise_has_mean_0_and_deviation_1():
    """Of any grain, also coarser than the image."""
    for grain_px in (1, 7, 500):
        noise = smooth_noise(np.random.default_rng(0), (64, 80), grain_px)
        assert noise.shape == (64, 80)
        assert abs(noise.mean()) < 1e-3
        assert noise.std() == pytest.approx(1, abs=0.01)


def test_coarser_grain_is_smoother():
    """Neighbors differ less."""
    fine, coarse = (
        np.abs(np.diff(smooth_noise(np.random.default_rng(0), (128, 128), grain_px))).mean()
        for grain_px in (2, 20)
    )
    assert fine > 3 * coarse
