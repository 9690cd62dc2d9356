"""How right a segmentation is: label map, truth and recommended spots → a few numbers.

Pixels whose truth is unknown count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import UNLABELED, LabelMap, Mask, Probabilities
from backend.learning.spots import Spot

EDGE_BAND_PX = 3
CONFIDENCE_BINS = 15


@dataclass(frozen=True)
class Scores:
    """How right one answer is, all from 0 to 1; NaN where there is no such pixel."""

    accuracy: float
    """Share of the pixels that are right."""
    mean_iou: float
    """Intersection over union, mean of the classes that the truth holds."""
    edge_band_accuracy: float
    """Share that is right within `EDGE_BAND_PX` of a true edge, where CDs are measured."""
    error_in_spots: float
    """Share that is wrong inside the recommended boxes."""
    error_elsewhere: float


def score(label_map: LabelMap, truth: LabelMap, spots: Sequence[Spot]) -> Scores:
    """Hold an answer against the truth, both (H, W)."""
    known = truth != UNLABELED
    right = label_map == truth
    recommended = np.zeros(truth.shape, bool)
    for spot in spots:
        recommended[spot.window] = True
    return Scores(
        accuracy=_share(right, known),
        mean_iou=mean_iou(label_map, truth),
        edge_band_accuracy=_share(right, edge_band(truth) & known),
        error_in_spots=_share(~right, recommended & known),
        error_elsewhere=_share(~right, ~recommended & known),
    )


def mean_iou(label_map: LabelMap, truth: LabelMap) -> float:
    """Intersection over union, mean of the classes in `truth`; both (H, W).

    Example:
        >>> mean_iou(np.array([[0, 1, 1, 0]]), np.array([[0, 0, 1, 255]]))
        0.5
    """
    known = truth != UNLABELED
    ious = []
    for label in np.unique(truth[known]):
        shown, true = (label_map == label) & known, truth == label
        ious.append(np.count_nonzero(shown & true) / np.count_nonzero(shown | true))
    return float(np.mean(ious)) if ious else float("nan")


def confusion_matrix(label_map: LabelMap, truth: LabelMap, classes: int) -> NDArray[np.int64]:
    """Count pixels by their true class (rows) and the class they were given (columns).

    Both of any one shape -> (classes, classes).

    Example:
        >>> confusion_matrix(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    known = truth != UNLABELED
    pairs = truth[known].astype(np.int64) * classes + label_map[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class, NaN where the truth holds none. (C, C) -> (C,).

    Example:
        >>> class_ious(np.array([[1, 1], [0, 0]])).tolist()
        [0.5, nan]
    """
    right, true = np.diag(confusion), confusion.sum(axis=1)
    either = true + confusion.sum(axis=0) - right
    return np.where(true > 0, right / np.maximum(either, 1), np.nan)


def edge_band(truth: LabelMap) -> Mask:
    """Pixels within `EDGE_BAND_PX` of a border between two known classes. (H, W) -> (H, W)."""
    edge = np.zeros(truth.shape, bool)
    edge[:-1] |= _differ(truth[:-1], truth[1:])
    edge[:, :-1] |= _differ(truth[:, :-1], truth[:, 1:])
    return ndi.binary_dilation(edge, iterations=EDGE_BAND_PX)


@dataclass(frozen=True)
class Reliability:
    """Is a guide right as often as it says? Pixels in bins of equal width of their confidence."""

    confidence: NDArray[np.float64]
    """Mean probability of the likeliest class in each bin; NaN where a bin is empty."""
    accuracy: NDArray[np.float64]
    """Share of the pixels that are right in each bin, likewise."""
    pixels: NDArray[np.int64]
    """In each bin."""

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap of accuracy and confidence, weighted by pixels (Guo et al. 2017, Eq. 3)."""
        filled = self.pixels > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float(np.average(gaps, weights=self.pixels[filled])) if filled.any() else np.nan


def reliability(probabilities: Probabilities, truth: LabelMap) -> Reliability:
    """Hold probabilities (C, H, W) against the truth (H, W).

    Example:
        >>> sure = np.array([[[0.8, 0.8, 0.8, 0.8]], [[0.2, 0.2, 0.2, 0.2]]], np.float32)
        >>> half_right = np.array([[0, 0, 1, 1]], np.uint8)
        >>> round(reliability(sure, half_right).expected_calibration_error, 3)
        0.3
    """
    known = truth != UNLABELED
    confidence = probabilities.max(axis=0)[known].astype(np.float64)
    right = (probabilities.argmax(axis=0) == truth)[known]
    places = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    pixels, confident, correct = (
        np.bincount(places, weights, CONFIDENCE_BINS) for weights in (None, confidence, right)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(confident / pixels, correct / pixels, pixels)


def _differ(first: LabelMap, second: LabelMap) -> Mask:
    return (first != second) & (first != UNLABELED) & (second != UNLABELED)


def _share(hits: Mask, region: Mask) -> float:
    return float(hits[region].mean()) if region.any() else float("nan")
