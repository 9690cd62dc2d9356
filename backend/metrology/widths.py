"""Lengths along u: widths, pitches, spaces, and how one structure lies in or beside another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from statistics import median_low
from typing import Literal, TypeAlias

import numpy as np

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
from backend.metrology.results import UNEVEN

_UNEVEN = 1.5  # times the median gap, from which on a structure may be lost in a gap
End: TypeAlias = tuple[Body, Side]  # one wall of one instance


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
    of_level = _u_of_level(body, band, body.leans["right"] - body.leans["left"])
    reading = Reading(
        value=right.across - left.across,
        u=hypot(left.u, right.u, of_level),
        method=method,
        quality=quality,
        flags=flags,
        line=(
            body.frame.point(left.across, band.middle),
            body.frame.point(right.across, band.middle),
        ),
    )
    return with_lines(reading, lines)


def _u_of_level(body: Body, band: Band, per_level: float) -> float:
    """What a length owes to its uncertain level, if it changes by so much per px of height."""
    return abs(per_level) * body.u_of_level(body.fraction(band.middle))


def measure_gap(scene: Scene, body: Body, rule: Gap, variant: Variant) -> dict[str, Reading]:
    """Pitch or space from an instance to its right neighbour, both on the level of the instance."""
    neighbours = [one for one in scene.bodies[rule.of] if one.index == body.index + 1]
    if not neighbours:
        raise UnmeasurableError("no_neighbour")
    other = neighbours[0]
    band = band_at(rule.at, variant.at_fraction, body, scene.nm_per_px)
    if rule.kind == "pitch":
        reading = _of_middles(body, other, band)
    else:
        reading = _of_edges(body, ((body, "right"), (other, "left")), band)
    if _is_uneven(scene.bodies[rule.of], body, other):
        reading = replace(reading, flags=(*reading.flags, UNEVEN))
    return {"": reading}


def _is_uneven(bodies: Sequence[Body], body: Body, other: Body) -> bool:
    """Whether a gap is so wide beside the others of the image that one may be lost in it."""
    centers = body.frame.to_uv(np.array([one.instance.center for one in bodies]))[:, 0].tolist()
    places = {one.index: center for one, center in zip(bodies, centers, strict=True)}
    gaps = [abs(right - left) for left, right in pairwise(centers)]
    # of two gaps the lower one is the median: the other may be two in one
    return abs(places[other.index] - places[body.index]) > _UNEVEN * median_low(gaps)


def measure_distance(
    scene: Scene, body: Body, rule: Distance, variant: Variant
) -> dict[str, Reading]:
    """From one structure to another: edge to edge, centre to centre, or inner margins."""
    band = band_at(rule.at, variant.at_fraction, body, scene.nm_per_px)
    other = _partner(scene, body, rule, band, variant.side)
    if rule.kind == "overlay":
        return {"": _of_middles(body, other, band)}
    side: Side = variant.side or "left"
    facing: Side = side if rule.kind == "enclosure" else ("right" if side == "left" else "left")
    ends: tuple[End, End] = ((body, side), (other, facing))
    return {"": _of_edges(body, ends if side == "right" else (ends[1], ends[0]), band)}


def _partner(
    scene: Scene, body: Body, rule: Distance, band: Band, side: Literal["left", "right", ""]
) -> Body:
    """The instance of the other structure that a measurement runs to.

    A distance runs to the nearest on its side, but not through another instance of its own
    structure: two may share what lies between them. An overlay is of two that belong together, so
    each must be nearest to the other, and to no third as near. An enclosure is of what overlaps.

    Raises:
        UnmeasurableError: There is none.
    """
    ours = sum(body.walls_at(band.middle)) / 2
    own = [place for _, place in _others(scene.bodies[rule.of], body, band)]
    found = _others(scene.bodies[rule.to], body, band)
    if rule.kind == "distance":
        found = [pair for pair in found if (pair[1] > ours) == (side == "right")]
    elif rule.kind == "enclosure":
        found = [pair for pair in found if _overlap(body, pair[0], band)]
    if not found:
        raise UnmeasurableError("no_neighbour")
    other, place = min(found, key=lambda pair: abs(pair[1] - ours))
    if _is_anothers(rule, place, ours, own):
        raise UnmeasurableError("no_neighbour")
    return other


def _others(bodies: Sequence[Body], body: Body, band: Band) -> list[tuple[Body, float]]:
    """All but a body itself that reach a level, and where the middle of each is there."""
    found = []
    for other in bodies:
        if (other.instance.structure, other.index) == (body.instance.structure, body.index):
            continue
        with suppress(UnmeasurableError):
            found.append((other, sum(other.walls_at(band.middle)) / 2))
    return found


def _is_anothers(rule: Distance, place: float, ours: float, own: Sequence[float]) -> bool:
    """Whether what lies at a place belongs rather to another of our own structure."""
    if rule.kind == "distance":
        return any(min(ours, place) < one < max(ours, place) for one in own)
    if rule.kind == "overlay":
        return any(abs(place - one) <= abs(place - ours) for one in own)
    return False


def _overlap(body: Body, other: Body, band: Band) -> bool:
    """Whether two bodies share a stretch of a level."""
    (left, right), (first, last) = (one.walls_at(band.middle) for one in (body, other))
    return left < last and first < right


def _of_middles(body: Body, other: Body, band: Band) -> Reading:
    """From the middle of a body's walls to that of another's."""
    walls = [one.mean(side, band.low, band.high) for one in (body, other) for side in WALLS]
    across = [wall.across for wall in walls]
    edges = hypot(*(wall.u for wall in walls)) / 2
    u = hypot(edges, _u_of_level(body, band, other.lean - body.lean))
    return _across(body, walls, (sum(across[:2]) / 2, sum(across[2:]) / 2), band.middle, u)


def _of_edges(body: Body, ends: tuple[End, End], band: Band) -> Reading:
    """From one wall to another, on a level of a body."""
    walls = [one.mean(side, band.low, band.high) for one, side in ends]
    first, last = (one.leans[side] for one, side in ends)
    u = hypot(*(wall.u for wall in walls), _u_of_level(body, band, last - first))
    return _across(body, walls, (walls[0].across, walls[1].across), band.middle, u)


def _across(
    body: Body, edges: list[EdgeMean], ends: tuple[float, float], v: float, u: float
) -> Reading:
    method, quality, flags = worst(edges)
    line = (body.frame.point(ends[0], v), body.frame.point(ends[1], v))
    value = ends[1] - ends[0]
    return Reading(value, u, method=method, quality=quality, flags=flags, line=line)
