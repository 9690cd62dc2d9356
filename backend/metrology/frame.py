"""Which way is up: an image's interface → the frame that CDs are measured in.

u runs along the reference interface to the right, v along its normal, away from the substrate,
both in isotropic pixels. Nothing is resampled: coordinates are turned and scaled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from backend.metrology.contours import Line, Points
from backend.metrology.results import Point

PASSES = 3  # of robust re-weighting
_TUKEY = 4.685  # residual, in sigma, from which on a point has no weight
_FLOOR_PX = 0.1  # sigma of residuals at least: perfect points must not lose their weight
_BREAK_PX = 2  # columns or rows without interface that end a fragment
_LEAST_SPAN_PX = 8  # of a fragment, for its own slope to count
_AGREE_SIGMA = 3.0  # that two slopes may differ by and still be one
_MAX_U_DEG = 1.0  # of a tilt that is still believed


@dataclass(frozen=True)
class Frame:
    """A turned and scaled coordinate system.

    Example:
        >>> Frame(tilt_deg=0).to_uv(np.array([[2.0, 5.0]])).tolist()
        [[5.0, -2.0]]
    """

    tilt_deg: float  # the interface falls to the right by this angle
    tilt_u_deg: float = 0.0
    row_scale: float = 1.0  # isotropic pixels per row
    column_scale: float = 1.0
    flags: tuple[str, ...] = ()

    def to_uv(self, points: Points) -> Points:
        """(row, column) points as (u, v); any shape that ends in 2."""
        x, y = points[..., 1] * self.column_scale, points[..., 0] * self.row_scale
        cos, sin = self._direction()
        return np.stack([x * cos + y * sin, x * sin - y * cos], axis=-1)

    def to_px(self, uv: Points) -> Points:
        """(u, v) points as (row, column); any shape that ends in 2."""
        u, v = uv[..., 0], uv[..., 1]
        cos, sin = self._direction()
        rows = (u * sin - v * cos) / self.row_scale
        return np.stack([rows, (u * cos + v * sin) / self.column_scale], axis=-1)

    def point(self, u: float, v: float) -> Point:
        """One (u, v) as (row, column)."""
        row, column = self.to_px(np.array([u, v])).tolist()
        return row, column

    def _direction(self) -> tuple[float, float]:
        angle = math.radians(self.tilt_deg)
        return math.cos(angle), math.sin(angle)


@dataclass(frozen=True)
class StraightLine:
    """A line through points, by total least squares."""

    angle_deg: float  # from the first axis to the second
    angle_u_deg: float
    residual_px: float  # 1 sigma
    length_px: float  # that the points span


def fit_straight_line(points: Points, alike: float = 1.0) -> StraightLine:
    """Total least squares with robust re-weighting; outliers lose their weight.

    Args:
        points: (x, y), ordered along the line. Shape (N, 2), N >= 3.
        alike: How many neighbouring points count as one at least: those of a fragment.

    Example:
        >>> line = fit_straight_line(np.array([[0.0, 0], [10, 1], [20, 2], [30, 3]]))
        >>> round(line.angle_deg, 3), round(line.length_px, 2)
        (5.711, 30.15)
    """
    weights = np.ones(len(points))
    for _ in range(PASSES + 1):
        center = np.average(points, axis=0, weights=weights)
        around = points - center
        covariance = (around * weights[:, None]).T @ around
        _, vectors = np.linalg.eigh(covariance)
        along = vectors[:, 1] * (1 if vectors[0, 1] >= 0 else -1)
        residuals = around @ np.array([-along[1], along[0]])
        spread = np.median(np.abs(residuals[weights > 0]))
        sigma = max(1.4826 * float(spread), _FLOOR_PX)
        weights = np.clip(1 - (residuals / (_TUKEY * sigma)) ** 2, 0, None) ** 2
    kept = weights > 0
    places = (around @ along)[kept]
    angle = math.degrees(math.atan2(along[1], along[0]))
    error = math.degrees(slope_error(places, residuals[kept], alike))
    length = float(np.ptp(places))
    return StraightLine(angle, error, float(residuals[kept].std()), length)


def slope_error(places: Line, residuals: Line, alike: float = 1.0) -> float:
    """Standard error of a fitted slope whose residuals may be alike from point to point."""
    spread = float(np.sum((places - places.mean()) ** 2))
    if spread == 0 or len(places) < 3:  # noqa: PLR2004  (a line through two points has no error)
        return math.inf
    variance = float(np.sum(residuals**2)) / (len(places) - 2)
    return math.sqrt(variance * max(correlation_length(residuals), alike) / spread)


def correlation_length(residuals: Line) -> float:
    """How many neighbouring residuals count as one: 1 + 2 x the sum of their correlations.

    Example:
        >>> correlation_length(np.array([1.0, -1, 1, -1]))
        1.0
    """
    centered = residuals - residuals.mean()
    power = float(centered @ centered)
    if power == 0:
        return 1.0
    total = 1.0
    for lag in range(1, len(centered) // 3 + 1):
        correlation = float(centered[lag:] @ centered[:-lag]) / power
        if correlation <= 0:
            break
        total += 2 * correlation
    return min(total, len(centered) / 2)


def fragments(points: Points, trim_fraction: float | None) -> list[Points]:
    """Cut an interface where it breaks off; keep the central part of each piece.

    points: (row, column), sorted by column. (N, 2)
    """
    if not len(points):
        return []
    breaks = np.flatnonzero(np.abs(np.diff(points, axis=0)).max(axis=1) > _BREAK_PX) + 1
    pieces = np.split(points, breaks)
    if trim_fraction is None:
        return pieces
    return [piece[_central(len(piece), trim_fraction)] for piece in pieces]


def _central(count: int, fraction: float) -> slice:
    margin = int(count * (1 - fraction) / 2)
    return slice(margin, count - margin)


@dataclass(frozen=True)
class Limits:
    """When an interface is refused as a reference."""

    max_tilt_deg: float
    min_baseline_px: float


def along_axes(untilted: Frame, axes: list[Points], limits: Limits) -> Frame:
    """The frame whose v runs along the mid-lines of structures.

    Args:
        untilted: Scales of the image.
        axes: (row, column) points of the mid-line of each. Shapes (N, 2).
        limits: When to refuse; the baseline is that of all mid-lines together.

    Returns:
        The frame, or the untilted one with flag `no_align`.
    """
    upward = np.array([-untilted.row_scale, untilted.column_scale])
    lines = [fit_straight_line(axis * upward) for axis in axes if len(axis) >= 3]  # noqa: PLR2004  (less is no line)
    lengths = np.array([line.length_px for line in lines])
    if lengths.sum() < limits.min_baseline_px:
        return replace(untilted, flags=("no_align",))
    share = lengths / lengths.sum()
    angles = np.array([line.angle_deg for line in lines])
    tilt = float(share @ angles)
    u = math.sqrt(
        sum((one * line.angle_u_deg) ** 2 for one, line in zip(share, lines, strict=True))
    )
    scatter = float(angles.std(ddof=1)) / math.sqrt(len(angles)) if len(angles) > 1 else 0.0
    return _turned(untilted, tilt, max(u, scatter), limits)


def aligned(untilted: Frame, pieces: list[Points], limits: Limits) -> Frame:
    """The frame whose u runs along an interface.

    Args:
        untilted: Scales of the image.
        pieces: (row, column) points of the interface, piece by piece.
        limits: When to refuse; the baseline is that of all pieces together.

    Returns:
        The frame, or the untilted one with flag `no_align`: widths are then not to be trusted.
    """
    points = np.concatenate(pieces) if pieces else np.zeros((0, 2))
    if len(points) < limits.min_baseline_px / 2:
        return replace(untilted, flags=("no_align",))
    scales = np.array([untilted.column_scale, untilted.row_scale])
    line = _common_line([piece[:, ::-1] * scales for piece in pieces])
    if line.length_px < limits.min_baseline_px:
        return replace(untilted, flags=("no_align",))
    return _turned(untilted, line.angle_deg, line.angle_u_deg, limits)


def _common_line(pieces: list[Points]) -> StraightLine:
    """The direction of an interface that may lie on several levels, as trenches and fin tops do.

    One line through all pieces knows it best if they lie on one level; if not, what sets the
    levels apart looks like tilt. The slope within pieces does not know of levels: the line must
    agree with it, and its error, which the levels enlarge, must be the smaller one.

    pieces: (x, y) points of each. Shapes (N, 2).
    """
    points = np.concatenate(pieces)
    alike = len(points) / len(pieces) if len(pieces) > 1 else 1.0
    whole = fit_straight_line(points, alike)
    long = [piece for piece in pieces if np.ptp(piece[:, 0]) >= _LEAST_SPAN_PX]
    if len(pieces) == 1 or not long:
        return whole
    within = fit_straight_line(np.concatenate([piece - piece.mean(axis=0) for piece in long]))
    error = max(within.angle_u_deg, _scatter_u_deg(long, within.angle_deg), _staircase_u_deg(long))
    apart = abs(whole.angle_deg - within.angle_deg)
    if whole.angle_u_deg < error and apart < _AGREE_SIGMA * math.hypot(whole.angle_u_deg, error):
        return whole
    return replace(within, angle_u_deg=error, length_px=whole.length_px)


def _scatter_u_deg(pieces: list[Points], angle_deg: float) -> float:
    """Standard error of a common slope from how those of single pieces differ from it.

    Long pieces count by their length cubed, as in a fit.
    """
    share = np.array([np.ptp(piece[:, 0]) for piece in pieces]) ** 3
    angles = np.array([fit_straight_line(piece).angle_deg for piece in pieces])
    return float(np.linalg.norm(share * (angles - angle_deg)) / share.sum())


def _staircase_u_deg(pieces: list[Points]) -> float:
    """Standard error of a common slope of pieces that pixels show as flat.

    What keeps to a row for n px may rise or fall by up to 1/n, rather by less: a triangular
    distribution. Pieces at a regular pitch may all err alike, so many know no more than one.
    Long pieces count by their length cubed, as in a fit.
    """
    spans = np.array([np.ptp(piece[:, 0]) for piece in pieces])
    return math.degrees(float(np.sum(spans**2) / np.sum(spans**3)) / math.sqrt(6))


def _turned(untilted: Frame, tilt_deg: float, u_deg: float, limits: Limits) -> Frame:
    """A frame of this tilt, or the untilted one with flag `no_align`.

    The error of the tilt counts where it does in the first order: in wall angles and cut levels.
    A length it changes by 1 - cos, 0.015 % at the most that is let pass.
    """
    if abs(tilt_deg) > limits.max_tilt_deg or u_deg > _MAX_U_DEG:
        return replace(untilted, flags=("no_align",))
    return replace(untilted, tilt_deg=tilt_deg, tilt_u_deg=u_deg)
