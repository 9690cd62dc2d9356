"""True critical dimensions of a drawn device: lines cut its polygons, roughness and all.

The definitions are those of the CD recipes: fractions of the height count from 0 at the base
to 1 at the top, levels are averages over the central third of a plateau, widths are averages
over a band, and only structures that lie wholly inside the picture are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from backend.microscope.devices import Device
from backend.microscope.view import View
from backend.microscope.walls import (
    FAR_NM,
    SIDES,
    Walled,
    central_third,
    corner_radius,
    film_beside,
    film_on_base,
    film_under,
    lean,
    leveled,
    plateau_level,
    wall_angle,
    width_roughness,
)

Side = Literal["left", "right", ""]
Quantity = Literal["value", "mean", "min", "max", "std"]


@dataclass(frozen=True)
class TrueCD:
    """One true value, as a recipe would report it."""

    measurement: str  # id in the recipe
    kind: str  # width, height, ...
    structure: str  # gate, active or trench
    instance: (
        int  # complete structures from the left, 0 first; a gap has the number of its left one
    )
    value: float
    unit: Literal["nm", "deg", "nm2", "1"]
    center_px: tuple[float, float]  # (row, column) near the measurement, to pair rows by position
    side: Side = ""
    quantity: Quantity = "value"
    fraction: float | None = None  # of the height, where the measurement has one


def measure_device(device: Device, view: View) -> tuple[TrueCD, ...]:
    """All true CDs of the structures that `view` shows completely."""
    if device.module == "gate":
        return tuple(_gate_cds(device, view))
    return tuple(_active_cds(device, view))


def find_gates(device: Device, view: View) -> list[Walled]:
    """The metal of each complete gate, left to right."""
    parts = shapely.get_parts(device.polygons["Metal"])
    gates = []
    for feature in device.features:
        part = _at(parts, feature.center_nm, feature.base_nm + feature.height_nm / 2)
        if part and view.shows(part):
            gates.append(leveled(part, feature.base_nm, feature.height_nm))
    return gates


def find_trenches(device: Device, view: View) -> list[Walled]:
    """Liner and fill of each complete trench, left to right."""
    filled = shapely.union_all([device.polygons["Liner"], device.polygons["Oxide"]])
    parts = shapely.get_parts(filled)
    trenches = []
    for left, right in pairwise(device.features):
        middle = (left.center_nm + right.center_nm) / 2
        part = _at(parts, middle, left.base_nm + left.height_nm / 2)
        if part and view.shows(part):
            trenches.append(leveled(part, left.base_nm, left.height_nm))
    return trenches


def find_actives(device: Device, view: View, cut_nm: float) -> list[Walled]:
    """The silicon between two trenches above the level `cut_nm`, left to right."""
    silicon = device.polygons["Si"]
    actives = []
    for feature in device.features:
        half = device.pitch_nm / 2
        box = shapely.box(feature.center_nm - half, cut_nm, feature.center_nm + half, FAR_NM)
        part = _largest(silicon & box)
        if part.area and view.shows(part):
            height = feature.base_nm + feature.height_nm - cut_nm
            actives.append(Walled(part, cut_nm, leveled(part, cut_nm, height).top_nm))
    return actives


def _gate_cds(device: Device, view: View) -> Iterator[TrueCD]:
    gates = find_gates(device, view)
    for index, gate in enumerate(gates):
        report = _Reporter("gate", index, gate, view)
        widths = {f: gate.width(gate.level(f)) for f in (0.9, 0.5)}
        yield report.row("gate_tcd", "width", widths[0.9], fraction=0.9)
        yield report.row("gate_mcd", "width", widths[0.5], fraction=0.5)
        yield report.row("gate_bcd", "width", gate.width(gate.base_nm + 2))
        sweep = [gate.width(gate.level(f)) for f in np.arange(0.10, 0.9001, 0.02).tolist()]
        yield report.row("gate_bow", "width", max(sweep))
        yield report.row("gate_h", "height", gate.height_nm, fraction=1)
        yield from report.angles("gate_swa")
        yield from report.film("gox_t", film_under(gate, device.polygons["Oxide"]), fraction=0)
        for side in ("left", "right"):
            spacer = film_beside(gate, device.polygons["Nitride"], side, (0.40, 0.60), outward=True)
            yield from report.film("sp_t", spacer, side=side, fraction=0.5)
        yield report.row("gate_area", "area", gate.outline.area, unit="nm2")
        yield report.row("gate_lwr", "roughness", width_roughness(gate, 0.15, 0.85))
        yield report.row("gate_ar", "ratio", gate.height_nm / widths[0.5], unit="1")
    yield from _gaps("gate", gates, view)


def _active_cds(device: Device, view: View) -> Iterator[TrueCD]:
    trenches = find_trenches(device, view)
    if not trenches:
        return
    cut = float(np.mean([trench.base_nm for trench in trenches]))
    actives = find_actives(device, view, cut)
    for index, active in enumerate(actives):
        report = _Reporter("active", index, active, view)
        for name, fraction in (("act_tcd", 0.9), ("act_mcd", 0.5), ("act_bcd", 0.1)):
            width = active.width(active.level(fraction))
            yield report.row(name, "width", width, fraction=fraction)
        for fraction in np.round(np.arange(0.10, 0.9001, 0.05), 2).tolist():
            width = active.width(active.level(fraction))
            yield report.row("act_profile", "width", width, fraction=fraction)
        yield report.row("trench_depth", "height", active.height_nm, fraction=1)
        yield from report.angles("act_swa")
        yield report.row("act_lean", "tilt", lean(active, 0.15, 0.85), unit="deg")
        yield from report.corners("act_corner", device.features[0].corner_nm)
        ratio = active.height_nm / active.width(active.level(0.5))
        yield report.row("act_ar", "ratio", ratio, unit="1")
    for index, trench in enumerate(trenches):
        yield from _trench_cds(device, _Reporter("trench", index, trench, view), actives)
    yield from _gaps("active", actives, view)


def _trench_cds(device: Device, report: _Reporter, actives: Sequence[Walled]) -> Iterator[TrueCD]:
    trench, liner = report.walled, device.polygons["Liner"]
    yield report.row("trench_bcd", "width", trench.width(trench.base_nm + 5))
    sides = {side: film_beside(trench, liner, side, (0.3, 0.7), outward=False) for side in SIDES}
    for side, lengths in sides.items():
        yield from report.film("liner_side", lengths, side=side, fraction=0.5)
    bottom = film_on_base(trench, liner)
    yield from report.film("liner_bottom", bottom, fraction=0)
    mean_side = np.mean([lengths.mean() for lengths in sides.values()])
    yield report.row("liner_coverage", "ratio", float(bottom.mean() / mean_side), unit="1")
    yield report.row("trench_area", "area", trench.outline.area, unit="nm2")
    tops = _neighbouring_tops(trench, actives, device.pitch_nm)
    if len(tops) == 2:  # noqa: PLR2004  (one on each side)
        fill = plateau_level(
            device.polygons["Oxide"], central_third(trench, 0.9), trench.level(0.7), up=True
        )
        yield report.row("sti_recess", "recess", fill - float(np.mean(tops)), fraction=1)


@dataclass(frozen=True)
class _Reporter:
    """Writes the rows of one instance."""

    structure: str
    instance: int
    walled: Walled
    view: View

    def row(
        self,
        measurement: str,
        kind: str,
        value: float,
        unit: Literal["nm", "deg", "nm2", "1"] = "nm",
        fraction: float | None = None,
    ) -> TrueCD:
        """One value at the middle of the instance."""
        middle = float(self.walled.outline.centroid.x)
        level = self.walled.level(0.5 if fraction is None else fraction)
        ((row, column),) = self.view.to_px(np.array([[middle, level]]))
        return TrueCD(
            measurement,
            kind,
            self.structure,
            self.instance,
            float(value),
            unit,
            (float(row), float(column)),
            fraction=fraction,
        )

    def angles(self, measurement: str) -> Iterator[TrueCD]:
        """Both sidewall angles, between 15 and 85 % of the height."""
        for side in SIDES:
            angle = wall_angle(self.walled, side, 0.15, 0.85)
            row = self.row(measurement, "sidewall_angle", angle, unit="deg", fraction=0.5)
            yield replace(row, side=side, center_px=self._at_wall(side))

    def corners(self, measurement: str, designed_nm: float) -> Iterator[TrueCD]:
        """Radii of both top corners, without one that roughness destroyed."""
        for side in SIDES:
            radius = corner_radius(self.walled, side, designed_nm)
            if radius is not None:
                row = self.row(measurement, "corner_radius", radius, fraction=1)
                yield replace(row, side=side, center_px=self._at_wall(side, 0.95))

    def film(
        self, measurement: str, lengths_nm: NDArray[np.float64], fraction: float, side: Side = ""
    ) -> Iterator[TrueCD]:
        """Mean, min, max and standard deviation of a film's thickness."""
        values: dict[Quantity, float] = {
            "mean": lengths_nm.mean(),
            "min": lengths_nm.min(),
            "max": lengths_nm.max(),
            "std": lengths_nm.std(ddof=1),
        }
        for quantity, value in values.items():
            row = self.row(measurement, "thickness", value, fraction=fraction)
            center = self._at_wall(side) if side else row.center_px
            yield replace(row, quantity=quantity, side=side, center_px=center)

    def _at_wall(self, side: Side, fraction: float = 0.5) -> tuple[float, float]:
        level = self.walled.level(fraction)
        u = self.walled.mean_walls(level)[SIDES.index("left" if side == "left" else "right")]
        ((row, column),) = self.view.to_px(np.array([[u, level]]))
        return float(row), float(column)


