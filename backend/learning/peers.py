"""What an annotator could use instead of the guide: forests on filter features.

The recipe of ilastik, Trainable Weka and LabKit, on every pixel; and the best of its kind we know,
extra trees that also see the row.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.microscope.images import to_gray

TREES = 100
_WORKERS = 2  # as many as the guide has

Forest = Literal["random forest", "extra trees"]


class ForestPeer:
    """Learns the drawn pixels of one image, from scratch at each turn."""

    def __init__(self, image: NDArray[np.generic], classes: int, forest: Forest, seed: int) -> None:
        """Compute the features of all pixels.

        Args:
            image: Shape (H, W), of any depth.
            classes: Number of classes.
            forest: "random forest" is the plain recipe; "extra trees" see the row as well.
            seed: Fixes the trees.
        """
        gray = to_gray(image)
        features = multiscale_basic_features(gray, sigma_min=0.5, sigma_max=16, workers=_WORKERS)
        if forest == "extra trees":
            height, width = gray.shape
            row = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
            position = np.broadcast_to(row, (height, width, 1))
            features = np.concatenate([features, position], axis=2)
        self._features = features
        self._classes = classes
        self._kind = RandomForestClassifier if forest == "random forest" else ExtraTreesClassifier
        self._seed = seed

    def update(self, scribbles: LabelMap) -> Probabilities:
        """Learn all strokes (H, W), and predict every pixel, (C, H, W)."""
        drawn = scribbles != UNLABELED
        forest = self._kind(
            TREES, n_jobs=_WORKERS, random_state=self._seed, class_weight="balanced"
        ).fit(self._features[drawn], scribbles[drawn])
        flat = self._features.reshape(scribbles.size, -1)
        probabilities = np.zeros((self._classes, scribbles.size), np.float32)
        probabilities[forest.classes_] = forest.predict_proba(flat).T
        return probabilities.reshape(self._classes, *scribbles.shape)
