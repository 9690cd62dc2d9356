"""An instance as a metrologist sees it: two walls, a base, a top, and an outline.

Each edge may be known from several tiers; the first that knows it over the stretch asked for is
believed, and what it says of itself goes with the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from backend.metrology.contours import Line, Points, extremes
from backend.metrology.curves import NO_QUALITY, Curve, EdgeLine, EdgeMean
from backend.metrology.frame import Frame
from backend.metrology.recipe import Side
from backend.metrology.results import TIERS, EdgeQuality, Tier
from backend.metrology.structures import Instance

EdgeName: TypeAlias = Literal["left", "right", "base", "top"]
Curves: TypeAlias = Mapping[EdgeName, tuple[Curve, ...]]  # the tier to prefer first

WALLS: tuple[Side, ...] = ("left", "right")
STEP_PX = 0.25  # of curves: fine enough that a band ends anywhere
PLATEAU = 1 / 3  # central part of a plateau that gives its level
NEAR_BASE, NEAR_TOP = 0.1, 0.9  # fractions of the height where the plateaus' widths are taken
FLANK = (0.15, 0.85)  # fractions of the height between which a wall counts as straight
OTHER_BASE = "other_base"  # flag: it stands on something else than the recipe says
_ROUNDS = 2


class UnmeasurableError(ValueError):
    """Something cannot be measured; the text is the flag that says why."""


@dataclass(frozen=True)
class Level:
    """The height of a base or a top."""

    v: float
    u: float = 0.0
    method: Tier = "label"
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Body:
    """One instance in the measuring frame."""

    instance: Instance
    frame: Frame
    outline: tuple[Points, ...]  # (u, v) polygons of the seed, each closed
    seed: Mapping[EdgeName, Curve]  # what tells where to look
    curves: Curves
    base: Level
    top: Level
    bases: tuple[Body, ...] = field(default=(), repr=False)  # whose bases make the cut it stands on

    @property
    def index(self) -> int:
        """Number of the instance, 0 first."""
        return self.instance.index

    @property
    def height(self) -> float:
        """Top minus base."""
        return self.top.v - self.base.v

    @property
    def seeded(self) -> Body:
        """The same with the edges that its outline shows, which no fit has moved."""
        return replace(self, curves={name: (curve,) for name, curve in self.seed.items()})

    def level(self, fraction: float) -> float:
        """Level v at a fraction of the height."""
        return self.base.v + fraction * self.height

    def fraction(self, v: float) -> float:
        """Fraction of the height at a level."""
        return (v - self.base.v) / self.height

    def mean(self, edge: EdgeName, low: float, high: float) -> EdgeMean:
        """Mean position of an edge over [low, high], from the first tier that knows it.

        Raises:
            UnmeasurableError: None does.
        """
        missed: tuple[str, ...] = ()
        for curve in self.curves[edge]:
            mean = curve.mean(low, high)
            if mean is not None:
                return replace(mean, flags=_joined(missed, mean.flags))
            missed = _joined(missed, curve.why_not(low, high))
        raise UnmeasurableError("no_edge")

    def line(self, edge: EdgeName, low: float, high: float) -> EdgeLine:
        """The best line through an edge over [low, high], from the first tier that knows it.

        Raises:
            UnmeasurableError: None does.
        """
        missed: tuple[str, ...] = ()
        for curve in self.curves[edge]:
            line = curve.line(low, high)
            if line is not None:
                return replace(line, flags=_joined(missed, line.flags))
            missed = _joined(missed, curve.why_not(low, high))
        raise UnmeasurableError("no_edge")

    def flank(self, side: Side, fractions: tuple[float, float] = FLANK) -> EdgeLine:
        """The best line through a wall between two fractions of the height."""
        return self.line(side, self.level(fractions[0]), self.level(fractions[1]))

    @cached_property
    def leans(self) -> Mapping[Side, float]:
        """How far each wall moves to the right per px of height, as the seed shows it."""
        lines = {side: self.seed[side].line(*map(self.level, FLANK)) for side in WALLS}
        return {side: line.slope if line else 0.0 for side, line in lines.items()}

    @property
    def lean(self) -> float:
        """How far the middle between both walls moves to the right per px of height."""
        return sum(self.leans.values()) / len(WALLS)

    def walls_at(self, v: float) -> tuple[float, float]:
        """Positions u of both walls on one line, from the seed.

        Raises:
            UnmeasurableError: A wall is not there.
        """
        left, right = (float(self.seed[side].at(np.array([v]))[0]) for side in WALLS)
        if not (math.isfinite(left) and math.isfinite(right)):
            raise UnmeasurableError("no_edge")
        return left, right

    def plateau(self, edge: Literal["base", "top"], share: float = PLATEAU) -> Level:
        """Level of the central part of the base or the top.

        Raises:
            UnmeasurableError: The edge is not known there.
        """
        if edge == self.cut_edge:
            return self.base if edge == "base" else self.top
        left, right = self.span(edge, share)
        mean = self.mean(edge, left, right)
        return Level(mean.across, mean.u, mean.method, mean.quality, mean.flags)

    @property
    def cut_edge(self) -> Literal["base", "top", ""]:
        """Where the instance was cut: an edge of nothing, whose level is another's."""
        if self.instance.cut_v is None:
            return ""
        return "top" if self.instance.is_below_cut else "base"

    def span(self, edge: Literal["base", "top"], share: float = PLATEAU) -> tuple[float, float]:
        """The central part in u between the walls near the base or the top."""
        left, right = self.walls_at(self.level(NEAR_BASE if edge == "base" else NEAR_TOP))
        margin = (right - left) * (1 - share) / 2
        return left + margin, right - margin

    def u_of_level(self, fraction: float) -> float:
        """How uncertain the level at a fraction of the height is, from base and top."""
        return math.hypot((1 - fraction) * self.base.u, fraction * self.top.u)


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def settled(body: Body, base_rule: Literal["plateau", "lowest", "cut"]) -> Body:
    """The body with levels of its base and top found on its own curves.

    Where the walls are taken depends on the levels, and these on the walls: two rounds.

    Raises:
        UnmeasurableError: It has no base or no top.
    """
    if body.cut_edge == "top" and body.instance.cut_v is not None:
        lowest = min(float(outline[:, 1].min()) for outline in body.outline)
        body = replace(
            body,
            base=replace(body.base, v=lowest),
            top=replace(body.top, v=body.instance.cut_v),
        )
    for _ in range(_ROUNDS):
        top = _cut_level(body) if body.cut_edge == "top" and body.bases else body.plateau("top")
        base = body.base
        if base_rule == "plateau":
            base = body.plateau("base")
        elif base_rule == "cut" and body.bases:
            base = _cut_level(body)
        if top.v <= base.v:
            raise UnmeasurableError("no_height")
        body = replace(body, base=base, top=top)
    return body