def _gaps(structure: str, instances: Sequence[Walled], view: View) -> Iterator[TrueCD]:
    """Pitch and space of neighbours at half height."""
    prefix = {"gate": "gate", "active": "act"}[structure]
    for index, (one, other) in enumerate(pairwise(instances)):
        walls, next_walls = one.mean_walls(one.level(0.5)), other.mean_walls(other.level(0.5))
        middle = Walled(shapely.union(one.outline, other.outline), one.base_nm, one.top_nm)
        report = _Reporter(structure, index, middle, view)
        pitch = (sum(next_walls) - sum(walls)) / 2
        yield report.row(f"{prefix}_pitch", "pitch", pitch, fraction=0.5)
        yield report.row(f"{prefix}_space", "space", next_walls[0] - walls[1], fraction=0.5)


def _neighbouring_tops(trench: Walled, actives: Sequence[Walled], pitch_nm: float) -> list[float]:
    """Levels of the complete actives on either side of a trench."""
    left, right = trench.mean_walls(trench.level(0.5))
    tops = []
    for active in actives:
        active_left, active_right = active.mean_walls(trench.level(0.5))
        if min(abs(active_left - right), abs(active_right - left)) < pitch_nm / 4:
            tops.append(active.top_nm)
    return tops


def _at(parts: NDArray[np.object_], u: float, v: float) -> Polygon | None:
    """The part that holds a point, if any."""
    held = [part for part in parts if shapely.contains_xy(part, u, v)]
    return held[0] if held else None


def _largest(shape: BaseGeometry) -> BaseGeometry:
    parts = shapely.get_parts(shape)
    return max(parts, key=lambda part: part.area) if len(parts) else Polygon()
