"""A straight edge placed on the gray values: one robust fit of all pixels along a seed line.

Across the edge the model is a step blurred by a Gaussian, `left + A Phi((d - offset - slope t)/s)`
with d across and t along the seed; both plateaus may drift along the edge (wedge, damage). The
label says which boundary is meant, so a fit that finds another one is refused: the gray levels on
both sides must be those of the two materials, and starts 2 px to either side must lead to the same
line, not to a grain inside a material.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend.metrology.edge_shapes import PLAIN, EdgeShape
from backend.metrology.fit_quality import assess
from backend.metrology.results import Point
from backend.metrology.robust_fit import Rough, Solution, robust_fit, rough_fits
from backend.metrology.strips import Gray, Pixels, Strip, cut_strip, line_frame, moved_line

Floats = NDArray[np.float64]
Failure: TypeAlias = Literal[
    "too_few_lines",  # of the image lie along the seed
    "no_edge",  # the fit left the window
    "wrong_contrast",  # the levels on both sides are not those of the two materials
    "ambiguous_edge",  # several edges suit about as well
    "crowded",  # another edge is so close that both need to be fitted at once: `film_fit`
]

_CLEAR = 2.5  # sigma from an edge, from which on a pixel shows a plateau
_PLATEAU = 2.0  # the same, to tell the noise from
_KEPT = 1.5  # sigma of plateau without which a side cannot be fitted
_NARROW = 3.5  # sigma to either side, for the first fit
_REFITS = 2
_STRANGE = 0.1  # of the contrast, off the model in the mean profile: another edge
_SEEDS_PX = (0.0, -2.0, 2.0)
_PLACE_STEP_PX = 0.5  # between places looked at before
_RIVALS = 0.5  # of the squares that the best place explains: another one must be tried
_TINY = 1e-12
_SAME_PX, _OTHER_PX = 0.5, 1.5  # apart, two fits are surely the same line, surely are not
_RIVAL = 1.05  # times the best cost, a fit suits about as well
_WEAKEST = 0.4  # of the expected contrast is still the expected edge


@dataclass(frozen=True)
class Plateau:
    """Gray level a material shows close to the edge, and its robust spread (1 sigma)."""

    gray: float
    spread: float = 0.0


@dataclass(frozen=True)
class SideFitSettings:
    """What is known before the fit. Left and right are those of a walk from start to end."""

    window_px: float = 7.0  # pixels up to this far from the seed take part
    room_px: tuple[float, float] = (np.inf, np.inf)  # to the next edge on the left, on the right
    left: Plateau | None = None  # what the materials look like; measured near the edge, since
    right: Plateau | None = None  # wedge and damage change levels across an image
    sigma_px: float = 1.5  # blur to start from
    shape: EdgeShape = PLAIN  # of all edges between these materials
    min_lines: int = 5


@dataclass(frozen=True)
class SideFit:
    """A fitted edge."""

    start: Point  # the seed's ends, moved onto the edge
    end: Point
    covariance: Floats  # (2, 2), px^2: offset at the middle, slope (px per px); misfit included
    sigma_px: float  # blur
    left_gray: float
    right_gray: float
    noise: float  # 1 sigma of a pixel, grain included, in gray values
    chi2_red: float  # misfit to noise; 1 is a step blurred by a Gaussian
    n_lines: int
    shift_px: float  # from the seed, at the end where it is larger

    @property
    def cnr(self) -> float:
        """Contrast to noise."""
        return abs(self.right_gray - self.left_gray) / self.noise if self.noise else np.inf

    @property
    def length_px(self) -> float:
        """Distance of the ends."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))

    def u_px(self, along_px: float = 0.0) -> float:
        """Standard uncertainty of the edge's place, at a distance from its middle."""
        reach = np.array([1.0, along_px])
        return float(np.sqrt(reach @ self.covariance @ reach))


def fit_side(
    gray: Gray, start: Point, end: Point, settings: SideFitSettings | None = None
) -> SideFit | Failure:
    """Fit the edge near the straight line from `start` to `end`.

    Args:
        gray: The original intensities, linear and unclipped. Shape (H, W).
        start: One end of the seed, (row, column).
        end: The other end.
        settings: What is known before.

    Returns:
        The edge, or why there is none. Whether contrast, shift and misfit are good enough is for
        the caller to judge.
    """
    settings = settings or SideFitSettings()
    seed = (start, end)
    narrow = _NARROW * settings.sigma_px  # a neighbour nobody told of should not pull at once
    near = _reach(settings, settings.sigma_px, 0.0)
    reach = min(near[0], narrow), min(near[1], narrow)
    fit = _Attempt(cut_strip(gray, *seed, reach), seed, seed, settings.shape).fit(settings)
    for _ in range(_REFITS):
        if isinstance(fit, str):
            return fit
        moved = _mean_shift(fit, seed)
        if min(settings.room_px[0] + moved, settings.room_px[1] - moved) < _needed(fit.sigma_px):
            return "crowded"
        line = (fit.start, fit.end)
        wide = cut_strip(gray, *line, _reach(settings, fit.sigma_px, moved))
        fit = _Attempt(
            wide.within(*_uncrowded(wide, fit, settings.shape)), seed, line, settings.shape
        ).fit(settings)
        if isinstance(fit, str) or abs(_mean_shift(fit, line)) < _SAME_PX:
            break
    return fit


