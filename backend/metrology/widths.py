"""Lengths along u: widths, pitches, spaces, and how one structure lies in or beside another."""

from __future__ import annotations

from typing import Literal

from backend.metrology.bodies import WALLS, Body, UnmeasurableError
from backend.metrology.curves import EdgeMean
from backend.metrology.readings import (
    Band,
    Reading,
    Scene,
    Variant,
    band_at,
    hypot,
    with_lines,
    worst,
)
from backend.metrology.recipe import Distance, Gap, Side, Width


def measure_width(scene: Scene, body: Body, rule: Width, variant: Variant) -> dict[str, Reading]:
    """Right minus left edge, or the widest or narrowest of a sweep."""
    if rule.stat == "mean" or rule.at.sweep is None:
        fraction = variant.at_fraction
        return {"": width_in(body, band_at(rule.at, fraction, body, scene.nm_per_px))}
    bands = [band_at(rule.at, f, body, scene.nm_per_px) for f in rule.at.sweep.fractions()]
    # the seed tells where: the greatest of many noisy fits would be too great
    choose = max if rule.stat == "max" else min
    return {"": width_in(body, choose(bands, key=lambda band: _seed_width(body, band)))}


def _seed_width(body: Body, band: Band) -> float:
    left, right = (body.seed[side].position(band.low, band.high) for side in WALLS)
    if left is None or right is None:
        raise UnmeasurableError("no_edge")
    return right - left


def width_in(body: Body, band: Band) -> Reading:
    """Mean width over a band."""
    left, right = (body.mean(side, band.low, band.high) for side in WALLS)
    method, quality, flags = worst([left, right])
    lines = right.samples - left.samples
    reading = Reading(
        value=right.across - left.across,
        u=hypot(
            left.u, right.u, body.width_per_level * body.u_of_level(body.fraction(band.middle))
        ),
        method=method,
        quality=quality,
        flags=flags,
        line=(
            body.frame.point(left.across, band.middle),
            body.frame.point(right.across, band.middle),
        ),
    )
    return with_lines(reading, lines)


def measure_gap(scene: Scene, body: Body, rule: Gap, variant: Variant) -> dict[str, Reading]:
    """Pitch or space from an instance to its right neighbour, each at its own level."""
    neighbours = [one for one in scene.bodies[rule.of] if one.index == body.index + 1]
    if not neighbours:
        raise UnmeasurableError("no_neighbour")
    other = neighbours[0]
    edges: list[EdgeMean] = []
    for one in (body, other):
        band = band_at(rule.at, variant.at_fraction, one, scene.nm_per_px)
        edges += [one.mean(side, band.low, band.high) for side in WALLS]
    left, right, next_left, next_right = edges
    if rule.kind == "pitch":
        start, end = (left.across + right.across) / 2, (next_left.across + next_right.across) / 2
        u, used = hypot(*(edge.u for edge in edges)) / 2, edges
    else:
        start, end = right.across, next_left.across
        u, used = hypot(right.u, next_left.u), [right, next_left]
    v = band_at(rule.at, variant.at_fraction, body, scene.nm_per_px).middle
    return {"": _across(body, used, (start, end), v, u)}


def measure_distance(
    scene: Scene, body: Body, rule: Distance, variant: Variant
) -> dict[str, Reading]:
    """From one structure to another: edge to edge, centre to centre, or inner margins."""
    band = band_at(rule.at, variant.at_fraction, body, scene.nm_per_px)
    other = _partner(scene, body, rule, band, variant.side)
    ours = {side: body.mean(side, band.low, band.high) for side in WALLS}
    theirs = {side: other.mean(side, band.low, band.high) for side in WALLS}
    if rule.kind == "overlay":
        edges = [*ours.values(), *theirs.values()]
        start, end = (sum(e.across for e in two.values()) / 2 for two in (ours, theirs))
        u = hypot(*(edge.u for edge in edges)) / 2
        return {"": _across(body, edges, (start, end), band.middle, u)}
    side: Side = variant.side or "left"
    facing: Side = side if rule.kind == "enclosure" else ("right" if side == "left" else "left")
    edges = [ours[side], theirs[facing]]
    start, end = ours[side].across, theirs[facing].across
    if side == "left":
        start, end = end, start
    return {"": _across(body, edges, (start, end), band.middle, hypot(*(e.u for e in edges)))}


def _partner(
    scene: Scene, body: Body, rule: Distance, band: Band, side: Literal["left", "right", ""]
) -> Body:
    """The nearest instance of the other structure, on that side for distances."""
    ours = sum(body.walls_at(band.middle)) / 2
    found = []
    for other in scene.bodies[rule.to]:
        try:
            apart = sum(other.walls_at(band.middle)) / 2 - ours
        except UnmeasurableError:
            continue
        if rule.kind != "distance" or (apart > 0) == (side == "right"):
            found.append((abs(apart), other))
    if not found:
        raise UnmeasurableError("no_neighbour")
    return min(found, key=lambda one: one[0])[1]


def _across(
    body: Body, edges: list[EdgeMean], ends: tuple[float, float], v: float, u: float
) -> Reading:
    method, quality, flags = worst(edges)
    line = (body.frame.point(ends[0], v), body.frame.point(ends[1], v))
    value = ends[1] - ends[0]
    return Reading(value, u, method=method, quality=quality, flags=flags, line=line)
