"""What the outline of an instance encloses: its area, and the ellipse of the same moments."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from backend.metrology.bodies import FLANK, WALLS, Body, UnmeasurableError
from backend.metrology.contours import Points
from backend.metrology.readings import Known, Reading, Scene, Variant, hypot, worst
from backend.metrology.recipe import Outline
from backend.metrology.results import Point
from backend.metrology.seeds import polygon_area

_DRAWN_POINTS = 60
DIAMETERS = ("major", "minor", "equivalent", "ratio")


def measure_area(_: Scene, body: Body, __: Outline, ___: Variant) -> dict[str, Reading]:
    """Area inside the outline; edges that a fit has moved take their strip along."""
    outline = _to_cut(body)
    value, parts, edges = polygon_area(outline), [], []
    left, right = body.walls_at(body.level(0.5))
    for side in WALLS:
        low, high = (body.level(fraction) for fraction in FLANK)
        mean, seed = body.mean(side, low, high), body.seed[side].mean(low, high)
        shift = mean.across - seed.across if seed is not None else 0.0
        value += (shift if side == "right" else -shift) * body.height
        parts.append(mean.u * body.height)
        edges.append(mean)
    faces: list[Known] = [body.base, body.top]
    value += _moved(body, right - left)
    parts += [level.u * (right - left) for level in (body.base, body.top)]
    method, quality, flags = worst([*edges, *faces])
    return {
        "": Reading(
            value, hypot(*parts), "px^2", method, quality, flags, geometry=(_drawn(body, outline),)
        )
    }


def measure_diameter(_: Scene, body: Body, __: Outline, ___: Variant) -> dict[str, Reading]:
    """Axes of the ellipse that has the outline's area moments, exact for an ellipse.

    No fit moves the outline, so its own edges tell how well it is known.
    """
    outline = _to_cut(body)
    major, minor = _axes(outline)
    if minor <= 0:
        raise UnmeasurableError("no_outline")
    equivalent = math.sqrt(4 * polygon_area(outline) / math.pi)
    levels = body.level(0.4), body.level(0.6)
    left, right = (body.seeded.mean(side, *levels) for side in WALLS)
    u = hypot(left.u, right.u)
    method, quality, flags = worst([left, right])
    drawn = (_drawn(body, outline),)
    sizes = {"major": (major, u), "minor": (minor, u), "equivalent": (equivalent, u / math.sqrt(2))}
    readings = {
        name: Reading(value, u_size, "px", method, quality, flags, geometry=drawn)
        for name, (value, u_size) in sizes.items()
    }
    ratio = minor / major
    u_ratio = ratio * hypot(u / major, u / minor)
    readings["ratio"] = Reading(ratio, u_ratio, "ratio", method, quality, flags, geometry=drawn)
    return readings


def _to_cut(body: Body) -> Points:
    """The outline, ending at the level the instance was cut at."""
    outline = body.outline[0]
    if not body.cut_edge:
        return outline
    # a cut that runs between pixel centres leaves steps: they are laid onto its level
    v = body.base.v if body.cut_edge == "base" else body.top.v
    near = np.abs(outline[:, 1] - v) < 1
    return np.where(near[:, None], np.stack([outline[:, 0], np.full(len(outline), v)], 1), outline)


def _moved(body: Body, width: float) -> float:
    """Area that a base and a top moved by a fit add to that of the seed."""
    added = 0.0
    faces: tuple[tuple[Literal["base", "top"], int], ...] = (("base", -1), ("top", 1))
    for edge, sign in faces:
        if edge == body.cut_edge:
            continue
        seed = body.seed[edge].mean(*body.span(edge))
        level = body.base if edge == "base" else body.top
        added += sign * (level.v - seed.across) * width if seed is not None else 0.0
    return added


def _axes(outline: Points) -> tuple[float, float]:
    """Full axes of the ellipse with a polygon's second moments."""
    x, y = (outline - outline.mean(axis=0)).T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    area = cross.sum() / 2
    mean = np.array([((axis[:-1] + axis[1:]) * cross).sum() / (6 * area) for axis in (x, y)])
    xx, yy = (
        ((axis[:-1] ** 2 + axis[:-1] * axis[1:] + axis[1:] ** 2) * cross).sum() / (12 * area)
        for axis in (x, y)
    )
    xy = (
        (x[:-1] * y[1:] + 2 * x[:-1] * y[:-1] + 2 * x[1:] * y[1:] + x[1:] * y[:-1]) * cross
    ).sum() / (24 * area)
    moments = np.array([[xx, xy], [xy, yy]]) - np.outer(mean, mean)
    small, large = np.linalg.eigvalsh(moments)
    return 4 * math.sqrt(max(large, 0.0)), 4 * math.sqrt(max(small, 0.0))


def _drawn(body: Body, outline: Points) -> tuple[Point, ...]:
    points = body.frame.to_px(outline[:: max(1, len(outline) // _DRAWN_POINTS)])
    return tuple((float(row), float(column)) for row, column in points)
