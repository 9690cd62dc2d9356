"""Edges placed on gray values: seed curves → fits of the original intensities near them.

A label or a model decides which boundary is meant; a fit may move it a little. What the two
materials look like is read right beside the seed, so a fit that has settled on grain inside one
of them shows a wrong contrast and is refused; the next tier is then believed, with a flag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.arrays import LabelMap
from backend.metrology.bodies import WALLS, EdgeName
from backend.metrology.border_profiles import border_profile
from backend.metrology.contours import Line, Points
from backend.metrology.curves import Curve, EdgeLine, EdgeMean
from backend.metrology.edge_fit import Plateau, SideFit, SideFitSettings, fit_side
from backend.metrology.edge_shapes import PLAIN, EdgeShape
from backend.metrology.frame import Frame
from backend.metrology.recipe import EdgeRules
from backend.metrology.results import EdgeQuality, Point
from backend.metrology.shape_evidence import edge_shape
from backend.metrology.strips import moved_line

MAX_CHI2 = 4.0
MAX_CLIPPED = 0.05  # of the pixels near an edge
MIN_CONTRAST = 0.5  # of that of the two materials
MAX_CONTRAST = 2.0
LEAST_STRETCH_PX = 12.0  # fitted at once, however narrow the band: noise falls, shape hardly moves
LEAST_SEGMENT_PX = 16.0
_DEPTH_PX = 16.0  # how far from an edge the next one is looked for
_SEED_OFF_PX = 2.0  # a drawn edge may be that wrong
_SKIN_PX = 2.5  # beside an edge, blurred
_PLATEAU_PX = 9.0
_BENT_PX = 0.05  # over a stretch: blur that is no Gaussian, pixels that are no points
VAGUE_PX = 0.35  # 1 sigma: a label is better than an edge whose step is that uncertain
_PLACES = 9  # along a stretch where its sides are looked at


@dataclass(frozen=True)
class GrayImage:
    """The intensities of an image, and what labels say where."""

    gray: NDArray[Any]  # (H, W)
    label_map: LabelMap  # (H, W)
    frame: Frame
    rules: EdgeRules
    _shapes: dict[tuple[int, int, bool], EdgeShape] = field(default_factory=dict, repr=False)

    def shape(self, left: int, right: int, *, is_steep: bool) -> EdgeShape:
        """What edges between two classes look like, all over the image."""
        if left > right:
            return self.shape(right, left, is_steep=is_steep).mirrored()
        key = (left, right, is_steep)
        if key not in self._shapes:
            gray, labels = self.gray, self.label_map
            if not is_steep:
                gray, labels = gray.T, labels.T
            profile = border_profile(gray, labels, left, right)
            self._shapes[key] = PLAIN if profile is None else edge_shape(profile)
        return self._shapes[key]


@dataclass(frozen=True)
class _Fitted:
    line: EdgeLine
    middle: EdgeMean


@dataclass(frozen=True)
class GrayCurve(Curve):
    """A seed curve whose stretches are fitted when they are asked for."""

    image: GrayImage | None = None
    edge: EdgeName = "left"
    _kept: dict[tuple[float, float], _Fitted | str] = field(default_factory=dict, repr=False)

    def mean(self, low: float, high: float) -> EdgeMean | None:
        """Position of the fitted edge in the middle of a stretch."""
        seed = super().mean(low, high)
        fitted = self._fit(*self._widened(low, high))
        if seed is None or isinstance(fitted, str):
            return None
        # single lines are those of the seed, moved onto the fit
        samples = seed.samples + fitted.middle.across - seed.across
        return replace(fitted.middle, u=math.hypot(fitted.middle.u, self._u_gray), samples=samples)

    def line(self, low: float, high: float) -> EdgeLine | None:
        """The fitted edge, if its parts agree with it."""
        fitted = self._fit(low, high)
        if isinstance(fitted, str) or self._parts_differ(low, high, fitted):
            return None
        return fitted.line

    @property
    def _u_gray(self) -> float:
        return self.image.rules.u_gray_px if self.image else 0.0

    def why_not(self, low: float, high: float) -> tuple[str, ...]:
        """The gate that a stretch did not pass."""
        for ends in ((low, high), self._widened(low, high)):
            fitted = self._kept.get(ends)
            if isinstance(fitted, str):
                return (fitted,)
        return ("parts_differ",)

    def _widened(self, low: float, high: float) -> tuple[float, float]:
        """A stretch that is long enough for a fit, as far as the curve goes."""
        asked = self.image.rules.average_along_px if self.image else 0
        middle, half = (low + high) / 2, max(high - low, LEAST_STRETCH_PX, asked) / 2
        known = self.along[np.isfinite(self.across)]
        if not len(known):
            return low, high
        half = min(half, max(middle - known[0], 0.0), max(known[-1] - middle, 0.0))
        return middle - half, middle + half

    def _parts_differ(self, low: float, high: float, whole: _Fitted) -> bool:
        """Whether thirds of a stretch lie elsewhere than the fit through all of it."""
        step = (high - low) / 3
        if step < LEAST_SEGMENT_PX:
            return False
        for number in range(3):
            part = self._fit(low + number * step, low + (number + 1) * step)
            if isinstance(part, str):
                return True
            middle = low + (number + 0.5) * step
            gap = part.middle.across - whole.line.across(middle)
            seed = self.at(np.linspace(middle - step / 2, middle + step / 2, 20))
            rough = float(np.nanstd(seed)) + 1
            if abs(gap) > 3 * part.middle.u + rough:
                return True
        return False

    def _fit(self, low: float, high: float) -> _Fitted | str:
        if (low, high) not in self._kept:
            self._kept[low, high] = self._fit_now(low, high)
        return self._kept[low, high]

    def _fit_now(self, low: float, high: float) -> _Fitted | str:
        image, along = self.image, np.linspace(low, high, 41)
        across = self.at(along)
        known = np.isfinite(across)
        if image is None or np.count_nonzero(known) < len(known) // 2 or high <= low:
            return "no_seed"
        slope, offset = np.polyfit(along[known], across[known], 1)
        ends = self._pixels(np.array([low, high]), offset + slope * np.array([low, high]))
        seed: tuple[Point, Point] = (
            (float(ends[0, 0]), float(ends[0, 1])),
            (float(ends[1, 0]), float(ends[1, 1])),
        )
        beside = look_beside(image, *seed)
        if isinstance(beside, str):
            return beside
        try:
            fit = fit_side(image.gray, *seed, beside)
        except np.linalg.LinAlgError:  # pixels that no edge explains
            return "no_edge"
        if isinstance(fit, str):
            return fit
        refused = refusal(image, fit, beside)
        return refused or self._described(fit, beside.shape, low, high)

    def _pixels(self, along: Line, across: Line) -> Points:
        uv = np.stack([across, along] if self.edge in WALLS else [along, across], axis=-1)
        assert self.image is not None  # noqa: S101  (a curve without an image fits nothing)
        return self.image.frame.to_px(uv)

    def _described(self, fit: SideFit, shape: EdgeShape, low: float, high: float) -> _Fitted:
        assert self.image is not None  # noqa: S101
        moved = moved_line((fit.start, fit.end), shape.shift_px, 0.0)
        ends = self.image.frame.to_uv(np.array(moved))
        along, across = (ends[:, ::-1] if self.edge in WALLS else ends).T
        slope = float((across[1] - across[0]) / (along[1] - along[0]))
        offset = float(across[0] - slope * along[0])
        # both sides of a structure have the same skin: their errors add up in a width
        u = math.hypot(fit.u_px(), math.sqrt(2) * shape.u_px)
        u_slope = math.hypot(math.sqrt(fit.covariance[1, 1]), _BENT_PX / (high - low))
        quality = EdgeQuality(fit.sigma_px, float(fit.cnr), fit.chi2_red)
        middle = offset + slope * (low + high) / 2
        return _Fitted(
            EdgeLine(slope, offset, u_slope, "gray", quality),
            EdgeMean(middle, u, np.array([middle]), "gray", quality),
        )


def gray_curve(image: GrayImage, seed: Curve, edge: EdgeName) -> GrayCurve:
    """The curve that refines a seed."""
    return GrayCurve(seed.along, seed.across, "gray", seed.error, image=image, edge=edge)


@dataclass(frozen=True)
class Beside:
    """What lies on one side of a seed."""

    material: int
    plateau: Plateau
    room_px: float  # to the next edge


def look_beside(image: GrayImage, start: Point, end: Point) -> SideFitSettings | str:
    """What the materials on both sides of a seed look like, and how much room they have.

    Returns:
        Settings of the fit, or the flag that says why none is possible.
    """
    first, last = np.array(start), np.array(end)
    along = (last - first) / np.hypot(*(last - first))
    places = first + np.linspace(0.05, 0.95, _PLACES)[:, None] * (last - first)
    to_right = np.array([along[1], -along[0]])
    left, right = (look_aside(image, places, way) for way in (-to_right, to_right))
    if isinstance(left, str) or isinstance(right, str):
        return left if isinstance(left, str) else str(right)
    if left.material == right.material:
        return "no_seed"
    is_steep = bool(abs(along[0]) >= abs(along[1]))
    shape = image.shape(left.material, right.material, is_steep=is_steep)
    if shape.u_px > VAGUE_PX:
        return "ambiguous_edge"
    rooms = left.room_px, right.room_px
    settings = SideFitSettings(image.rules.window_px, rooms, left.plateau, right.plateau)
    return replace(settings, shape=shape)


def look_aside(image: GrayImage, places: Points, way: Line) -> Beside | str:
    """What a walk from places (N, 2) meets, or the flag that says why it is of no use."""
    steps = np.arange(1.0, _DEPTH_PX, 0.5)
    points = places[:, None] + steps[None, :, None] * way
    rows, columns = (
        np.clip(np.rint(points[..., axis]).astype(int), 0, image.gray.shape[axis] - 1)
        for axis in (0, 1)
    )
    labels = image.label_map[rows, columns]
    beyond = steps >= _SEED_OFF_PX
    material = int(np.bincount(labels[:, beyond][:, 0]).argmax())
    leaves = (labels != material) & beyond
    room = np.where(leaves.any(axis=1), steps[leaves.argmax(axis=1)], np.inf)
    room_px = float(np.percentile(room, 20, method="lower"))
    deep = (steps >= _SKIN_PX) & (steps <= min(_PLATEAU_PX, max(room_px - 1.5, _SKIN_PX)))
    values = image.gray[rows, columns][:, deep].astype(float)
    values = values[np.isfinite(values)]  # dead pixels
    if not len(values):
        return "no_edge"
    if is_clipped(values):
        return "clipped"
    level = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - level)))
    return Beside(material, Plateau(level, spread), room_px)


def is_clipped(values: Line) -> bool:
    """Whether values pile up at their least or greatest, as those of a detector at its limit.

    The tail of a distribution thins out towards its end; a limit collects what lies beyond it.

    Example:
        >>> values = np.array([1, 2, 2, 3, 3, 3, 4, 4, 5])
        >>> is_clipped(values), is_clipped(np.minimum(values, 3))
        (False, True)
    """
    _, counts = np.unique(values, return_counts=True)
    ends = ((counts[0], counts[1:2]), (counts[-1], counts[-2:-1]))
    return any(count > MAX_CLIPPED * len(values) and count > beside.sum() for count, beside in ends)


def refusal(image: GrayImage, fit: SideFit, beside: SideFitSettings) -> str:
    """The first gate that a fit does not pass, "" if it passes all."""
    if fit.cnr < image.rules.min_cnr:
        return "low_cnr"
    if fit.shift_px > image.rules.max_shift_px:
        return "max_shift"
    if fit.chi2_red > MAX_CHI2:
        return "poor_fit"
    if beside.left is not None and beside.right is not None:
        expected = beside.right.gray - beside.left.gray
        share = (fit.right_gray - fit.left_gray) / expected if expected else 0.0
        if not MIN_CONTRAST <= share <= MAX_CONTRAST:
            return "wrong_contrast"
    return ""
