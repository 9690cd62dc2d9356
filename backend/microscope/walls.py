"""Structures between two walls: levels, widths, angles and films, cut from their outlines.

All lengths are nm in the frame of the device (u along the reference interface, v upward).
Fractions of a height count from 0 at the base to 1 at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Levels: TypeAlias = NDArray[np.floating]  # (N,), u or v in nm
WallSide: TypeAlias = Literal["left", "right"]
SIDES: tuple[WallSide, ...] = ("left", "right")
BAND = 0.04  # height of the band a width is averaged over, as a share of the structure's height
LINES = 41  # lines through such a band
STEP_NM = 0.25  # distance of the samples along a wall or a film
FAR_NM = 1e4  # outside of every device


@dataclass(frozen=True)
class Walled:
    """A structure between two walls, with the levels of its base and top."""

    outline: BaseGeometry  # (u, v) in nm
    base_nm: float
    top_nm: float

    @property
    def height_nm(self) -> float:
        """Top minus base."""
        return self.top_nm - self.base_nm

    def level(self, fraction: float) -> float:
        """Level v at a fraction of the height."""
        return self.base_nm + fraction * self.height_nm

    def walls(self, v: Levels) -> NDArray[np.float64]:
        """Positions u of the left and the right wall on lines at `v` (N,). Shape (N, 2)."""
        ends = np.stack([np.full_like(v, -FAR_NM), v, np.full_like(v, FAR_NM), v], axis=1)
        # cut off what the lines cannot meet: most of a rough outline
        near = self.outline & shapely.box(-FAR_NM, v.min() - 1, FAR_NM, v.max() + 1)
        cuts = shapely.intersection(shapely.linestrings(ends.reshape(-1, 2, 2)), near)
        bounds: NDArray[np.float64] = shapely.bounds(cuts)
        return bounds[:, [0, 2]]

    def mean_walls(self, level_nm: float) -> tuple[float, float]:
        """Positions u of both walls, averaged over the band of a width around a level.

        Near the base or the top the band shrinks, to stay inside however rough these are.
        """
        room = min(level_nm - self.base_nm, self.top_nm - level_nm) / 2
        half = min(BAND / 2 * self.height_nm, room)
        left, right = self.walls(np.linspace(level_nm - half, level_nm + half, LINES)).mean(axis=0)
        return float(left), float(right)

    def width(self, level_nm: float) -> float:
        """Mean distance of the walls over the band around a level."""
        left, right = self.mean_walls(level_nm)
        return right - left

    def between(self, low: float, high: float) -> Levels:
        """Levels every `STEP_NM` between two fractions of the height."""
        count = max(3, int((high - low) * self.height_nm / STEP_NM))
        return np.linspace(self.level(low), self.level(high), count)


def leveled(outline: BaseGeometry, base_nm: float, height_nm: float) -> Walled:
    """A structure with the realised levels of its base and top, found near the designed ones."""
    nominal = Walled(outline, base_nm, base_nm + height_nm)
    middle = nominal.level(0.5)
    base = plateau_level(outline, central_third(nominal, 0.1), middle, up=False)
    top = plateau_level(outline, central_third(nominal, 0.9), middle, up=True)
    return Walled(outline, base, top)


def central_third(walled: Walled, fraction: float) -> tuple[float, float]:
    """The central third between the walls at a fraction of the height."""
    left, right = walled.mean_walls(walled.level(fraction))
    return left + (right - left) / 3, right - (right - left) / 3


def plateau_level(
    outline: BaseGeometry, span_nm: tuple[float, float], inside_nm: float, up: bool
) -> float:
    """Mean level of the upper (or lower) face over a span of u, from the area up to it."""
    left, right = span_nm
    ends = (inside_nm, FAR_NM) if up else (-FAR_NM, inside_nm)
    area = (outline & shapely.box(left, ends[0], right, ends[1])).area
    return inside_nm + (area if up else -area) / (right - left)


def wall_line(walled: Walled, side: WallSide, low: float, high: float) -> tuple[float, float]:
    """Slope and offset of u = offset + slope x v along a wall."""
    v = walled.between(low, high)
    slope, offset = np.polyfit(v, walled.walls(v)[:, SIDES.index(side)], 1)
    return float(slope), float(offset)


def wall_angle(walled: Walled, side: WallSide, low: float, high: float) -> float:
    """Angle between base and wall in degrees, below 90 where the structure is wider at its base.

    The wall is the least-squares line through it between two fractions of the height.
    """
    slope, _ = wall_line(walled, side, low, high)
    return 90 - float(np.degrees(np.arctan(slope if side == "left" else -slope)))


def corner_radius(walled: Walled, side: WallSide, designed_nm: float) -> float | None:
    """Radius of the circle through a top corner, by least squares.

    Args:
        walled: The structure.
        side: Which of its two top corners.
        designed_nm: Radius that sets where the corner starts and ends: the tangent points on the
            wall's line and on the top. A search for them would run away on a rough outline.

    Returns:
        The radius in nm, or None where roughness left nothing of the corner.
    """
    slope, offset = wall_line(walled, side, 0.15, 0.85)
    inward = 1 if side == "left" else -1
    turn = np.pi / 2 - inward * np.arctan(slope)
    reach = designed_nm * np.tan(turn / 2)
    low = walled.top_nm - reach * np.cos(np.arctan(slope))
    inner = offset + slope * walled.top_nm + inward * reach
    outer = inner - inward * FAR_NM
    box = shapely.box(min(inner, outer), low, max(inner, outer), FAR_NM)
    arcs = shapely.get_parts(shapely.line_merge(walled.outline.boundary & box))
    if not len(arcs):
        return None
    longest = arcs[np.argmax(shapely.length(arcs))]
    return _circle_radius(shapely.get_coordinates(longest.segmentize(STEP_NM / 5)))


def _circle_radius(points: NDArray[np.float64]) -> float:
    """Radius of the circle nearest to points (N, 2): |p|^2 = 2 p.c + r^2 - |c|^2 is linear."""
    centered = points - points.mean(axis=0)
    terms = np.column_stack([2 * centered, np.ones(len(points))])
    (u, v, rest), *_ = np.linalg.lstsq(terms, (centered**2).sum(axis=1), rcond=None)
    return float(np.sqrt(rest + u**2 + v**2))


def width_roughness(walled: Walled, low: float, high: float) -> float:
    """Three sigma of the width about its best line."""
    v = walled.between(low, high)
    left, right = walled.walls(v).T
    rest = right - left - np.polyval(np.polyfit(v, right - left, 1), v)
    return float(3 * rest.std(ddof=2))


def lean(walled: Walled, low: float, high: float) -> float:
    """Angle of the mid-line from v in degrees, positive to the right."""
    v = walled.between(low, high)
    return float(np.degrees(np.arctan(np.polyfit(v, walled.walls(v).mean(axis=1), 1)[0])))


def film_thickness(
    film: BaseGeometry, starts_nm: NDArray[np.float64], ends_nm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Length of each ray inside a film; rays start and end outside it. Two (N, 2) -> (N,), nm."""
    rays = shapely.linestrings(np.stack([starts_nm, ends_nm], axis=1))
    points = np.concatenate([starts_nm, ends_nm])
    low, high = points.min(axis=0), points.max(axis=0)
    near = film & shapely.box(*(low - 1), *(high + 1))
    return shapely.length(shapely.intersection(rays, near))


