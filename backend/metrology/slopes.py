"""Angles of walls, and the radius of the corner between a wall and a plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backend.metrology.bodies import WALLS, Body, UnmeasurableError
from backend.metrology.contours import Points, crossings, segments_of
from backend.metrology.curves import EdgeLine
from backend.metrology.readings import Reading, Scene, Variant, hypot, worst
from backend.metrology.recipe import CornerRadius, Side, SidewallAngle, Tilt
from backend.metrology.results import Point

SMALL_RADIUS = 3  # in sigmas of the blur
_BLUR_PX = 1.0  # where no fit tells it: a pixel
_LEAST_POINTS = 6
_REACHES = (0.7, 1.0, 1.3)  # of the expected radius


def measure_sidewall_angle(
    _: Scene, body: Body, rule: SidewallAngle, variant: Variant
) -> dict[str, Reading]:
    """Angle between base and wall; below 90 where the structure is wider at its base."""
    side: Side = variant.side or "left"
    wall = body.flank(side, rule.between_fractions)
    outward = wall.slope if side == "left" else -wall.slope
    u = math.degrees(wall.u_slope) / (1 + wall.slope**2)
    ends = _ends(body, [(wall.across(v), v) for v in _levels(body, rule.between_fractions)])
    method, quality, flags = worst([wall])
    value = 90 - math.degrees(math.atan(outward))
    u = hypot(u, body.frame.tilt_u_deg)
    return {"": Reading(value, u, "deg", method, quality, flags, line=ends)}


def measure_tilt(_: Scene, body: Body, rule: Tilt, __: Variant) -> dict[str, Reading]:
    """Lean of the mid-line, + to the right, or the taper of the walls, + narrower at the top."""
    left, right = (body.flank(side, rule.between_fractions) for side in WALLS)
    is_lean = rule.quantity == "lean"
    slope = (left.slope + right.slope) / 2 if is_lean else (left.slope - right.slope) / 2
    u = math.degrees(hypot(left.u_slope, right.u_slope)) / 2
    levels = _levels(body, rule.between_fractions)
    ends = _ends(body, [((left.across(v) + right.across(v)) / 2, v) for v in levels])
    method, quality, flags = worst([left, right])
    value = math.degrees(math.atan(slope))
    u = hypot(u, body.frame.tilt_u_deg) if is_lean else u  # a tilted frame leaves the taper alone
    return {"": Reading(value, u, "deg", method, quality, flags, line=ends)}


@dataclass(frozen=True)
class _Corner:
    """Where a wall's line meets a plateau, seen along the line that halves the corner."""

    point: Points  # (u, v) where both lines meet
    along_wall: Points  # unit vectors from there, along the wall and along the plateau
    along_plateau: Points

    @property
    def half_angle(self) -> float:
        """Half the angle between wall and plateau."""
        return math.acos(float(np.clip(self.along_wall @ self.along_plateau, -1, 1))) / 2

    def gap(self, outline: Points) -> float:
        """Distance of the outline from the corner, along the halving line."""
        halving = self.along_wall + self.along_plateau
        halving = halving / np.hypot(*halving)
        across = np.array([-halving[1], halving[0]])
        turned = (outline - self.point) @ np.stack([halving, across], axis=1)
        _, places = crossings(segments_of([turned]), np.zeros(1))
        ahead = places[places > 0]
        if not len(ahead):
            raise UnmeasurableError("no_corner")
        return float(ahead.min())

    def arc(self, outline: Points, radius: float) -> Points:
        """Points of the outline between the tangent points of a circle in the corner."""
        reach = radius / math.tan(self.half_angle)
        # a staircase of pixels has few vertices: every piece is halved
        dense = np.concatenate([outline, (outline[1:] + outline[:-1]) / 2])
        places = (dense - self.point) @ np.stack([self.along_wall, self.along_plateau], axis=1)
        return dense[(places < reach).all(axis=1) & (places > -reach).all(axis=1)]


