"""A film between two materials, placed on the gray values: both interfaces in one fit.

Fitted one after the other, the blurred interfaces of a thin film pull each other: at 4.3 sigma by
-0.15 to -0.2 px. Together they don't. Below that, thickness and contrast of a film can hardly be
told apart, so the film's own gray level decides how thin a film can be measured.
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
from backend.metrology.robust_fit import Solution, fit_from_starts
from backend.metrology.strips import Gray, Strip, cut_strip, moved_line

Floats = NDArray[np.float64]
FilmFailure: TypeAlias = Literal[
    "too_few_lines",  # of the image lie along the seed
    "no_edge",  # the fit left the window
    "wrong_contrast",  # the levels are not those of the materials
    "thin_film",  # too thin without its gray level: use another tier
    "unresolved",  # so thin that no tier can tell
]
THICK = 4.0  # sigma, above which a film needs no gray level
RESOLVED = 2.0  # sigma, below which no tier knows a film without one
_THICK_INSIDE = 3.0  # sigma from a film's border, where its gray level is its own
_LEAST_PIXELS = 20
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
    sigma_px: Known | None = None  # blur, from thick edges of the image
    film_gray: Known | None = None  # from where the film is thick
    left: Plateau | None = None  # what the neighbours look like, measured near the film
    right: Plateau | None = None
    min_lines: int = 5


@dataclass(frozen=True)
class FilmFit:
    """A fitted film."""

    thickness_px: float  # normal distance of its interfaces
    u_px: float  # of the thickness; misfit and what was taken for known included
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
    fit = line.fit(thickness_px, settings)
    if isinstance(fit, str):
        return fit
    if not _is_expected(fit, settings):
        return "wrong_contrast"
    if settings.film_gray is None and fit.thickness_px < RESOLVED * fit.sigma_px:
        return "unresolved"
    if settings.film_gray is None and fit.thickness_px < THICK * fit.sigma_px:
        return "thin_film"
    return replace(fit, u_px=float(np.hypot(fit.u_px, line.u_of_known(fit, settings))))


def thick_gray(gray: Gray, film: NDArray[np.bool_], sigma_px: float) -> Plateau | None:
    """A film's own gray level, from where it is thicker than 6 sigma; None if it nowhere is.

    Its spread is that from place to place: noise of single pixels is averaged out, since a thin
    film is fitted over many of them.

    gray (H, W), film (H, W): where the film is.
    """
    inside = ndi.distance_transform_edt(film) > max(
        _THICK_INSIDE * sigma_px, _PLACE_PX / np.sqrt(2)
    )
    values = ndi.uniform_filter(gray.astype(np.float64), _PLACE_PX)[inside]
    if len(values) < _LEAST_PIXELS:
        return None
    middle = float(np.median(values))
    return Plateau(middle, 1.4826 * float(np.median(np.abs(values - middle))))


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
        derivatives = np.stack(
            [moved, moved * self.along, -other / sigma, -one * first - other * second,
             1 - entered, entered - left_behind, left_behind]
        )  # fmt: skip
        return full[_LEFT] + rise * entered + fall * left_behind, derivatives[self.free]

    def full(self, parameters: Floats) -> Floats:
        """All seven parameters."""
        full = self.fixed.copy()
        full[self.free] = parameters
        return full


@dataclass(frozen=True)
class _FilmLine:
    """The pixels around one piece of film."""

    strip: Strip
    line: tuple[Point, Point]
    n_lines: int

    def fit(self, thickness_px: float, settings: FilmFitSettings) -> FilmFit | FilmFailure:
        """Fit with what is known held fixed."""
        model, start = self._model(thickness_px, settings)
        values = self.strip.values[self.strip.valid]
        starts = [start]
        for wrong_px in (-1.0, 1.0):  # the seed's place and thickness may both be wrong
            other = start.copy()
            other[_OFFSET] += wrong_px
            starts.append(other)
        solution, _ = fit_from_starts(model, [one[model.free] for one in starts], values)
        full = model.full(solution.parameters)
        reach = np.abs(self.strip.across_px[self.strip.valid]).max()
        inside = abs(full[_OFFSET]) + abs(full[_SLOPE]) + full[_THICKNESS] < reach
        if not (inside and full[_THICKNESS] > 0 and np.exp(full[_LOG_SIGMA]) < reach):
            return "no_edge"
        return self._describe(model, solution)

    def u_of_known(self, fit: FilmFit, settings: FilmFitSettings) -> float:
        """What errors of the known blur and film level add to the thickness."""
        blur, level = settings.sigma_px, settings.film_gray
        shifted = []
        if blur is not None and blur.u:
            shifted.append(replace(settings, sigma_px=Known(blur.value + blur.u)))
        if level is not None and level.u:
            shifted.append(replace(settings, film_gray=Known(level.value + level.u)))
        others = [self.fit(fit.thickness_px, one) for one in shifted]
        thicknesses = [np.inf if isinstance(one, str) else one.thickness_px for one in others]
        return float(np.linalg.norm(np.array(thicknesses) - fit.thickness_px))

    def _model(self, thickness_px: float, settings: FilmFitSettings) -> tuple[_Film, Floats]:
        valid = self.strip.valid
        across, values = self.strip.across_px[valid], self.strip.values[valid]
        free = np.ones(7, dtype=bool)
        free[_LOG_SIGMA], free[_FILM] = settings.sigma_px is None, settings.film_gray is None
        sigma = settings.sigma_px.value if settings.sigma_px else 1.5
        start = np.array(
            [0, 0, thickness_px, np.log(sigma), *_levels(across, values, thickness_px)]
        )
        if settings.film_gray is not None:
            start[_FILM] = settings.film_gray.value
        half = np.hypot(*np.subtract(*self.line)) / 2
        return _Film(self.strip.along_px[valid] / half, across, free, start), start

    def _describe(self, model: _Film, solution: Solution) -> FilmFit:
        full = model.full(solution.parameters)
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


def _is_expected(fit: FilmFit, settings: FilmFitSettings) -> bool:
    """Whether the neighbours' levels are theirs."""
    pairs = ((fit.left_gray, settings.left), (fit.right_gray, settings.right))
    return all(
        abs(gray - plateau.gray)
        <= max(_SHARE_WRONG * abs(gray - fit.film_gray), 2 * plateau.spread)
        for gray, plateau in pairs
        if plateau is not None
    )