def _cut_level(body: Body) -> Level:
    """Mean of the bases that cut a body; the worst tier speaks for all.

    They lie elsewhere, so a tilt of the frame moves the cut against the body.
    """
    levels = [one.base for one in body.bases]
    places = body.frame.to_uv(np.array([one.instance.center for one in (body, *body.bases)]))[:, 0]
    tilt = math.radians(body.frame.tilt_u_deg) * abs(float(places[0] - places[1:].mean()))
    u = math.hypot(math.sqrt(sum(level.u**2 for level in levels)) / len(levels), tilt)
    worst = max(levels, key=lambda level: TIERS.index(level.method))
    flags = tuple(dict.fromkeys(flag for level in levels for flag in level.flags))
    return replace(worst, v=sum(level.v for level in levels) / len(levels), u=u, flags=flags)


def sampled(segments: Points, along: Literal["u", "v"]) -> tuple[Line, Line, Line]:
    """Least and greatest crossing of an outline on lines every `STEP_PX`.

    Args:
        segments: Starts and ends (u, v). Shape (N, 2, 2).
        along: "v" gives the walls, "u" the faces.

    Returns:
        Places along, least and greatest position across.
    """
    pieces = segments if along == "v" else segments[..., ::-1]
    low, high = pieces[..., 1].min(), pieces[..., 1].max()
    first, last = math.ceil(low / STEP_PX), math.floor(high / STEP_PX)
    places = np.arange(first, last + 1) * STEP_PX
    least, greatest = extremes(pieces, places)
    return places, least, greatest
