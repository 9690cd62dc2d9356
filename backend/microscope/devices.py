"""Cross-sections of two device modules as polygons in nanometres, one multipolygon per material.

Frame of a device: u to the right along the reference interface, v away from the substrate, both
in nm, the origin in the middle of the field of view. The polygons tile the drawn window exactly,
so a measurement on them is a measurement of what the picture shows, roughness included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import affine_transform, translate
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from backend.microscope.roughness import Roughness, rough_line, rough_polygon, valid_polygons

Module = Literal["gate", "active"]

MATERIALS: Mapping[Module, tuple[str, ...]] = {
    "gate": ("Si", "Oxide", "Nitride", "Metal"),
    "active": ("Si", "Liner", "Oxide", "Cap"),
}
"""Materials of a module in the order of their class indices."""


@dataclass(frozen=True)
class Feature:
    """One repeated structure: a gate, or the active area between two trenches."""

    center_nm: float  # u of its middle at the base
    base_nm: float  # v where it stands (gate) or where its trenches end (active)
    height_nm: float
    cds_nm: tuple[float, float, float]  # designed width at the base, at half height, at the top
    corner_nm: float = 0.0  # designed radius of its top corners, 0 = sharp


@dataclass(frozen=True)
class Device:
    """A realised cross-section."""

    module: Module
    polygons: Mapping[str, MultiPolygon]  # by material, tiling the window
    features: tuple[Feature, ...]  # left to right
    pitch_nm: float


@dataclass(frozen=True)
class GateDesign:
    """A row of gate stacks on gate oxide, with caps, spacers and an etch-stop layer above."""

    pitch_nm: float
    walk_nm: float  # every second gate is shifted by this, the mark of double patterning
    cds_nm: tuple[float, float, float]  # base, half height, top
    height_nm: float
    gate_oxide_nm: float
    spacer_nm: float
    cap_nm: float
    corner_nm: float  # radius of the shoulders of the cap
    etch_stop_nm: float  # 0 = none
    phase_nm: float  # u of gate 0
    surface_nm: float  # v of the silicon surface
    roughness: Roughness


@dataclass(frozen=True)
class ActiveDesign:
    """A row of active areas between lined and filled trenches, under a cap."""

    pitch_nm: float
    walk_nm: float
    cds_nm: tuple[float, float, float]  # base, half height, top
    depth_nm: float
    liner_side_nm: float
    liner_bottom_nm: float
    recess_nm: float  # fill above (+) or below (-) the active tops
    lean_nm: float  # how far the base stands to the right of the top
    corner_nm: float  # radius of the active's top corners
    bottom_nm: float  # radius of the trench's bottom corners
    phase_nm: float  # u of active 0
    surface_nm: float  # v of the active tops
    roughness: Roughness


def draw_gate_design(field_nm: tuple[float, float], rng: np.random.Generator) -> GateDesign:
    """Choose the sizes of a gate module that fits a field of view of (height, width) nm."""
    height_nm, width_nm = field_nm
    pitch = float(np.clip(width_nm / rng.uniform(2.5, 5.0), 30, 110))
    middle = float(np.clip(pitch * rng.uniform(0.30, 0.42), 12, 45))
    taper = rng.uniform(-0.02, 0.12) * middle
    room = 0.52 * height_nm
    height = float(np.clip(middle * rng.uniform(1.6, 3.2), 0.35 * room, 0.72 * room))
    space = pitch - middle
    return GateDesign(
        pitch_nm=pitch,
        walk_nm=float(rng.choice([0.0, rng.uniform(0.5, 2.0)])),
        cds_nm=(middle + taper / 2 + rng.uniform(0, 0.06) * middle, middle, middle - taper / 2),
        height_nm=height,
        gate_oxide_nm=rng.uniform(2.0, 5.0),
        spacer_nm=float(np.clip(space * rng.uniform(0.12, 0.24), 2.5, 8)),
        cap_nm=height * rng.uniform(0.18, 0.38),
        corner_nm=middle * rng.uniform(0.08, 0.3),
        etch_stop_nm=float(rng.choice([0.0, rng.uniform(3, 7)])),
        phase_nm=rng.uniform(-0.5, 0.5) * pitch,
        surface_nm=height_nm * rng.uniform(-0.28, -0.16),
        roughness=draw_roughness(rng),
    )


def draw_active_design(field_nm: tuple[float, float], rng: np.random.Generator) -> ActiveDesign:
    """Choose the sizes of an active module that fits a field of view of (height, width) nm."""
    height_nm, width_nm = field_nm
    pitch = float(np.clip(width_nm / rng.uniform(2.8, 5.5), 28, 90))
    middle = float(np.clip(pitch * rng.uniform(0.38, 0.52), 12, 45))
    depth = float(np.clip(middle * rng.uniform(2.2, 4.5), 0.35 * height_nm, 0.56 * height_nm))
    # walls of 85.5 to 88.8 degrees, as far as the trench has a bottom left
    slope = min(float(np.tan(np.radians(rng.uniform(1.2, 4.5)))), 0.3 * (pitch - middle) / depth)
    space = pitch - middle
    return ActiveDesign(
        pitch_nm=pitch,
        walk_nm=float(rng.choice([0.0, rng.uniform(0.5, 2.0)])),
        cds_nm=(middle + slope * depth, middle, middle - slope * depth),
        depth_nm=depth,
        liner_side_nm=float(np.clip(space * rng.uniform(0.09, 0.16), 2, 6)),
        liner_bottom_nm=float(np.clip(space * rng.uniform(0.08, 0.2), 2, 8)),
        recess_nm=rng.uniform(-1, 0.75) * min(4, 0.06 * depth),
        lean_nm=float(rng.choice([0.0, rng.uniform(-0.03, 0.03) * depth])),
        corner_nm=rng.uniform(1.5, 4),
        bottom_nm=space * rng.uniform(0.12, 0.25),
        phase_nm=rng.uniform(-0.5, 0.5) * pitch,
        surface_nm=height_nm * rng.uniform(0.2, 0.3),
        roughness=draw_roughness(rng),
    )


def draw_roughness(rng: np.random.Generator) -> Roughness:
    """Choose a roughness as etched device edges show it."""
    sigma_nm = 0.2 + 0.8 * rng.beta(1.2, 3)  # mostly good etches, some bad ones
    return Roughness(sigma_nm, rng.uniform(5, 20), rng.uniform(0.5, 0.8))


def build_gate(design: GateDesign, radius_nm: float, rng: np.random.Generator) -> Device:
    """Realise a gate module over the window of +-`radius_nm` around the origin."""
    window = shapely.box(-radius_nm, -radius_nm, radius_nm, radius_nm)
    film = design.roughness.scaled(0.35)  # grown films follow a polished surface
    surface = rough_line(_flat(design.surface_nm, radius_nm), film, rng)
    oxide_top = rough_line(_raised(surface, design.gate_oxide_nm), film.scaled(0.5), rng)
    features = _gate_features(design, radius_nm)
    metals, nitrides = [], []
    for feature in features:
        stack = _gate_stack(design, feature, rng)
        metal_top = _flat(feature.base_nm + feature.height_nm, radius_nm)
        metals.append(stack & _below(rough_line(metal_top, film, rng), radius_nm))
        nitrides += [stack, _grown(stack, design.spacer_nm, design.roughness.scaled(0.6), rng)]
    nitrides.append(_etch_stop(design, radius_nm, film, rng))
    si = _below(surface, radius_nm) & window
    above = window - _below(oxide_top, radius_nm)
    metal = shapely.union_all(metals) & above
    nitride = (shapely.union_all(nitrides) & above) - metal
    oxide = window - si - metal - nitride
    shapes = dict(zip(MATERIALS["gate"], (si, oxide, nitride, metal), strict=True))
    return _device("gate", shapes, features, design.pitch_nm)


def build_active(design: ActiveDesign, radius_nm: float, rng: np.random.Generator) -> Device:
    """Realise an active module over the window of +-`radius_nm` around the origin."""
    window = shapely.box(-radius_nm, -radius_nm, radius_nm, radius_nm)
    top, rough = design.surface_nm, design.roughness
    features = _active_features(design, radius_nm)
    trenches = _trench_columns(design, features)
    silicon = shapely.box(-2 * radius_nm, -2 * radius_nm, 2 * radius_nm, top)
    silicon = _opened(silicon - shapely.union_all(trenches), design.corner_nm)
    si = rough_polygon(_largest(silicon), rough, rng) & window
    empty = shapely.union_all([trench.buffer(2 * rough.sigma_nm) for trench in trenches]) - si
    space = shapely.union_all(
        [_lined(part, design, rng) for part in shapely.get_parts(empty) if part.area > 1]
    )
    fill = space & _rough_below(top + design.recess_nm, radius_nm, rough.scaled(0.5), rng)
    proud = max(min(design.recess_nm, 0.0), -1.5)  # a wet etch leaves the liner a little higher
    lined = empty & _rough_below(top + proud, radius_nm, rough.scaled(0.3), rng)
    liner = lined - space
    oxide = (fill & window) - si
    cap = window - si - liner - oxide
    shapes = dict(zip(MATERIALS["active"], (si, liner & window, oxide, cap), strict=True))
    return _device("active", shapes, features, design.pitch_nm)


def sheared(device: Device, shear: float) -> Device:
    """The device as a slow drift along u shows it: u grows by `shear` x v."""
    polygons = {
        name: affine_transform(shape, [1, shear, 0, 1, 0, 0])
        for name, shape in device.polygons.items()
    }
    features = tuple(replace(f, center_nm=f.center_nm + shear * f.base_nm) for f in device.features)
    return Device(device.module, polygons, features, device.pitch_nm)


def _device(
    module: Module, shapes: Mapping[str, BaseGeometry], features: Sequence[Feature], pitch_nm: float
) -> Device:
    polygons = {name: valid_polygons(shape) for name, shape in shapes.items()}
    return Device(module, polygons, tuple(features), pitch_nm)


def _centers(
    pitch_nm: float, walk_nm: float, phase_nm: float, radius_nm: float
) -> NDArray[np.float64]:
    count = int(np.ceil(radius_nm / pitch_nm)) + 2
    index = np.arange(-count, count + 1)
    return phase_nm + pitch_nm * index + walk_nm * (index % 2)


def _gate_features(design: GateDesign, radius_nm: float) -> tuple[Feature, ...]:
    base = design.surface_nm + design.gate_oxide_nm
    centers = _centers(design.pitch_nm, design.walk_nm, design.phase_nm, radius_nm)
    return tuple(Feature(float(u), base, design.height_nm, design.cds_nm) for u in centers)


def _active_features(design: ActiveDesign, radius_nm: float) -> tuple[Feature, ...]:
    base = design.surface_nm - design.depth_nm
    centers = _centers(design.pitch_nm, design.walk_nm, design.phase_nm, radius_nm)
    return tuple(
        Feature(float(u) + design.lean_nm, base, design.depth_nm, design.cds_nm, design.corner_nm)
        for u in centers
    )


def _half_widths(
    cds_nm: tuple[float, float, float], fractions: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Half the width at fractions of the height: the parabola through base, middle and top."""
    return np.polyval(np.polyfit([0, 0.5, 1], cds_nm, 2), fractions) / 2


