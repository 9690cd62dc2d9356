"""A film between two materials, placed on the gray values: both interfaces in one fit.

Fitted one after the other, the blurred interfaces of a thin film pull each other: at 4.3 sigma by
-0.15 to -0.2 px. Together they don't. Below that, thickness and contrast of a film can hardly be
told apart, so the film's own gray level decides how thin a film can be measured. The blur is
always fitted: known from other edges it would bring no film nearer to the truth, and one that is
10 % wrong, as at graded interfaces, takes a film of 3 px 0.15 px away from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.special import ndtr

from backend.metrology.edge_fit import Plateau
from backend.metrology.fit_quality import assess
from backend.metrology.results import Point
from backend.metrology.robust_fit import Solution, robust_fit, rough_fits
from backend.metrology.strips import Gray, Pixels, Strip, cut_strip, moved_line

Floats = NDArray[np.float64]
FilmFailure: TypeAlias = Literal[
    "too_few_lines",  # of the image lie along the seed
    "no_edge",  # the fit left the window, or would with a film level as likely as the known one
    "wrong_contrast",  # the levels are not those of the materials
    "thin_film",  # too thin without its gray level: use another tier
    "unresolved",  # so thin that no tier can tell
]
THICK = 4.0  # sigma, above which a film needs no gray level
RESOLVED = 2.0  # sigma, below which no tier knows a film without one
_THICK_INSIDE = 3.0  # sigma from a film's border, where its gray level is its own
_LEAST_PIXELS = 20
_BLUR_PX = 1.5  # to start from
_PLACE_PX = 5  # side of a place that has a level of its own
_SHARE_WRONG = 0.5  # of a contrast, off the expected level
_OFFSET, _SLOPE, _THICKNESS, _LOG_SIGMA, _LEFT, _FILM, _RIGHT = range(7)


@dataclass(frozen=True)
class Known:
    """A figure known from elsewhere, and how well."""

    value: float
    u: float = 0.0


@dataclass(frozen=True)
class FilmFitSettings:
    """What is known before the fit. The film lies to the right of the walk from start to end."""

    window_px: float = 7.0  # pixels up to this far from either interface take part
    room_px: tuple[float, float] = (np.inf, np.inf)  # to the next edges on the left, on the right
    film_gray: Known | None = None  # from where the film is thick
    left: Plateau | None = None  # what the neighbours look like, measured near the film
    right: Plateau | None = None
    min_lines: int = 5


@dataclass(frozen=True)
class FilmFit:
    """A fitted film."""

    thickness_px: float  # normal distance of its interfaces
    u_px: float  # of the thickness; misfit and the error of the known gray level included
    start: Point  # its first interface: the seed's ends, moved onto it
    end: Point
    covariance: Floats  # (2, 2), px^2: offset of that interface at its middle, slope
    sigma_px: float  # blur
    left_gray: float
    film_gray: float
    right_gray: float
    noise: float
    chi2_red: float
    n_lines: int

    @property
    def cnr(self) -> float:
        """Contrast to noise of the weaker interface."""
        weaker = min(abs(self.film_gray - gray) for gray in (self.left_gray, self.right_gray))
        return weaker / self.noise if self.noise else np.inf


def fit_film(
    gray: Gray,
    start: Point,
    end: Point,
    thickness_px: float,
    settings: FilmFitSettings | None = None,
) -> FilmFit | FilmFailure:
    """Fit both interfaces of a film at once, about 40 lines of it.

    Args:
        gray: The original intensities, linear and unclipped. Shape (H, W).
        start: One end of the first interface's seed, (row, column); the film lies to the right.
        end: The other end.
        thickness_px: The seed's thickness.
        settings: What is known before.
    """
    settings = settings or FilmFitSettings()
    reaches = settings.window_px, settings.window_px + thickness_px
    reach = min(reaches[0], settings.room_px[0]), min(reaches[1], settings.room_px[1])
    strip = cut_strip(gray, start, end, reach)
    n_lines = int(np.count_nonzero(strip.valid.any(axis=1)))
    if n_lines < settings.min_lines:
        return "too_few_lines"
    line = _FilmLine(strip, (start, end), n_lines)
    found = line.find(thickness_px, settings)
    if found is None:
        return "no_edge"
    fit = line.describe(found)
    refusal = _refusal(fit, settings)
    u_of_level = None if refusal else line.u_of_level(found, settings.film_gray)
    if u_of_level is None:
        return refusal or "no_edge"
    return replace(fit, u_px=float(np.hypot(fit.u_px, u_of_level)))


def thick_gray(gray: Gray, film: NDArray[np.bool_], sigma_px: float) -> Plateau | None:
    """A film's own gray level, from where it is thicker than 6 sigma; None if it nowhere is.

    Its spread is that from place to place: noise of single pixels is averaged out, since a thin
    film is fitted over many of them.

    gray (H, W), film (H, W): where the film is.
    """
    inside = eroded(film, max(_THICK_INSIDE * sigma_px, _PLACE_PX / np.sqrt(2)))
    if np.count_nonzero(inside) < _LEAST_PIXELS:
        return None
    values = ndi.uniform_filter(gray.astype(np.float64), _PLACE_PX)[inside]
    middle = float(np.median(values))
    return Plateau(middle, 1.4826 * float(np.median(np.abs(values - middle))))


def eroded(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """Pixels further than a radius from all that a mask leaves out; beyond it nothing is known.

    Rows of the disc are tried one by one: several times quicker than a map of distances. (H, W).

    Example:
        >>> eroded(np.array([[False, True, True, True]]), 1.5).tolist()
        [[False, False, True, True]]
    """
    out, inside = (~mask).view(np.uint8), mask.copy()
    for shift in range(min(int(radius_px), len(mask) - 1) + 1):
        half = int(np.sqrt(radius_px**2 - shift**2))
        near = ndi.maximum_filter1d(out, 2 * half + 1, axis=1, mode="nearest").view(np.bool_)
        inside[: len(mask) - shift] &= ~near[shift:]
        inside[shift:] &= ~near[: len(mask) - shift]
    return inside


@dataclass(frozen=True)
class _Film:
    """The model: offset, slope (px at the ends), thickness, ln sigma, the three levels."""

    along: Floats  # (N,), -1..1 from end to end
    across_px: Floats  # (N,)
    free: NDArray[np.bool_]  # (7,), which parameters are fitted
    fixed: Floats  # (7,), values of the others

    def __call__(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Gray values (N,) and their derivatives by the free parameters (F, N)."""
        full = self.full(parameters)
        sigma = np.exp(min(max(full[_LOG_SIGMA], -1.5), 3.0))
        first = (self.across_px - full[_OFFSET] - full[_SLOPE] * self.along) / sigma
        second = first - full[_THICKNESS] / sigma
        entered, left_behind = ndtr(first), ndtr(second)
        rise, fall = full[_FILM] - full[_LEFT], full[_RIGHT] - full[_FILM]
        one = rise * np.exp(-(first**2) / 2) / np.sqrt(2 * np.pi)
        other = fall * np.exp(-(second**2) / 2) / np.sqrt(2 * np.pi)
        moved = -(one + other) / sigma
        derivatives = np.empty((7, len(first)))
        derivatives[_OFFSET], derivatives[_SLOPE] = moved, moved * self.along
        derivatives[_THICKNESS] = -other / sigma
        derivatives[_LOG_SIGMA] = -one * first - other * second
        derivatives[_LEFT], derivatives[_RIGHT] = 1 - entered, left_behind
        derivatives[_FILM] = entered - left_behind
        return full[_LEFT] + rise * entered + fall * left_behind, derivatives[self.free]

    def full(self, parameters: Floats) -> Floats:
        """All seven parameters."""
        full = self.fixed.copy()
        full[self.free] = parameters
        return full


