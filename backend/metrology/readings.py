"""What measuring one thing gives, before it is written down as a CD."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np

from backend.metrology.bodies import Body, Level, UnmeasurableError
from backend.metrology.contours import Line, Points
from backend.metrology.curves import NO_QUALITY, EdgeLine, EdgeMean
from backend.metrology.frame import Frame
from backend.metrology.recipe import At, Side, Thickness
from backend.metrology.results import TIERS, EdgeQuality, Point, Tier, Unit

MAX_SIGMA_RATIO = 1.5  # of the blurs left and right

Known: TypeAlias = EdgeMean | EdgeLine | Level


@dataclass(frozen=True)
class Reading:
    """A value and how it was found."""

    value: float
    u: float
    unit: Unit = "px"
    method: Tier = "label"
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()
    n_lines: int | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    line: tuple[Point, Point] | None = None
    geometry: tuple[tuple[Point, ...], ...] = ()


@dataclass(frozen=True)
class Variant:
    """Which of a measurement's values: a side, a level."""

    side: Side | Literal[""] = ""
    at_fraction: float | None = None


@dataclass(frozen=True)
class Site:
    """Where a film is measured: rays that start on an edge of a body and cross the film."""

    body: Body
    origin: tuple[float, float]  # (u, v) on the edge, in the middle of the site
    normal: tuple[float, float]  # unit vector (u, v), along the rays
    half_px: float  # of the site, along the edge
    step_px: float  # from ray to ray

    def rays(self) -> Line:
        """Places of the rays along the edge, from the middle of the site."""
        count = max(1, int(2 * self.half_px / self.step_px))
        return (np.arange(count) - (count - 1) / 2) * self.step_px

    def turned(self, uv: Points) -> Points:
        """(u, v) points as (across, along): along the rays, and along the edge."""
        (a, b), around = self.normal, uv - np.array(self.origin)
        return np.stack([around @ np.array([a, b]), around @ np.array([-b, a])], axis=-1)

    def to_px(self, across: Line, along: Line) -> Points:
        """Points on rays as (row, column)."""
        a, b = self.normal
        u, v = self.origin
        uv = np.stack([u + a * across - b * along, v + b * across + a * along], axis=-1)
        return self.body.frame.to_px(uv)


@dataclass(frozen=True)
class FilmReading:
    """A film's thickness, ray by ray."""

    thickness: Line  # (N,), px, NaN where a ray did not cross the film
    u: float  # of the mean
    u_ray: float  # of one ray
    method: Tier
    lower: Line  # (N,), where each ray enters the film, from the middle of the edge
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()


class FilmGauge(Protocol):
    """Measures a film at a site."""

    def __call__(self, rule: Thickness, site: Site) -> FilmReading:
        """Thickness on each ray."""
        ...


@dataclass(frozen=True)
class Scene:
    """All bodies of an image, as one order of tiers sees them."""

    frame: Frame
    nm_per_px: float | None
    bodies: Mapping[str, Sequence[Body]]
    materials: Mapping[str, tuple[str, ...]]  # of each structure
    part_of: Callable[[Body, str], Body]  # the piece of one material within an instance
    gauge: FilmGauge
    is_label: bool = False  # seen by labels alone


def worst(edges: Sequence[Known]) -> tuple[Tier, EdgeQuality, tuple[str, ...]]:
    """Method, quality and flags that speak for several edges at once."""
    method = max((edge.method for edge in edges), key=TIERS.index)
    flags = tuple(dict.fromkeys(flag for edge in edges for flag in edge.flags))
    fitted = [edge.quality for edge in edges if edge.quality.cnr is not None]
    if method != "gray" or not fitted:
        return method, NO_QUALITY, flags
    quality = min(fitted, key=lambda one: one.cnr or 0.0)
    sigmas = [one.sigma_px for one in fitted if one.sigma_px]
    if sigmas and max(sigmas) > MAX_SIGMA_RATIO * min(sigmas):
        flags = (*flags, "edge_asymmetry")
    return method, quality, flags


@dataclass(frozen=True)
class Band:
    """Heights between which a body is measured."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Centre of the band."""
        return (self.low + self.high) / 2


def band_at(at: At, fraction: float | None, body: Body, nm_per_px: float | None) -> Band:
    """The band of a level, centred in sub-pixels.

    Near base or top it shrinks, to stay inside however rough these are.

    Raises:
        UnmeasurableError: The level lies outside the body, or needs a calibration.
    """
    if fraction is None:
        fraction = at.fraction
    if fraction is not None:
        v = body.level(fraction)
    else:
        offset = _offset(at, nm_per_px)
        v = body.base.v + offset if at.from_ == "base" else body.top.v - offset
    room = min(v - body.base.v, body.top.v - v) / 2
    half = min(at.band / 2 * body.height, room)
    if half <= 0:
        raise UnmeasurableError("outside")
    return Band(v - half, v + half)


def _offset(at: At, nm_per_px: float | None) -> float:
    try:
        offset = at.length_px("offset", nm_per_px)
    except ValueError:
        raise UnmeasurableError("uncalibrated") from None
    return offset or 0.0


def with_lines(reading: Reading, samples: Line) -> Reading:
    """A reading with number, standard deviation, least and greatest of what single lines gave."""
    known = samples[np.isfinite(samples)]
    if not len(known):
        return reading
    return replace(
        reading,
        n_lines=len(known),
        std=float(known.std(ddof=1)) if len(known) > 1 else None,
        min=float(known.min()),
        max=float(known.max()),
    )


def hypot(*parts: float) -> float:
    """Root of the sum of squares."""
    return math.sqrt(sum(part * part for part in parts))