def _gate_stack(design: GateDesign, feature: Feature, rng: np.random.Generator) -> BaseGeometry:
    """Metal and cap of one gate, etched together: rough sides, rounded shoulders."""
    fractions = np.linspace(0, 1, 13)
    half = _half_widths(feature.cds_nm, fractions)
    v = feature.base_nm + fractions * feature.height_nm
    # the foot goes on below the gate oxide's surface and the cap above the metal
    v = np.concatenate([[v[0] - 6 - design.corner_nm], v, [v[-1] + design.cap_nm]])
    half = np.concatenate([half[:1], half, half[-1:]])
    right = np.stack([feature.center_nm + half, v], axis=1)
    left = np.stack([feature.center_nm - half, v], axis=1)
    outline = _opened(Polygon(np.concatenate([right, left[::-1]])), design.corner_nm)
    return rough_polygon(_largest(outline), design.roughness, rng)


def _grown(
    shape: BaseGeometry, thickness_nm: float, roughness: Roughness, rng: np.random.Generator
) -> BaseGeometry:
    """`shape` with a conformal film around it, whose outer face has a roughness of its own."""
    return rough_polygon(_largest(shape.buffer(thickness_nm, quad_segs=6)), roughness, rng)


def _etch_stop(
    design: GateDesign, radius_nm: float, film: Roughness, rng: np.random.Generator
) -> BaseGeometry:
    """A thin nitride layer in the oxide above the gates, or nothing."""
    if design.etch_stop_nm == 0:
        return Polygon()
    stack_top = design.surface_nm + design.gate_oxide_nm + design.height_nm + design.cap_nm
    level = stack_top + design.spacer_nm + rng.uniform(4, 0.25 * design.height_nm + 5)
    lower = rough_line(_flat(level, radius_nm), film.scaled(2), rng)
    upper = rough_line(_raised(lower, design.etch_stop_nm), film, rng)
    return _below(upper, radius_nm) - _below(lower, radius_nm)


