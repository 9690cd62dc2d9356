"""The pixels around a straight line, each with its place along the line and across it.

Nothing is resampled: a strip holds original gray values, one scan line (a row of the image for a
steep line, a column for a flat one) after the other, so that neighbours along an edge stand below
each other and noise that is alike from one scan line to the next can be recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.metrology.results import Point

Floats = NDArray[np.float64]
Gray = NDArray[Any]  # (H, W), linear intensities of any number type


_CELL_PX = 0.5  # across a line: adds a hundredth to a blur of 1.5 px
_CELLS_ALONG = 4  # scan lines are pooled in so many runs


@dataclass(frozen=True)
class Pixels:
    """Pixels of a strip, or means over cells of them."""

    values: Floats  # (K,)
    along_px: Floats  # (K,)
    across_px: Floats  # (K,)
    counts: Floats  # (K,), of pixels in each
    scatter: float = 0.0  # sum of squares within the cells


@dataclass(frozen=True)
class Strip:
    """N scan lines of M pixels around a line; points of the line have `across_px` 0."""

    values: Floats  # (N, M)
    along_px: Floats  # (N, M), from the middle of the line
    across_px: Floats  # (N, M), + is to the right when walking from start to end
    valid: NDArray[np.bool_]  # (N, M), inside the image, the window and the line's ends

    def within(self, before_px: float, beyond_px: float) -> Strip:
        """The same strip, narrowed to `across_px` from -before_px to beyond_px."""
        near = (self.across_px >= -before_px) & (self.across_px <= beyond_px)
        return Strip(self.values, self.along_px, self.across_px, self.valid & near)

    def pixels(self) -> Pixels:
        """All valid pixels."""
        values = self.values[self.valid]
        return Pixels(
            values, self.along_px[self.valid], self.across_px[self.valid], np.ones_like(values)
        )

    def cells(self) -> Pixels:
        """Means over cells of valid pixels that lie about as far across: far fewer than pixels.

        Example:
            >>> strip = cut_strip(np.array([[0, 5, 9]] * 80), (79.0, 1.0), (0.0, 1.0), (0, 1))
            >>> cells = strip.cells()
            >>> cells.values.tolist(), set(cells.counts.tolist())
            ([5.0, 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0], {20.0})
        """
        steps = np.floor(self.across_px[self.valid] / _CELL_PX).astype(np.int64)
        steps -= steps.min()
        runs = np.arange(len(self.valid)) * _CELLS_ALONG // len(self.valid)
        cell = steps * _CELLS_ALONG + np.broadcast_to(runs[:, None], self.valid.shape)[self.valid]
        counts = np.bincount(cell)
        used = counts > 0
        values, along, across = (
            np.bincount(cell, weights=part[self.valid])[used] / counts[used]
            for part in (self.values, self.along_px, self.across_px)
        )
        squares = float((self.values[self.valid] ** 2).sum() - counts[used] @ values**2)
        return Pixels(values, along, across, counts[used].astype(float), max(squares, 0.0))


def cut_strip(gray: Gray, start: Point, end: Point, reach_px: tuple[float, float]) -> Strip:
    """Collect the pixels around the line from `start` to `end`.

    Args:
        gray: Shape (H, W).
        start: One end of the line.
        end: The other one.
        reach_px: How far to go to the left and to the right of the walk from start to end.

    Example:
        >>> strip = cut_strip(np.array([[0, 5, 9]] * 2), (1.0, 1.0), (0.0, 1.0), (1, 1))
        >>> strip.across_px[strip.valid].tolist()
        [-1.0, 0.0, 1.0, -1.0, 0.0, 1.0]
        >>> strip.values[strip.valid].tolist()
        [0.0, 5.0, 9.0, 0.0, 5.0, 9.0]
    """
    middle, along, across = line_frame(start, end)
    steep = abs(along[0]) >= abs(along[1])
    main, other = (0, 1) if steep else (1, 0)
    first, last = sorted((start[main], end[main]))
    lines = np.arange(np.ceil(first - 1e-9), np.floor(last + 1e-9) + 1)
    centers = np.rint(middle[other] + (lines - middle[main]) * along[other] / along[main])
    steps = np.arange(
        -_half_width(reach_px, across[other]), _half_width(reach_px, across[other]) + 1
    )
    places: Floats = np.empty((2, len(lines), len(steps)))
    places[main], places[other] = lines[:, None], centers[:, None] + steps
    if across[other] < 0:  # pixels of a scan line from left to right of the walk
        places = places[:, :, ::-1]
    offsets = places - np.array(middle)[:, None, None]
    along_px, across_px = (
        np.asarray(np.tensordot(unit, offsets, 1), dtype=np.float64) for unit in (along, across)
    )
    rows, columns = places.astype(np.int64)
    inside = (rows >= 0) & (rows < gray.shape[0]) & (columns >= 0) & (columns < gray.shape[1])
    clipped = rows.clip(0, gray.shape[0] - 1), columns.clip(0, gray.shape[1] - 1)
    values = gray[clipped].astype(np.float64)
    half = np.hypot(end[0] - start[0], end[1] - start[1]) / 2
    valid = inside & np.isfinite(values) & (np.abs(along_px) <= half + 0.5)
    return Strip(values, along_px, across_px, valid).within(*reach_px)


def line_frame(start: Point, end: Point) -> tuple[Floats, Floats, Floats]:
    """Middle of a line, the unit vector along it, and the one to the right of it.

    Example:
        >>> [part.tolist() for part in line_frame((4.0, 1.0), (0.0, 1.0))]
        [[2.0, 1.0], [-1.0, 0.0], [0.0, 1.0]]
    """
    first, last = np.array(start, dtype=float), np.array(end, dtype=float)
    length = float(np.hypot(*(last - first)))
    if length == 0:
        raise ValueError(f"a line from {start} to {end} has no direction: give two points")
    along = (last - first) / length
    return (first + last) / 2, along, np.array([along[1], -along[0]])


def moved_line(line: tuple[Point, Point], offset_px: float, slope: float) -> tuple[Point, Point]:
    """A line moved to its right by `offset_px` at its middle, and turned by `slope` px a px.

    Example:
        >>> moved_line(((4.0, 1.0), (0.0, 1.0)), 0.5, 0.25)
        ((4.0, 1.0), (0.0, 2.0))
    """
    middle, along, across = line_frame(*line)
    half = float(np.hypot(line[1][0] - line[0][0], line[1][1] - line[0][1])) / 2
    (row, column), (last_row, last_column) = (
        (middle + t * along + (offset_px + slope * t) * across).tolist() for t in (-half, half)
    )
    return (row, column), (last_row, last_column)


def _half_width(reach_px: tuple[float, float], cosine: float) -> int:
    return int(np.ceil(max(reach_px) / abs(cosine))) + 1
