"""A fast first answer: extra trees on multi-scale filter features and position.

What ilastik, Weka and LabKit do, and the peer the guide has to beat. Device images are layered, so
the position in the image is a feature too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import ExtraTreesClassifier

from backend.arrays import UNLABELED, GrayImage, LabelMap, PixelFeatures, Probabilities

TREES = 100
MAX_PIXELS_PER_CLASS = 4000
"""Drawn pixels of one class beyond this are sampled: neighbors in a stroke say the same."""

_WORKERS = 2
_CHUNK_PIXELS = 2**18  # predicted at once: the trees copy the features to single precision


def pixel_features(image: GrayImage) -> PixelFeatures:
    """Describe each pixel by intensity, edges and texture at 0.5 to 16 px, and by its row.

    The row counts in units of the longer side. (H, W) -> (H, W, D), in half precision: noise is
    coarser, and the features are what an open task costs.
    """
    filtered = multiscale_basic_features(image, sigma_min=0.5, sigma_max=16, workers=_WORKERS)
    height, width = image.shape
    row = np.arange(height)[:, None, None] / max(height, width)
    position = np.broadcast_to(row.astype(np.float16), (height, width, 1))
    return np.concatenate([filtered.astype(np.float16), position], axis=2)


def classify_pixels(
    features: PixelFeatures, scribbles: LabelMap, classes: int, seed: int
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
    for start in range(0, flat.shape[0], _CHUNK_PIXELS):
        chunk = slice(start, start + _CHUNK_PIXELS)
        probabilities[trees.classes_, chunk] = trees.predict_proba(flat[chunk]).T
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
