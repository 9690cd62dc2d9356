"""Polygons on a pixel grid: which part of each pixel a polygon covers, and what lies at its centre.

Counting sample points keeps truth unbiased when their number per pixel side is odd: an even
number puts points on the borders of pixels, and ties move every edge the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from backend.arrays import LabelMap

SUPERSAMPLING = 9


def covered_fraction(
    polygon_px: BaseGeometry, shape: tuple[int, int], supersampling: int = SUPERSAMPLING
) -> NDArray[np.float32]:
    """Tell how much of each pixel lies inside a polygon.

    Args:
        polygon_px: Polygon or multipolygon of (column, row) points; pixel centres are integers.
        shape: Height and width of the grid.
        supersampling: Sample points per pixel side, odd.

    Returns:
        Covered share of each pixel, 0..1 in steps of 1/supersampling^2. Shape (H, W).

    Example:
        >>> half = shapely.box(-0.5, -0.5, 0.5, 0.8)
        >>> (9 * covered_fraction(half, (2, 2), supersampling=3)).round().tolist()
        [[9.0, 0.0], [3.0, 0.0]]
    """
    if supersampling < 1 or supersampling % 2 == 0:
        raise ValueError(f"supersampling is {supersampling}: use an odd number, 9 for truth")
    height, width = shape
    rows, columns, signs = _crossings(polygon_px, height, supersampling)
    # sample s of a row stands at column (s + 0.5) / supersampling - 0.5; first one past the edge:
    first = np.ceil((columns + 0.5) * supersampling - 0.5).astype(np.int64)
    first = np.clip(first, 0, width * supersampling)
    pixel, inside = np.divmod(first, supersampling)
    # Entering at sample `inside` of a pixel covers the rest of that pixel and all of those after it
    start = (rows // supersampling) * (width + 2) + pixel
    steps = np.bincount(start, signs * (supersampling - inside), height * (width + 2))
    steps += np.bincount(start + 1, signs * inside, height * (width + 2))
    samples = np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width]
    return (samples / supersampling**2).astype(np.float32)


def coverage_fractions(
    polygons_px: Sequence[BaseGeometry], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Share of each pixel taken by each polygon; the last one gets what the others leave.

    polygons_px: C polygons that tile the image -> fractions (C, H, W), summing to 1 over C.
    """
    named = [covered_fraction(polygon, shape) for polygon in polygons_px[:-1]]
    rest = 1 - np.sum(named, axis=0, dtype=np.float32)
    return np.stack([*named, np.clip(rest, 0, 1)])


def label_at_centers(polygons_px: Sequence[BaseGeometry], shape: tuple[int, int]) -> LabelMap:
    """Index of the polygon at each pixel centre, (H, W); the last gets what the others leave."""
    label_map = np.full(shape, len(polygons_px) - 1, dtype=np.uint8)
    for label, polygon in enumerate(polygons_px[:-1]):
        label_map[covered_fraction(polygon, shape, supersampling=1) > 0] = label
    return label_map


def _crossings(
    polygon_px: BaseGeometry, height: int, supersampling: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the outline crosses the lines of samples: line, column, +1 entering or -1 leaving."""
    starts, ends = _segments(polygon_px)
    top, bottom = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.ceil((top + 0.5) * supersampling - 0.5).astype(np.int64)
    last = np.ceil((bottom + 0.5) * supersampling - 0.5).astype(np.int64)  # half open, like `range`
    first, last = (np.clip(value, 0, height * supersampling) for value in (first, last))
    counts = last - first
    segment = np.repeat(np.arange(len(starts)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    row_px = (rows + 0.5) / supersampling - 0.5
    start, end = starts[segment], ends[segment]
    along = (row_px - start[:, 1]) / (end[:, 1] - start[:, 1])
    columns = start[:, 0] + along * (end[:, 0] - start[:, 0])
    return rows, columns, np.where(end[:, 1] < start[:, 1], 1.0, -1.0)


def _segments(polygon_px: BaseGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All edges of all rings, outer rings one way round and holes the other. Two of (N, 2)."""
    rings = shapely.get_rings(shapely.get_parts(shapely.orient_polygons(polygon_px)))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    joined = ring[1:] == ring[:-1]
    return points[:-1][joined], points[1:][joined]
