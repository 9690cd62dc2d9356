"""Label maps and probabilities → sub-pixel outlines of materials.

An outline is a bag of short segments: where lines cut it is all that measuring asks, and cutting
all of them at once is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from backend.arrays import LabelMap, Probabilities

Field: TypeAlias = NDArray[np.floating]  # (H, W), positive inside, zero on the outline
Points: TypeAlias = NDArray[np.floating]  # (..., 2)
Line: TypeAlias = NDArray[np.floating]  # (N,)


def label_field(label_map: LabelMap, classes: Sequence[int]) -> Field:
    """+0.5 in some classes and -0.5 elsewhere: zero halfway between two pixel centres. (H, W)."""
    return pixels_of(label_map, classes) - np.float32(0.5)


def pixels_of(label_map: LabelMap, classes: Sequence[int]) -> NDArray[np.bool_]:
    """Which pixels are of some classes, many times as fast as by `np.isin`. (H, W).

    Example:
        >>> pixels_of(np.array([[0, 1, 255]], np.uint8), [1, 255]).tolist()
        [[False, True, True]]
    """
    found = np.zeros(label_map.shape, dtype=bool)
    for index in classes:
        found |= label_map == index
    return found


def probability_field(probabilities: Probabilities, classes: Sequence[int]) -> Field:
    """How much likelier than any other class the likeliest of `classes` is, -1..1. (H, W).

    With P = p_A / (p_A + p_B) it is 2 P - 1. A film that never reaches 0.5 still has an outline
    where it overtakes its neighbours.
    """
    others = [index for index in range(len(probabilities)) if index not in classes]
    if not others:
        return np.ones(probabilities.shape[1:], dtype=np.float32)
    ours, theirs = probabilities[list(classes)].max(axis=0), probabilities[others].max(axis=0)
    return (ours - theirs) / np.maximum(ours + theirs, 1e-9)


def outlines(field: Field, corner: tuple[int, int] = (0, 0)) -> list[Points]:
    """Closed outlines of where a field is positive, the edge of the field taken as outside.

    Args:
        field: Positive inside.
        corner: Row and column of its first pixel in the image.

    Returns:
        Each outline's (row, column) points, (N, 2).

    Example:
        >>> [line.tolist() for line in outlines(np.array([[0.5]]))]
        [[[0.5, 0.0], [0.0, -0.5], [-0.5, 0.0], [0.0, 0.5], [0.5, 0.0]]]
    """
    padded = np.pad(field, 1, constant_values=-0.5)
    shift = np.array(corner, dtype=float) - 1
    return [line + shift for line in find_contours(padded, 0.0)]


def segments_of(lines: Sequence[Points]) -> Points:
    """The pieces of some polylines, (N, 2, 2): start and end of each."""
    pieces = [np.stack([line[:-1], line[1:]], axis=1) for line in lines if len(line) > 1]
    return np.concatenate(pieces) if pieces else np.zeros((0, 2, 2))


def crossings(segments: Points, levels: Line) -> tuple[NDArray[np.int64], Line]:
    """Where segments cross levels of their second coordinate.

    Args:
        segments: Starts and ends (across, along). Shape (N, 2, 2).
        levels: Rising values of `along`.

    Returns:
        Index of the level and `across` of each crossing.

    Example:
        >>> crossings(np.array([[[0.0, 0.0], [2.0, 2.0]]]), np.array([0.5, 1.0, 3.0]))
        (array([0, 1]), array([0.5, 1. ]))
    """
    start, end = segments[:, 0], segments[:, 1]
    low = np.minimum(start[:, 1], end[:, 1])
    high = np.maximum(start[:, 1], end[:, 1])
    first = np.searchsorted(levels, low, side="left")
    count = np.searchsorted(levels, high, side="left") - first  # half open: no vertex counts twice
    piece = np.repeat(np.arange(len(segments)), count)
    level = np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count) + first[piece]
    part = (levels[level] - start[piece, 1]) / (end[piece, 1] - start[piece, 1])
    return level, start[piece, 0] + part * (end[piece, 0] - start[piece, 0])


def extremes(segments: Points, levels: Line) -> tuple[Line, Line]:
    """Least and greatest crossing on each level, NaN where there is none. Two of (N,)."""
    level, across = crossings(segments, levels)
    low, high = np.full(len(levels), np.inf), np.full(len(levels), -np.inf)
    np.minimum.at(low, level, across)
    np.maximum.at(high, level, across)
    missed = np.isinf(low)
    low[missed] = high[missed] = np.nan
    return low, high


def first_stretch(
    segments: Points, levels: Line, after: Line, tolerance: float
) -> tuple[Line, Line]:
    """Where a line first enters an outline and leaves it again.

    Args:
        segments: (across, along) starts and ends. Shape (N, 2, 2).
        levels: Rising values of `along`, one a line. Shape (L,).
        after: Where each line is expected to enter. Shape (L,).
        tolerance: How far from there it may.

    Returns:
        Entry and exit of each line, NaN where it does not enter there.
    """
    level, across = crossings(segments, levels)
    fitting = across > after[level] - tolerance
    level, across = level[fitting], across[fitting]
    order = np.lexsort((across, level))
    level, across = level[order], across[order]
    begin = np.searchsorted(level, np.arange(len(levels)))
    count = np.searchsorted(level, np.arange(len(levels)), side="right") - begin
    entry, leave = np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    good = count >= 2  # noqa: PLR2004  (in and out)
    good[good] = across[begin[good]] < after[good] + tolerance
    entry[good], leave[good] = across[begin[good]], across[begin[good] + 1]
    return entry, leave


def interface_points(label_map: LabelMap, below: Sequence[int], above: Sequence[int]) -> Points:
    """Points between pixels where one material lies on another, sorted by column. (N, 2)."""
    lower, upper = pixels_of(label_map, below), pixels_of(label_map, above)
    rows, columns = np.nonzero(lower[1:] & upper[:-1])
    order = np.argsort(columns, kind="stable")
    return np.stack([rows[order] + 0.5, columns[order].astype(float)], axis=1)