def _trench_columns(design: ActiveDesign, features: Sequence[Feature]) -> list[BaseGeometry]:
    """Nominal trenches between neighbouring actives, going on upward past their tops."""
    top, base = design.surface_nm, design.surface_nm - design.depth_nm
    fractions = np.linspace(0, 1, 9)
    half = _half_widths(design.cds_nm, fractions)
    lean = design.lean_nm * (1 - fractions) - design.lean_nm
    v = base + fractions * design.depth_nm
    columns = []
    for left, right in pairwise(features):
        # the column stays straight above the surface, so that a proud fill keeps its width
        left_wall = np.stack([left.center_nm + half + lean, v], axis=1)
        right_wall = np.stack([right.center_nm - half + lean, v], axis=1)
        tops = [[right_wall[-1, 0], top + 30], [left_wall[-1, 0], top + 30]]
        outline = np.concatenate([left_wall[:1], right_wall, tops, left_wall[::-1]])
        columns.append(_opened(Polygon(outline), design.bottom_nm))
    return columns


def _lined(trench: Polygon, design: ActiveDesign, rng: np.random.Generator) -> BaseGeometry:
    """What a liner leaves of a trench: its sides and its bottom take their own thickness."""
    inner = trench.buffer(-design.liner_side_nm, quad_segs=6)
    lift = design.liner_bottom_nm - design.liner_side_nm
    lifted = translate(inner, yoff=lift)
    inner = inner & lifted if lift > 0 else inner | lifted
    return rough_polygon(_largest(inner), design.roughness.scaled(0.4), rng) & trench


