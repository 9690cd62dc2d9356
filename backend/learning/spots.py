"""Where to scribble next: a few boxes, ranked, apart from each other, each with a reason.

Nearly every uncertain pixel lies at a boundary, and a boundary of finite blur is uncertain even
where it is right. So regions are ranked by their *excess* uncertainty, above what a boundary at
that distance shows in this image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans

from backend.arrays import UNLABELED, LabelMap, Probabilities, UncertaintyMap

MAX_SPOTS = 5
MIN_EXCESS = 0.02
"""Mean excess uncertainty in a box below which nothing is left to label there."""

_BOUNDARY_BLUR_PX = 3.0
_BOX_SHARE = 1 / 11
_MIN_BOX_PX = 16


@dataclass(frozen=True)
class Spot:
    """A box that the annotator should look at."""

    row: int
    """First row, px."""
    column: int
    """First column, px."""
    height: int
    width: int
    score: float
    """Mean uncertainty in the box, 0 to 1."""
    reason: str
    """Why, in words, e.g. "Metal or Oxide, 48/47 %"."""


def rank_spots(
    probabilities: Probabilities,
    uncertainty: UncertaintyMap,
    scribbles: LabelMap,
    class_names: Sequence[str],
) -> tuple[Spot, ...]:
    """Choose up to `MAX_SPOTS` boxes that do not overlap, the most doubtful first.

    Args:
        probabilities: Shape (C, H, W).
        uncertainty: 0 to 1. Shape (H, W).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        class_names: What to call the classes in the reasons.

    Returns:
        The boxes; none when nothing is left to label.
    """
    label_map = probabilities.argmax(axis=0).astype(np.uint8)
    excess = np.where(scribbles == UNLABELED, excess_uncertainty(uncertainty, label_map), 0)
    spots = []
    for row, column, size in _best_boxes(excess, MIN_EXCESS):
        rows, columns = slice(row, row + size), slice(column, column + size)
        reason = _reason(probabilities[:, rows, columns], excess[rows, columns], class_names)
        score = float(uncertainty[rows, columns].mean())
        spots.append(Spot(row, column, size, size, score, reason))
    return tuple(spots)


def excess_uncertainty(uncertainty: UncertaintyMap, label_map: LabelMap) -> UncertaintyMap:
    """Subtract what a correct boundary shows: (H, W), (H, W) -> (H, W), 0 to 1.

    A correct boundary is taken to show the median of all pixels as near to a boundary as this
    one, but no more than a boundary of 3 px blur would.
    """
    boundary = np.zeros(label_map.shape, dtype=bool)
    boundary[:-1] |= label_map[:-1] != label_map[1:]
    boundary[:, :-1] |= label_map[:, :-1] != label_map[:, 1:]
    if not boundary.any():
        return uncertainty
    distance_px = ndimage.distance_transform_edt(~boundary).astype(np.float32)
    ring = np.minimum(distance_px, 4 * _BOUNDARY_BLUR_PX).astype(np.intp)
    rings = np.arange(ring.max() + 1)
    typical = np.array(ndimage.median(uncertainty, ring, rings), np.float32)
    blurred = np.exp(-((rings / _BOUNDARY_BLUR_PX) ** 2)).astype(np.float32)
    return np.maximum(uncertainty - np.minimum(typical, blurred)[ring], 0)


def first_spots(features: NDArray[np.float32], count: int, seed: int) -> tuple[Spot, ...]:
    """Recommend first strokes: spread-out boxes that cover the different textures.

    Uncertainty says nothing before the first stroke, so the boxes are the ones closest to the
    centers of `count` clusters of texture.

    Args:
        features: From `pixel_features`. Shape (H, W, D).
        count: How many boxes, at most.
        seed: Fixes the clusters.
    """
    size = _box_px(*features.shape[:2])
    height, width = (side // size for side in features.shape[:2])
    tiles = features[: height * size, : width * size].reshape(height, size, width, size, -1)
    means = tiles.mean(axis=(1, 3)).reshape(height * width, -1)
    means = (means - means.mean(axis=0)) / (means.std(axis=0) + 1e-6)
    clusters = min(count, len(np.unique(means, axis=0)))
    distances = KMeans(clusters, n_init=4, random_state=seed).fit_transform(means)
    nearest = dict.fromkeys(distances.argmin(axis=0).tolist())
    return tuple(
        Spot(tile // width * size, tile % width * size, size, size, 1.0, "a texture of its own")
        for tile in nearest
    )


def _best_boxes(excess: UncertaintyMap, threshold: float) -> list[tuple[int, int, int]]:
    """Take the box of largest mean again and again, blanking all that would overlap it."""
    size = _box_px(*excess.shape)
    sums = np.pad(excess.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inner = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    means = inner / size**2  # of the box whose first pixel is here
    boxes: list[tuple[int, int, int]] = []
    while len(boxes) < MAX_SPOTS and means.max() >= threshold:
        row, column = (int(i) for i in np.unravel_index(means.argmax(), means.shape))
        boxes.append((row, column, size))
        means[max(0, row - size + 1) : row + size, max(0, column - size + 1) : column + size] = -1
    return boxes


def _box_px(height: int, width: int) -> int:
    return max(_MIN_BOX_PX, round(min(height, width) * _BOX_SHARE))


def _reason(probabilities: Probabilities, excess: UncertaintyMap, names: Sequence[str]) -> str:
    """Name the two likeliest classes of the doubtful pixels."""
    shares = (probabilities * excess).sum(axis=(1, 2)) / excess.sum()
    second, first = np.argsort(shares)[-2:]
    return (
        f"{names[first]} or {names[second]}, {100 * shares[first]:.0f}/{100 * shares[second]:.0f} %"
    )