@dataclass(frozen=True)
class _Step:
    """The model of a side: its parameters are the fields of an edge, in this order.

    Offset and slope (px, at the ends of the line), ln sigma, left level and its drift, step and
    its drift.
    """

    along: Floats  # (N,), -1..1 from end to end
    across_px: Floats  # (N,)
    shape: EdgeShape = PLAIN

    def __call__(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Gray values (N,) and their derivatives (7, N)."""
        offset, slope, log_sigma, left, left_drift, step, step_drift = parameters
        sigma = np.exp(min(max(log_sigma, -1.5), 3.0))
        across = self.across_px - offset - slope * self.along
        level, rise, bend = self.shape.derivatives(across, sigma)
        height = step + step_drift * self.along
        derivatives = np.empty((7, len(across)))
        derivatives[0] = -height * rise
        derivatives[1] = derivatives[0] * self.along
        derivatives[2] = height * bend * sigma**2
        derivatives[3], derivatives[4] = 1, self.along
        derivatives[5], derivatives[6] = level, level * self.along
        return left + left_drift * self.along + height * level, derivatives


@dataclass(frozen=True)
class _Profile:
    """Steps of one blur that suit the pixels best, at any place across."""

    cells: Pixels
    sigma_px: float
    shape: EdgeShape = PLAIN

    def starts(self) -> list[Floats]:
        """Where to start: at the place that suits best, and around the seed if others rival it."""
        across = self.cells.across_px
        first, last = float(across.min()) + 1, float(across.max()) - 1
        count = max(int((last - first) / _PLACE_STEP_PX), 0)
        places: Floats = first + _PLACE_STEP_PX * np.arange(count + 1, dtype=np.float64)
        explained, parameters = self._at(places)
        beside = np.pad(explained, 1, constant_values=-np.inf)
        peaks = (explained >= beside[:-2]) & (explained >= beside[2:])
        if np.count_nonzero(peaks & (explained >= _RIVALS * explained.max())) == 1:
            return [parameters[explained.argmax()]]
        around = [px for px in _SEEDS_PX if first <= px <= last] or [0.0]
        return list(self._at(np.array(around))[1])

    def _at(self, places_px: Floats) -> tuple[Floats, Floats]:
        """The squares (S,) that a step at each place (S,) explains, and its parameters (S, 7)."""
        cells, pixels = self.cells, self.cells.counts.sum()
        phi = self.shape.profile(cells.across_px - places_px[:, None], self.sigma_px)
        mean, mean_phi = cells.counts @ cells.values / pixels, phi @ cells.counts / pixels
        phi -= mean_phi[:, None]
        covariance = phi @ (cells.counts * (cells.values - mean))
        step = covariance / np.maximum(phi**2 @ cells.counts, _TINY)
        parameters = np.zeros((len(places_px), 7))
        parameters[:, 0], parameters[:, 2] = places_px, np.log(self.sigma_px)
        parameters[:, 3], parameters[:, 5] = mean - step * mean_phi, step
        return covariance * step, parameters


@dataclass(frozen=True)
class _Attempt:
    """One fit to the pixels of one strip around `line`."""

    strip: Strip
    seed: tuple[Point, Point]
    line: tuple[Point, Point]
    shape: EdgeShape

    def fit(self, settings: SideFitSettings) -> SideFit | Failure:
        """The edge of this strip, or why there is none."""
        valid = self.strip.valid
        if np.count_nonzero(valid.any(axis=1)) < settings.min_lines:
            return "too_few_lines"
        cells, pixels = self.strip.cells(), self.strip.pixels()
        rough = rough_fits(
            self._model(cells), cells, _Profile(cells, settings.sigma_px, self.shape).starts()
        )
        best = min(rough, key=lambda one: one.cost)
        solution = robust_fit(self._model(pixels), pixels, best.parameters)
        offset, slope, log_sigma = solution.parameters[:3]
        if not abs(offset) + abs(slope) < np.abs(pixels.across_px).max() > np.exp(log_sigma):
            return "no_edge"
        fit = self._describe(solution)
        if not _is_expected(fit, settings):
            return "wrong_contrast"
        return "ambiguous_edge" if _has_rival(solution, rough, fit) else fit

    def _model(self, pixels: Pixels) -> _Step:
        return _Step(pixels.along_px / _half(self.line), pixels.across_px, self.shape)

    def _describe(self, solution: Solution) -> SideFit:
        offset, slope, log_sigma, left, _, step, _ = solution.parameters
        half, sigma = _half(self.line), float(np.exp(log_sigma))
        z = (self.strip.across_px[self.strip.valid] - offset) / sigma
        quality = assess(self.strip, solution, np.abs(z) > _PLATEAU, key=0)
        scale = np.diag([1, 1 / half])
        ends = moved_line(self.line, offset, slope / half)
        return SideFit(
            start=ends[0],
            end=ends[1],
            covariance=scale @ quality.covariance[:2, :2] @ scale,
            sigma_px=sigma,
            left_gray=float(left),
            right_gray=float(left + step),
            noise=quality.noise,
            chi2_red=quality.chi2_red,
            n_lines=int(np.count_nonzero(self.strip.valid.any(axis=1))),
            shift_px=max(abs(shift) for shift in _shifts(ends, self.seed)),
        )


def _uncrowded(strip: Strip, fit: SideFit, shape: EdgeShape) -> tuple[float, float]:
    """The reach of a strip around a fit, up to where another edge shows in the mean profile."""
    counts = np.maximum(strip.valid.sum(axis=0), 1)
    step = fit.right_gray - fit.left_gray
    excess = strip.values - fit.left_gray - step * shape.profile(strip.across_px, fit.sigma_px)
    means = np.where(strip.valid, excess, 0).sum(axis=0) / counts
    strange = np.abs(means) > np.maximum(_STRANGE * abs(step), 4 * fit.noise / np.sqrt(counts))
    places = strip.across_px.mean(axis=0)[strange & (counts >= counts.max() / 2)]
    clear = _needed(fit.sigma_px) - _KEPT * fit.sigma_px
    reach = strip.across_px[strip.valid]
    left = [-place - 1 for place in places if place < -clear - 1]
    right = [place - 1 for place in places if place > clear + 1]
    return min([-float(reach.min()), *left]), min([float(reach.max()), *right])


def _needed(sigma_px: float) -> float:
    return (_CLEAR + _KEPT) * sigma_px


def _reach(settings: SideFitSettings, sigma_px: float, moved_px: float) -> tuple[float, float]:
    """How far pixels take part on both sides, if the edge lies at `moved_px`."""
    rooms = settings.room_px[0] + moved_px, settings.room_px[1] - moved_px
    left, right = (
        min(settings.window_px, max(room - _CLEAR * sigma_px, _KEPT * sigma_px)) for room in rooms
    )
    return left, right


def _is_expected(fit: SideFit, settings: SideFitSettings) -> bool:
    """Whether both levels are those of the materials, and not of grains inside one of them."""
    if settings.left is None or settings.right is None:
        return True
    expected = settings.right.gray - settings.left.gray
    if (fit.right_gray - fit.left_gray) / (expected or np.nan) <= _WEAKEST:
        return False
    pairs = ((fit.left_gray, settings.left), (fit.right_gray, settings.right))
    return all(
        abs(gray - plateau.gray) <= max(abs(expected) / 2, 2 * plateau.spread)
        for gray, plateau in pairs
    )


def _has_rival(solution: Solution, rough: Sequence[Rough], fit: SideFit) -> bool:
    """Whether another start has led elsewhere and suits about as well."""
    cost = min(one.cost for one in rough)
    rivals = [one.parameters[:2] for one in rough if one.cost <= _RIVAL * cost]
    apart = [float(np.abs(rival - solution.parameters[:2]).sum()) for rival in rivals]
    return max(apart) > min(max(_SAME_PX, 3 * fit.u_px(fit.length_px / 2)), _OTHER_PX)


def _half(line: tuple[Point, Point]) -> float:
    return float(np.hypot(line[1][0] - line[0][0], line[1][1] - line[0][1])) / 2


def _shifts(ends: Sequence[Point], seed: tuple[Point, Point]) -> tuple[float, float]:
    """How far the ends of a line lie to the right of the seed."""
    middle, _, across = line_frame(*seed)
    first, last = (float((np.array(end) - middle) @ across) for end in ends)
    return first, last


def _mean_shift(fit: SideFit, line: tuple[Point, Point]) -> float:
    return sum(_shifts((fit.start, fit.end), line)) / 2
