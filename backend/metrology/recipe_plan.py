"""A recipe and a pixel size → what would be measured, in sentences; nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator

from backend.metrology.kinds import plan_of
from backend.metrology.recipe import (
    At,
    InterfaceBase,
    Ratio,
    Recess,
    Recipe,
    Rule,
    Scaled,
    StructureRule,
    Thickness,
)
from backend.metrology.recipe_file import recipe_hash


def describe_plan(recipe: Recipe, nm_per_px: float | None) -> Iterator[str]:
    """Tell what a recipe would measure on an image.

    Args:
        recipe: What to measure.
        nm_per_px: Of the image; None if nobody knows.
    """
    unit = _Unit(nm_per_px)
    pixel = f"a pixel of {nm_per_px:.5g} nm" if nm_per_px else "an image without pixel size"
    yield f"{recipe.name}, version {recipe.version}, {recipe_hash(recipe)}: on {pixel}"
    if nm_per_px is None and recipe.calibration.require:
        yield "nothing: the recipe requires a calibration"
        return
    yield _frame(recipe, unit)
    edges = recipe.edges
    yield (
        f"edges: {', then '.join(edges.prefer)}; searched within {unit.length(edges.window_px)}, "
        f"moved by {unit.length(edges.max_shift_px)} at most"
    )
    for name, structure in recipe.structures.items():
        yield f"structure {name}: {_structure(structure, unit)}"
    for rule in recipe.measurements:
        yield f"measurement {rule.id}: {_measurement(rule, unit)}"


class _Unit:
    """Writes lengths in pixels and, where the pixel is known, in nanometres."""

    def __init__(self, nm_per_px: float | None) -> None:
        self.nm_per_px = nm_per_px

    def length(self, px: float) -> str:
        """A length given in pixels."""
        nm = f" ({px * self.nm_per_px:.4g} nm)" if self.nm_per_px else ""
        return f"{px:.4g} px{nm}"

    def of(self, part: Scaled, name: str) -> str:
        """A length that a part of the recipe may have; "" if it has none."""
        try:
            px = part.length_px(name, self.nm_per_px)
        except ValueError as error:
            return str(error)
        return "" if px is None else self.length(px)


def _frame(recipe: Recipe, unit: _Unit) -> str:
    rule = recipe.frame
    match rule.align:
        case "interface":
            where = " / ".join(rule.between) if rule.between else "the substrate's top"
            least = unit.length(rule.min_baseline_px)
            return (
                f"frame: along {where}, {least} of it at least, tilt up to {rule.max_tilt_deg:g}°"
            )
        case "structure_axis":
            least = unit.length(rule.min_baseline_px)
            return (
                f"frame: its height along the mid-lines of {rule.axis_of}, {least} of them at "
                f"least, tilt up to {rule.max_tilt_deg:g}°"
            )
        case "angle":
            return f"frame: at {rule.angle_deg:g}°"
    return "frame: the image's"


def _structure(rule: StructureRule, unit: _Unit) -> str:
    expected = f"{rule.expect.min} to {rule.expect.max}" if rule.expect.max else (
        f"{rule.expect.min} or more"
    )  # fmt: skip
    parts = [f"pieces of {' + '.join(rule.materials)}, {expected} expected"]
    try:
        area = rule.min_area_px(unit.nm_per_px)
        parts += [f"{area:.4g} px² or larger"] if area else []
    except ValueError as error:
        parts.append(str(error))
    if rule.cut:
        parts.append(f"what lies {rule.cut.keep} the {rule.cut.part} of {rule.cut.level_of}")
    base = rule.base
    where = f"touches {base.interface_with}" if isinstance(base, InterfaceBase) else (
        "is cut" if base == "cut" else "ends"
    )  # fmt: skip
    parts.append(f"base where it {where}")
    border = "not counted" if rule.border == "exclude" else "flagged"
    return ", ".join([*parts, f"those at the border {border}"])


def _measurement(rule: Rule, unit: _Unit) -> str:
    if isinstance(rule, Ratio):
        return f"ratio {rule.expr}"
    plan = plan_of(rule)
    rows = len(plan.variants) * len(plan.quantities)
    each = "gap of neighbours" if plan.is_of_gaps else plan.structure
    parts = [rule.kind, *_where(rule, unit), *_limits(rule)]
    return f"{', '.join(parts)}; {rows} row{'s' * (rows > 1)} for each {each}"


def _where(rule: Rule, unit: _Unit) -> Iterator[str]:
    """What is compared, and at which height."""
    if isinstance(rule, Thickness):
        yield f"of {rule.film} between {' and '.join(rule.between)} at the {rule.site.part}"
        inset = unit.of(rule.site, "inset")
        yield from [f"{inset} from its ends"] if inset else []
    if isinstance(rule, Recess):
        yield f"of {rule.top_of} against {rule.against}"
    at = getattr(rule, "at", None)
    if isinstance(at, At):
        yield _level(at, unit)
        if getattr(rule, "stat", "mean") != "mean":
            yield f"the {rule.stat} of them"  # type: ignore[union-attr] # it has one
    fractions = getattr(rule, "between_fractions", None)
    if fractions:
        yield f"from {fractions[0]:g} to {fractions[1]:g} of the height"
    sides = {variant.side for variant in plan_of(rule).variants} - {""}
    if sides:
        yield " and ".join(sorted(sides))


def _level(at: At, unit: _Unit) -> str:
    if at.sweep:
        levels = at.sweep.fractions()
        return f"at {len(levels)} levels from {levels[0]:g} to {levels[-1]:g} of the height"
    if at.fraction is not None:
        return f"at {at.fraction:g} of the height, over {at.band:g} of it"
    return f"{unit.of(at, 'offset')} from the {at.from_}"


def _limits(rule: Rule) -> Iterator[str]:
    """The limits that are given."""
    for name in ("target", "lsl", "usl"):
        for suffix, unit in (("_nm", " nm"), ("_deg", "°"), ("", "")):
            value = getattr(rule, f"{name}{suffix}")
            if value is not None:
                yield f"{name} {value:g}{unit}"