@dataclass(frozen=True)
class _Found:
    """A film's model, adapted."""

    model: _Film
    solution: Solution

    @property
    def full(self) -> Floats:
        """All seven parameters."""
        return self.model.full(self.solution.parameters)


@dataclass(frozen=True)
class _FilmLine:
    """The pixels around one piece of film."""

    strip: Strip
    line: tuple[Point, Point]
    n_lines: int

    def find(self, thickness_px: float, settings: FilmFitSettings) -> _Found | None:
        """Fit with what is known held fixed; None if the fit left the window."""
        cells = self.strip.cells()
        model, start = self._model(cells, thickness_px, settings)
        starts = [start]
        for wrong_px in (-1.0, 1.0):  # the seed's place and thickness may both be wrong
            other = start.copy()
            other[_OFFSET] += wrong_px
            starts.append(other)
        rough = rough_fits(model, cells, [one[model.free] for one in starts])
        best = min(rough, key=lambda one: one.cost)
        return self._settled(model, best.parameters)

    def u_of_level(self, found: _Found, level: Known | None) -> float | None:
        """What the error of the known film level adds to the thickness; None: it decides all."""
        if level is None or not level.u:
            return 0.0
        fixed = found.full.copy()
        fixed[_FILM] += level.u
        other = self._settled(replace(found.model, fixed=fixed), found.solution.parameters)
        return None if other is None else abs(float((other.full - found.full)[_THICKNESS]))

    def _settled(self, model: _Film, parameters: Floats) -> _Found | None:
        pixels = self.strip.pixels()
        model = self._on(pixels, model.free, model.fixed)
        found = _Found(model, robust_fit(model, pixels, parameters))
        full, reach = found.full, np.abs(pixels.across_px).max()
        inside = abs(full[_OFFSET]) + abs(full[_SLOPE]) + full[_THICKNESS] < reach
        is_edge = inside and full[_THICKNESS] > 0 and np.exp(full[_LOG_SIGMA]) < reach
        return found if is_edge else None

    def _on(self, pixels: Pixels, free: NDArray[np.bool_], fixed: Floats) -> _Film:
        half = np.hypot(*np.subtract(*self.line)) / 2
        return _Film(pixels.along_px / half, pixels.across_px, free, fixed)

    def _model(
        self, pixels: Pixels, thickness_px: float, settings: FilmFitSettings
    ) -> tuple[_Film, Floats]:
        across, values = pixels.across_px, pixels.values
        free = np.ones(7, dtype=bool)
        free[_FILM] = settings.film_gray is None
        start = np.array(
            [0, 0, thickness_px, np.log(_BLUR_PX), *_levels(across, values, thickness_px)]
        )
        if settings.film_gray is not None:
            start[_FILM] = settings.film_gray.value
        return self._on(pixels, free, start), start

    def describe(self, found: _Found) -> FilmFit:
        """The fit in figures, with the error that it knows of itself."""
        full, solution = found.full, found.solution
        sigma, valid = float(np.exp(full[_LOG_SIGMA])), self.strip.valid
        from_edges = [self.strip.across_px[valid] - full[_OFFSET]]
        from_edges.append(from_edges[0] - full[_THICKNESS])
        plateau = np.min(np.abs(from_edges), axis=0) > 2 * sigma
        quality = assess(self.strip, solution, plateau, key=_THICKNESS)
        half = float(np.hypot(*np.subtract(*self.line))) / 2
        start, end = moved_line(self.line, full[_OFFSET], full[_SLOPE] / half)
        scale = np.diag([1, 1 / half])
        return FilmFit(
            thickness_px=float(full[_THICKNESS]),
            u_px=float(np.sqrt(quality.covariance[_THICKNESS, _THICKNESS])),
            start=start,
            end=end,
            covariance=scale @ quality.covariance[:2, :2] @ scale,
            sigma_px=sigma,
            left_gray=float(full[_LEFT]),
            film_gray=float(full[_FILM]),
            right_gray=float(full[_RIGHT]),
            noise=quality.noise,
            chi2_red=quality.chi2_red,
            n_lines=self.n_lines,
        )


