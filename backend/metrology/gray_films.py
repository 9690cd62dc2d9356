"""Films placed on gray values: both interfaces in one fit, seeded by labels or probabilities.

The fit tells the mean thickness. How it scatters from ray to ray is what the seed shows, so least,
greatest and standard deviation keep the seed's error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from backend.metrology.edge_fit import Plateau
from backend.metrology.film_fit import FilmFit, FilmFitSettings, Known, fit_film, thick_gray
from backend.metrology.films import SeedGauge
from backend.metrology.gray_edges import (
    MAX_CHI2,
    Beside,
    GrayImage,
    is_clipped,
    look_aside,
)
from backend.metrology.readings import FilmReading, Site
from backend.metrology.recipe import Thickness
from backend.metrology.results import EdgeQuality, Point
from backend.metrology.strips import line_frame

_BLUR_PX = 1.5  # of an image, until an edge tells it: a thick film is six of them
_CLEAR_PX = 2.5 * _BLUR_PX  # of the next edge, which pulls the plateau before it
_LEAST_ROOM_PX = 1.5  # of a plateau, for its level to be known
_LEAST_KNOWN = 5  # rays
_PLACES = 9


@dataclass(frozen=True)
class GrayGauge:
    """Measures films on gray values where these allow it, and as its seed does elsewhere."""

    seed: SeedGauge
    image: GrayImage
    classes: Mapping[str, int]
    _own_gray: dict[str, Plateau | None] = field(default_factory=dict, repr=False)

    def __call__(self, rule: Thickness, site: Site) -> FilmReading:
        """Thickness on each ray."""
        seed = self.seed(rule, site)
        known = np.isfinite(seed.thickness)
        if np.count_nonzero(known) < _LEAST_KNOWN:
            return seed
        if self._is_clipped(site, seed):
            return replace(seed, flags=(*seed.flags, "clipped"))
        ends, scale = _seed_line(site, seed)
        thickness = float(seed.thickness[known].mean()) / scale
        settings = self._settings(rule, ends, thickness)
        if isinstance(settings, str):
            return replace(seed, flags=(*seed.flags, settings))
        try:
            fit = fit_film(self.image.gray, *ends, thickness, settings)
        except np.linalg.LinAlgError:  # pixels that no film explains
            return replace(seed, flags=(*seed.flags, "no_edge"))
        flag = fit if isinstance(fit, str) else self._refusal(fit, thickness)
        if flag or isinstance(fit, str):
            return replace(seed, flags=(*seed.flags, flag))
        moved = fit.thickness_px * scale - float(seed.thickness[known].mean())
        return FilmReading(
            seed.thickness + moved,
            math.hypot(fit.u_px * scale, math.sqrt(2) * self.image.rules.u_gray_px),
            seed.u_ray,
            "gray",
            seed.lower,
            EdgeQuality(fit.sigma_px, float(fit.cnr), fit.chi2_red),
        )

    def _settings(
        self, rule: Thickness, ends: tuple[Point, Point], thickness_px: float
    ) -> FilmFitSettings | str:
        """What is known before the fit, or the flag that says why there should be none."""
        beside = self._beside(ends, thickness_px)
        if isinstance(beside, str):
            return beside
        left, right = beside
        return FilmFitSettings(
            self.image.rules.window_px,
            (left.room_px - _CLEAR_PX, thickness_px + right.room_px - _CLEAR_PX),
            film_gray=self._film_gray(rule),
            left=left.plateau,
            right=right.plateau,
        )

    def _beside(
        self, ends: tuple[Point, Point], thickness_px: float
    ) -> tuple[Beside, Beside] | str:
        """What lies before a film and behind it, or the flag that says why it is of no use."""
        middle, along, right = line_frame(*ends)
        half = np.linspace(-0.45, 0.45, _PLACES)[:, None] * np.hypot(*np.subtract(*ends))
        before = look_aside(self.image, middle + half * along, -right)
        behind = look_aside(self.image, middle + half * along + thickness_px * right, right)
        if isinstance(before, str) or isinstance(behind, str):
            return before if isinstance(before, str) else str(behind)
        if min(before.room_px, behind.room_px) < _CLEAR_PX + _LEAST_ROOM_PX:
            return "crowded"
        return before, behind

    def _film_gray(self, rule: Thickness) -> Known | None:
        """The film's own gray level: the recipe's, or read where it is thick."""
        if rule.film_gray is None:
            return None
        if rule.film_gray != "auto":
            return Known(float(rule.film_gray))
        if rule.film not in self._own_gray:
            film = self.image.label_map == self.classes[rule.film]
            self._own_gray[rule.film] = thick_gray(self.image.gray, film, _BLUR_PX)
        plateau = self._own_gray[rule.film]
        return None if plateau is None else Known(plateau.gray, plateau.spread)

    def _is_clipped(self, site: Site, seed: FilmReading) -> bool:
        """Whether the gray values of the film or of a neighbour have met a limit."""
        known = np.isfinite(seed.thickness)
        lower, thickness = seed.lower[known][:, None], seed.thickness[known][:, None]
        reach = np.arange(_BLUR_PX, self.image.rules.window_px + 1)
        within = thickness * np.linspace(0.3, 0.7, 5)
        shape = self.image.gray.shape
        for across in (lower - reach, lower + within, lower + thickness + reach):
            along = np.broadcast_to(site.rays()[known][:, None], across.shape)
            pixels = np.rint(site.to_px(across.ravel(), along.ravel())).astype(int)
            rows, columns = (
                np.clip(axis, 0, size - 1) for axis, size in zip(pixels.T, shape, strict=True)
            )
            values = self.image.gray[rows, columns]
            if is_clipped(values[np.isfinite(values)]):
                return True
        return False

    def _refusal(self, fit: FilmFit, thickness_px: float) -> str:
        if fit.cnr < self.image.rules.min_cnr:
            return "low_cnr"
        if fit.chi2_red > MAX_CHI2:
            return "poor_fit"
        if abs(fit.thickness_px - thickness_px) > self.image.rules.max_shift_px:
            return "max_shift"
        return ""


def _seed_line(site: Site, seed: FilmReading) -> tuple[tuple[Point, Point], float]:
    """Ends of a film's first interface, the film to the right; isotropic px per px across it."""
    rays, known = site.rays(), np.isfinite(seed.lower)
    slope, offset = np.polyfit(rays[known], seed.lower[known], 1)
    along = np.array([rays[0], rays[-1]])
    first, last = site.to_px(offset + slope * along, along)
    across = site.to_px(np.array([1.0]), np.zeros(1))[0] - site.to_px(np.zeros(1), np.zeros(1))[0]
    walk = last - first
    if walk[1] * across[0] - walk[0] * across[1] < 0:  # the film must lie to the right
        first, last = last, first
    ends: tuple[Point, Point] = (
        (float(first[0]), float(first[1])),
        (float(last[0]), float(last[1])),
    )
    return ends, 1 / float(np.hypot(*across))