def _flat(level_nm: float, radius_nm: float) -> NDArray[np.float64]:
    return np.array([[-2 * radius_nm, level_nm], [2 * radius_nm, level_nm]])


def _raised(line_nm: NDArray[np.float64], by_nm: float) -> NDArray[np.float64]:
    return line_nm + np.array([0.0, by_nm])


def _below(line_nm: NDArray[np.float64], radius_nm: float) -> BaseGeometry:
    """Everything under a line that runs from left to right."""
    floor = -3 * radius_nm
    ends = [[line_nm[-1, 0], floor], [line_nm[0, 0], floor]]
    return Polygon(np.concatenate([line_nm, ends])).buffer(0)


def _rough_below(
    level_nm: float, radius_nm: float, roughness: Roughness, rng: np.random.Generator
) -> BaseGeometry:
    return _below(rough_line(_flat(level_nm, radius_nm), roughness, rng), radius_nm)


def _opened(shape: BaseGeometry, radius_nm: float) -> BaseGeometry:
    """Round the outward corners of a shape; the others stay sharp."""
    return shape.buffer(-radius_nm, join_style="mitre").buffer(radius_nm, quad_segs=8)


def _largest(shape: BaseGeometry) -> Polygon:
    return max(shapely.get_parts(shape), key=lambda part: part.area)
