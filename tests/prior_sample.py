"""A small sample for the tests of the prior's training."""

import numpy as np

from backend.arrays import UNLABELED
from backend.learning.prior_samples import PriorSample

SIDE_PX = 128


def sample_of(seed=0):
    """Two layers; a third class is drawn at the second stage only; beliefs are of little use."""
    rng = np.random.default_rng(seed)
    label_map = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    label_map[50:], label_map[100:] = 1, 2
    image = (label_map * 90 + rng.integers(0, 30, label_map.shape)).astype(np.uint8)
    scribbles = np.full((2, SIDE_PX, SIDE_PX), UNLABELED, np.uint8)
    scribbles[:, 20:24, 30:90], scribbles[:, 70:74, 30:90] = 0, 1
    scribbles[1, 110:114, 30:90] = 2
    beliefs = np.full((2, 3, SIDE_PX // 2, SIDE_PX // 2), 85, np.uint8)
    beliefs[0, 2] = 0
    beliefs[0, 0, :25] = 250
    return PriorSample(image, label_map, scribbles, beliefs)