def measure_corner_radius(
    _: Scene, body: Body, rule: CornerRadius, variant: Variant
) -> dict[str, Reading]:
    """Radius of the circle through a corner, between its tangent points on wall and plateau.

    The gap between the outline and the corner tells where these are; a search for them would run
    away on a rough outline. No fit moves the outline, so wall and plateau are its own too.
    """
    side: Side = variant.side or "left"
    blur, body = _blur_px(body, side), body.seeded
    wall, plateau = body.flank(side), body.plateau(rule.part)
    corner = _corner(wall, plateau.v, side, rule.part)
    expected = corner.gap(body.outline[0]) / (1 / math.sin(corner.half_angle) - 1)
    arc = corner.arc(body.outline[0], expected)
    left, right = body.walls_at(body.level(0.5))
    if len(arc) < _LEAST_POINTS or expected > (right - left) / 2:
        raise UnmeasurableError("no_corner")
    center, radius = _circle(arc)
    method, quality, flags = worst([wall, plateau])
    if radius < SMALL_RADIUS * blur:
        flags = (*flags, "small_radius")
    low, high = sorted((body.level(0.5), body.level(0.9 if rule.part == "top" else 0.1)))
    edges = hypot(body.mean(side, low, high).u, plateau.u)
    scatter = float((np.hypot(*(arc - center).T) - radius).std()) / math.sqrt(len(arc))
    # an error of an edge moves the gap, and the radius by so many times more; a corner that is no
    # circle has another radius by its gap
    per_edge = 1 / (1 / math.sin(corner.half_angle) - 1)
    u = hypot(
        hypot(edges, scatter) * per_edge, radius - expected, _by_reach(corner, body, expected)
    )
    ends = _ends(body, [tuple(arc[0].tolist()), tuple(arc[-1].tolist())])
    return {"": Reading(radius, u, "px", method, quality, flags, n_lines=len(arc), line=ends)}


def _blur_px(body: Body, side: Side) -> float:
    """1 sigma of the blur of a wall, where a fit tells it."""
    try:
        return body.flank(side).quality.sigma_px or _BLUR_PX
    except UnmeasurableError:
        return _BLUR_PX


def _by_reach(corner: _Corner, body: Body, radius: float) -> float:
    """How much the radius depends on where its arc ends: roughness, or no circle at all."""
    arcs = [corner.arc(body.outline[0], radius * share) for share in _REACHES]
    radii = [_circle(arc)[1] for arc in arcs if len(arc) >= _LEAST_POINTS]
    return float(np.ptp(radii)) / 2 if len(radii) > 1 else radius


def _corner(wall: EdgeLine, level_v: float, side: Side, part: Literal["base", "top"]) -> _Corner:
    down = -1.0 if part == "top" else 1.0
    along = np.array([wall.slope, 1.0]) * down / math.hypot(1, wall.slope)
    inward = np.array([1.0 if side == "left" else -1.0, 0.0])
    return _Corner(np.array([wall.across(level_v), level_v]), along, inward)


def _circle(points: Points) -> tuple[Points, float]:
    """Center and radius of the circle nearest to points: |p|^2 = 2 p.c + r^2 - |c|^2 is linear."""
    middle = points.mean(axis=0)
    centered = points - middle
    terms = np.column_stack([2 * centered, np.ones(len(points))])
    (u, v, rest), *_ = np.linalg.lstsq(terms, (centered**2).sum(axis=1), rcond=None)
    return middle + np.array([u, v]), math.sqrt(rest + u**2 + v**2)


def _levels(body: Body, fractions: tuple[float, float]) -> tuple[float, float]:
    return body.level(fractions[0]), body.level(fractions[1])


def _ends(body: Body, uv: list[tuple[float, float]]) -> tuple[Point, Point]:
    return body.frame.point(*uv[0]), body.frame.point(*uv[1])