def film_under(gate: Walled, oxide: BaseGeometry) -> NDArray[np.float64]:
    """Thickness of the film under a gate, 2 nm in from its corners."""
    left, right = gate.mean_walls(gate.base_nm + 2)
    u = np.arange(left + 2, right - 2, STEP_NM)
    return _vertical(oxide, u, gate.base_nm - 20, gate.base_nm + 4)


def film_on_base(trench: Walled, liner: BaseGeometry) -> NDArray[np.float64]:
    """Thickness of the liner on the central third of a trench's bottom."""
    left, right = central_third(trench, 0.15)
    return _vertical(liner, np.arange(left, right, STEP_NM), trench.base_nm - 10, trench.level(0.4))


def _vertical(film: BaseGeometry, u: Levels, low_nm: float, high_nm: float) -> NDArray[np.float64]:
    starts = np.stack([u, np.full_like(u, low_nm)], axis=1)
    return film_thickness(film, starts, np.stack([u, np.full_like(u, high_nm)], axis=1))


def film_beside(
    walled: Walled,
    film: BaseGeometry,
    side: WallSide,
    fractions: tuple[float, float],
    outward: bool,
) -> NDArray[np.float64]:
    """Thickness of the film on a wall, along the normal of the wall's best line."""
    slope, offset = wall_line(walled, side, *fractions)
    v = walled.between(*fractions)
    wall = np.stack([offset + slope * v, v], axis=1)
    normal = np.array([1, -slope]) / np.hypot(1, slope)
    if (side == "left") == outward:
        normal = -normal
    reach = 0.45 * walled.width(walled.level(0.5))  # stays short of the opposite film
    return film_thickness(film, wall - 4 * normal, wall + max(reach, 12) * normal)
