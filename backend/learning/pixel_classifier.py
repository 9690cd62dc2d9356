"""A fast first answer: extra trees on multi-scale filter features and position.

What ilastik, Weka and LabKit do, and the peer the guide has to beat. Device images are layered, so
the position in the image is a feature too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import ExtraTreesClassifier

from backend.arrays import UNLABELED, GrayImage, LabelMap, Probabilities

TREES = 100
MAX_PIXELS_PER_CLASS = 4000
"""Drawn pixels of one class beyond this are sampled: neighbors in a stroke say the same."""

_WORKERS = 2


def pixel_features(image: GrayImage) -> NDArray[np.float32]:
    """Describe each pixel by intensity, edges and texture at 0.5 to 16 px, and by its row.

    The row counts in units of the longer side. (H, W) -> (H, W, D).
    """
    filtered = multiscale_basic_features(image, sigma_min=0.5, sigma_max=16, workers=_WORKERS)
    height, width = image.shape
    row = np.arange(height, dtype=np.float32)[:, None, None] / max(height, width)
    return np.concatenate([filtered, np.broadcast_to(row, (height, width, 1))], axis=2)


def classify_pixels(
    features: NDArray[np.float32], scribbles: LabelMap, classes: int, seed: int
) -> Probabilities:
    """Learn the classes of the drawn pixels and predict those of all pixels.

    Args:
        features: From `pixel_features`. Shape (H, W, D).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        classes: Number of classes; one that nobody drew gets probability 0.
        seed: Fixes the trees.

    Returns:
        Shape (classes, H, W), summing to 1 over the classes.

    Raises:
        ValueError: Fewer than two classes are drawn.
    """
    chosen = _sample_drawn(scribbles.ravel(), np.random.default_rng(seed))
    labels = scribbles.ravel()[chosen]
    if len(np.unique(labels)) < 2:  # noqa: PLR2004 - nothing to tell apart
        raise ValueError("fewer than two classes are drawn: draw a stroke in another material")
    flat = features.reshape(-1, features.shape[-1])
    trees = ExtraTreesClassifier(
        TREES, n_jobs=_WORKERS, random_state=seed, class_weight="balanced"
    ).fit(flat[chosen], labels)
    probabilities = np.zeros((classes, flat.shape[0]), np.float32)
    probabilities[trees.classes_] = trees.predict_proba(flat).T
    return probabilities.reshape(classes, *scribbles.shape)


def _sample_drawn(labels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.intp]:
    """Choose up to `MAX_PIXELS_PER_CLASS` drawn pixels of each class."""
    chosen = []
    for label in np.unique(labels[labels != UNLABELED]):
        pixels = np.flatnonzero(labels == label)
        if len(pixels) > MAX_PIXELS_PER_CLASS:
            pixels = random.choice(pixels, MAX_PIXELS_PER_CLASS, replace=False)
        chosen.append(pixels)
    return np.concatenate(chosen) if chosen else np.empty(0, np.intp)
