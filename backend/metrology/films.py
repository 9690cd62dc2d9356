"""Thickness of a film: rays from an edge of a structure cross its two interfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.arrays import LabelMap
from backend.metrology.bodies import WALLS, Body, UnmeasurableError
from backend.metrology.contours import (
    Field,
    Line,
    crossings,
    first_stretch,
    outlines,
    segments_of,
)
from backend.metrology.curves import MIN_SHARE, CurveError
from backend.metrology.readings import (
    FilmReading,
    Reading,
    Scene,
    Site,
    Variant,
    hypot,
    with_lines,
)
from backend.metrology.recipe import Side, Thickness
from backend.metrology.results import Tier
from backend.metrology.seed_errors import (
    LEAST_ERROR,
    LOCKED,
    LabelError,
    label_error,
    probability_error,
)

QUANTITIES = ("mean", "min", "max", "std", "uniformity")
_LEAST_RAYS = 5
_TOUCH_PX = 1.5  # between a structure's edge and the film on it
_BEYOND_PX = 1.0  # past an interface, where the neighbour is looked for
_MARGIN_PX = 3
_REACH = 0.75  # of a body's width, how far rays go at first


def measure_thickness(
    scene: Scene, body: Body, rule: Thickness, variant: Variant
) -> dict[str, Reading]:
    """Mean, extremes, standard deviation and uniformity of a film's thickness at a site."""
    site = _site(scene, body, rule, variant.side or "left")
    film = scene.gauge(rule, site)
    known = film.thickness[np.isfinite(film.thickness)]
    if len(known) < max(_LEAST_RAYS, MIN_SHARE * len(film.thickness)):
        raise UnmeasurableError("no_film")
    mean, least, most = float(known.mean()), float(known.min()), float(known.max())
    std = float(known.std(ddof=1))
    values = {
        "mean": (mean, film.u),
        "min": (least, film.u_ray),
        "max": (most, film.u_ray),
        "std": (std, film.u_ray / math.sqrt(2)),
        "uniformity": ((most - least) / (2 * mean), film.u_ray / (math.sqrt(2) * mean)),
    }
    at = int(np.flatnonzero(np.isfinite(film.thickness))[len(known) // 2])
    rays, lower = site.rays()[[at, at]], film.lower[at]
    ends = site.to_px(np.array([lower, lower + film.thickness[at]]), rays).tolist()
    readings = {
        name: Reading(
            value,
            u,
            "ratio" if name == "uniformity" else "px",
            film.method,
            film.quality,
            film.flags,
            line=((ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])),
        )
        for name, (value, u) in values.items()
    }
    return {name: with_lines(one, film.thickness) for name, one in readings.items()}


def _site(scene: Scene, body: Body, rule: Thickness, side: Side) -> Site:
    """Where rays start, and which way they go: into the structure if the film is part of it."""
    site, step = rule.site, rule.step_px
    inward = rule.film in scene.materials[site.structure]
    if site.part == "sidewall":
        low, high = (body.level(fraction) for fraction in site.between_fractions)
        wall = body.line(side, low, high)
        length = math.hypot(1, wall.slope)
        sign = 1.0 if (side == "right") != inward else -1.0
        middle = (low + high) / 2
        normal = (sign / length, -sign * wall.slope / length)
        return Site(body, (wall.across(middle), middle), normal, (high - low) * length / 2, step)
    try:
        inset = site.length_px("inset", scene.nm_per_px)
    except ValueError:
        raise UnmeasurableError("uncalibrated") from None
    level = body.base.v if site.part == "base" else body.top.v
    if inset is None:
        left, right = body.span(site.part)
    else:
        left, right = _ends(body, level)
        left, right = left + inset, right - inset
    if right <= left:
        raise UnmeasurableError("inset_too_large")
    up = 1.0 if (site.part == "top") != inward else -1.0
    return Site(body, ((left + right) / 2, level), (0.0, up), (right - left) / 2, step)


def _ends(body: Body, level: float) -> tuple[float, float]:
    """Where a base or top ends: between lines through the walls, however wavy it is.

    A layer that the border cuts has no walls: it goes as far as the picture.
    """
    if "border" in body.instance.flags:
        return body.walls_at(body.level(0.5))
    left, right = (body.flank(wall).across(level) for wall in WALLS)
    return left, right


@dataclass(frozen=True)
class SeedGauge:
    """Measures films on labels or probabilities."""

    tier: Tier
    field_of: Callable[[Sequence[str]], Field]  # by materials, (H, W)
    classes: Mapping[str, int]
    label_map: LabelMap
    u_place_px: float
    is_draw: bool = False  # how well edges are known does not count

    def __call__(self, rule: Thickness, site: Site) -> FilmReading:
        """Thickness on each ray, NaN where it does not run from one neighbour to the other."""
        rays = site.rays()
        start = _edge_on_rays(site, rays)
        field = self.field_of([rule.film])
        enter, leave = _stretches(field, site, rays, np.nan_to_num(start, nan=np.inf))
        good = self._runs_between(rule, site, rays, enter, leave)
        if not good.any():
            raise UnmeasurableError("not_between" if np.isfinite(enter).any() else "no_film")
        enter, leave = (np.where(good, places, np.nan) for places in (enter, leave))
        errors = [
            self._error(field, site, rays, enter, 1.0),
            self._error(field, site, rays, leave, -1.0),
        ]
        low, high = float(rays[0]), float(rays[-1])
        u, u_ray = (
            hypot(*(error.of_mean(*ends) for error in errors)) for ends in ((low, high), (0.0, 1.0))
        )
        locked = any(isinstance(one, LabelError) and one.is_locked(low, high) for one in errors)
        flags = (LOCKED,) * locked
        return FilmReading(leave - enter, u, u_ray, self.tier, enter, flags=flags)

    def _runs_between(
        self, rule: Thickness, site: Site, rays: Line, enter: Line, leave: Line
    ) -> NDArray[np.bool_]:
        known = np.isfinite(enter)
        found = []
        for places in (enter - _BEYOND_PX, leave + _BEYOND_PX):
            points = np.rint(site.to_px(np.where(known, places, 0.0), rays)).astype(int)
            rows, columns = (
                np.clip(axis, 0, size - 1)
                for axis, size in zip(points.T, self.label_map.shape, strict=True)
            )
            found.append(self.label_map[rows, columns])
        one, other = (self.classes[name] for name in rule.between)
        forth = (found[0] == one) & (found[1] == other)
        back = (found[0] == other) & (found[1] == one)
        return known & (forth | back)

    def _error(
        self, field: Field, site: Site, rays: Line, places: Line, inward: float
    ) -> CurveError:
        if self.is_draw:
            return LEAST_ERROR
        if self.tier == "label":
            pixels = site.to_px(places, rays)
            return label_error(pixels, rays, (float(rays[0]), float(rays[-1])), self.u_place_px)
        inside, outside = (site.to_px(places + step, rays) for step in (inward, -inward))
        return probability_error(field, rays, inside, outside)


def _edge_on_rays(site: Site, rays: Line) -> Line:
    """Where each ray meets the outline of its body, nearest to the middle of the edge."""
    turned = segments_of([site.turned(line) for line in site.body.outline])
    level, across = crossings(turned, rays)
    order = np.lexsort((np.abs(across), level))
    level, across = level[order], across[order]
    found, first = np.unique(level, return_index=True)
    start = np.full(len(rays), np.nan)
    start[found] = across[first]
    return start


def _stretches(field: Field, site: Site, rays: Line, start: Line) -> tuple[Line, Line]:
    """Where each ray enters a film and leaves it, NaN where it does not enter at its start.

    Most films are thinner than a body is wide, and outlines take time: only as long as a film goes
    on at the end of the rays are they made longer.
    """
    left, right = site.body.walls_at(site.body.level(0.5))
    reach = _REACH * (right - left) + _MARGIN_PX
    while True:
        window = _window(site, reach, field.shape)
        pieces = segments_of(outlines(field[window], (window[0].start, window[1].start)))
        pieces = site.turned(site.body.frame.to_uv(pieces))
        enter, leave = first_stretch(pieces, rays, start, _TOUCH_PX)
        is_cut = np.any(leave > reach - _BEYOND_PX)
        if not is_cut or reach > sum(field.shape):
            return enter, leave
        reach *= 2


def _window(site: Site, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of an image that rays of a site run through as far as `reach`."""
    corners = site.to_px(
        np.array([-reach, -reach, reach, reach]),
        np.array([-1, 1, -1, 1]) * (site.half_px + _MARGIN_PX),
    )
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, shape)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
