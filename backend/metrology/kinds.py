"""Kinds of measurements: which values each reports, and who measures them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backend.metrology.bodies import Body
from backend.metrology.films import QUANTITIES as FILM_QUANTITIES
from backend.metrology.films import measure_thickness
from backend.metrology.heights import measure_height, measure_recess
from backend.metrology.line_roughness import QUANTITIES as ROUGHNESS_QUANTITIES
from backend.metrology.line_roughness import measure_roughness
from backend.metrology.outline_sizes import DIAMETERS, measure_area, measure_diameter
from backend.metrology.readings import Reading, Scene, Variant
from backend.metrology.recipe import (
    At,
    CornerRadius,
    Distance,
    Gap,
    Height,
    Outline,
    Ratio,
    Recess,
    Roughness,
    Rule,
    Side,
    SidewallAngle,
    Thickness,
    Tilt,
    Width,
)
from backend.metrology.results import Unit, unit_of_kind
from backend.metrology.slopes import (
    measure_corner_radius,
    measure_sidewall_angle,
    measure_tilt,
)
from backend.metrology.widths import measure_distance, measure_gap, measure_width

Measure = Callable[[Scene, Body, Any, Variant], dict[str, Reading]]


@dataclass(frozen=True)
class Plan:
    """What a measurement reports, whether it succeeds or not."""

    structure: str
    part: str
    variants: tuple[Variant, ...]
    quantities: tuple[str, ...]
    unit: Unit
    measure: Measure
    is_of_gaps: bool = False  # between an instance and its right neighbour

    def unit_of(self, quantity: str) -> Unit:
        """Unit of one of the quantities."""
        return "ratio" if quantity in ("ratio", "uniformity") else self.unit


def plan_of(rule: Rule) -> Plan:
    """All that `rule` will report for each instance.

    Raises:
        TypeError: It is a ratio, which is computed from what others report.
    """
    if isinstance(rule, Ratio):
        raise TypeError(f"{rule.id} is computed, not measured")
    return Plan(
        structure_of(rule),
        rule.site.part if isinstance(rule, Thickness) else getattr(rule, "part", ""),
        _variants(rule),
        _quantities(rule),
        unit_of_kind(rule.kind),
        _measure(rule),
        is_of_gaps=isinstance(rule, Gap),
    )


def structure_of(rule: Rule) -> str:
    """The structure whose instances a measurement goes through; none for a ratio."""
    if isinstance(rule, Thickness):
        return rule.site.structure
    return "" if isinstance(rule, Ratio) else rule.of


def _variants(rule: Rule) -> tuple[Variant, ...]:
    sides: tuple[Side | Literal[""], ...] = ("",)
    match rule:
        case Distance(kind="distance" | "enclosure") | SidewallAngle() | CornerRadius():
            sides = rule.sides
        case Roughness(quantity="ler"):
            sides = rule.sides
        case Thickness() if rule.site.part == "sidewall":
            sides = rule.sides
    fractions: tuple[float | None, ...] = (None,)
    if isinstance(rule, Width | Gap | Distance):
        is_extreme = isinstance(rule, Width) and rule.stat != "mean"  # one value of a sweep
        fractions = (rule.at.fraction,) if is_extreme else _fractions(rule.at)
    return tuple(Variant(side, fraction) for side in sides for fraction in fractions)


def _fractions(at: At) -> tuple[float | None, ...]:
    return at.sweep.fractions() if at.sweep is not None else (at.fraction,)


def _quantities(rule: Rule) -> tuple[str, ...]:
    match rule:
        case Thickness():
            return FILM_QUANTITIES
        case Roughness():
            return ROUGHNESS_QUANTITIES
        case Outline(kind="diameter"):
            return DIAMETERS
        case _:
            return ("",)


def _measure(rule: Rule) -> Measure:
    if isinstance(rule, Outline):
        return measure_area if rule.kind == "area" else measure_diameter
    return _MEASURES[type(rule)]


_MEASURES: Mapping[type[Any], Measure] = {
    Width: measure_width,
    Height: measure_height,
    Recess: measure_recess,
    Thickness: measure_thickness,
    Distance: measure_distance,
    Gap: measure_gap,
    SidewallAngle: measure_sidewall_angle,
    Tilt: measure_tilt,
    CornerRadius: measure_corner_radius,
    Roughness: measure_roughness,
}