def _levels(across: Floats, values: Floats, thickness_px: float) -> list[float]:
    """Medians left of the film, in its middle and right of it."""
    zones = (
        across < -1,
        np.abs(across - thickness_px / 2) <= max(thickness_px / 4, 0.6),
        across > thickness_px + 1,
    )
    middle = float(np.median(values))
    return [float(np.median(values[zone])) if zone.any() else middle for zone in zones]


def _refusal(fit: FilmFit, settings: FilmFitSettings) -> FilmFailure | None:
    """Why a fit must not be believed."""
    if not _is_expected(fit, settings):
        return "wrong_contrast"
    if settings.film_gray is None and fit.thickness_px < RESOLVED * fit.sigma_px:
        return "unresolved"
    if settings.film_gray is None and fit.thickness_px < THICK * fit.sigma_px:
        return "thin_film"
    return None


def _is_expected(fit: FilmFit, settings: FilmFitSettings) -> bool:
    """Whether the neighbours' levels are theirs."""
    pairs = ((fit.left_gray, settings.left), (fit.right_gray, settings.right))
    return all(
        abs(gray - plateau.gray)
        <= max(_SHARE_WRONG * abs(gray - fit.film_gray), 2 * plateau.spread)
        for gray, plateau in pairs
        if plateau is not None
    )
