"""Bodies and a recipe → the rows of an image, each with a status: ok, flagged, failed or missing.

Every measurement reports the same rows whether it succeeds or not: silence is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from backend.metrology.bodies import OTHER_BASE, Body, UnmeasurableError
from backend.metrology.kinds import Plan, plan_of
from backend.metrology.readings import Reading, Scene, Variant
from backend.metrology.recipe import Recipe, Rule
from backend.metrology.results import NOTES, MeasuredCD, Status
from backend.metrology.structures import Instance

_LEAST_GAP_PX = 1.0  # of a value and that of the label, before they disagree


@dataclass(frozen=True)
class Found:
    """An instance, and its body unless it has none."""

    instance: Instance
    body: Body | None
    label_body: Body | None  # the same, as labels alone show it
    flag: str = ""  # why there is no body


@dataclass(frozen=True)
class Finding:
    """What was found of a structure."""

    instances: tuple[Found, ...] = ()  # in their order
    absent: str = "not_found"  # the flag of those that are expected and not there


@dataclass(frozen=True)
class Views:
    """An image as the preferred tiers and as labels alone see it."""

    preferred: Scene
    label: Scene
    flags: tuple[str, ...] = ()  # of every row


def rule_rows(rule: Rule, found: Finding, recipe: Recipe, views: Views) -> list[MeasuredCD]:
    """All rows of a measurement that isn't a ratio."""
    plan = plan_of(rule)
    expected = recipe.structures[plan.structure].expect.min
    subjects = found.instances
    if plan.is_of_gaps:
        subjects, expected = subjects[:-1], max(expected - 1, 1)
    rows = [row for one in subjects for row in _instance_rows(rule, plan, one, views)]
    status: Status = "failed" if found.absent == "uncalibrated" else "missing"
    for index in range(len(subjects), expected):
        rows += [
            replace(blank, status=status, flags=(found.absent,))
            for variant in plan.variants
            for blank in _blanks(rule, plan, index, variant)
        ]
    return rows


def _instance_rows(rule: Rule, plan: Plan, found: Found, views: Views) -> list[MeasuredCD]:
    rows = []
    for variant in plan.variants:
        readings, flag = _read(rule, plan, found, variant, views.preferred)
        same = found.body is not None and found.body is found.label_body
        compared = readings if same else _read(rule, plan, found, variant, views.label)[0]
        readings = readings or compared  # what fits cannot tell, the label can: flagged
        flags = (*views.flags, *_flags_of(found), *((flag,) if flag else ()))
        for blank in _blanks(rule, plan, found.instance.index, variant):
            row, reading = _placed(blank, found), readings.get(blank.quantity)
            if reading is None:
                rows.append(replace(row, status="failed", flags=flags))
            else:
                rows.append(_filled(row, reading, compared.get(blank.quantity), flags))
    return rows


def _flags_of(found: Found) -> tuple[str, ...]:
    """What is wrong with all of an instance."""
    body = found.body or found.label_body
    stands = body is None or OTHER_BASE not in body.seed["base"].flags
    return found.instance.flags if stands else (*found.instance.flags, OTHER_BASE)


def _read(
    rule: Rule, plan: Plan, found: Found, variant: Variant, scene: Scene
) -> tuple[dict[str, Reading], str]:
    """What measuring gives, or nothing and the flag that says why."""
    body = found.label_body if scene.is_label else found.body
    if body is None:
        return {}, found.flag
    try:
        return plan.measure(scene, body, rule, variant), ""
    except UnmeasurableError as error:
        return {}, str(error)


def _filled(
    row: MeasuredCD, reading: Reading, label: Reading | None, flags: tuple[str, ...]
) -> MeasuredCD:
    """Write a reading down; where it and the label disagree, the label's value is reported.

    A fit that left the boundary somebody drew has most often settled on grain, a fringe or the skin
    of a grain of metal. Where it stays near, but further off than the label's own error, that
    distance counts as uncertain: which of the two is right cannot be told from one image.
    """
    if label is not None and label is not reading and _disagree(reading, label):
        reading, flags = label, (*flags, *reading.flags, "label_gray_disagree")
    flags, u = tuple(dict.fromkeys((*flags, *reading.flags))), reading.u
    if label is not None and label is not reading:
        u = math.hypot(u, max(abs(reading.value - label.value) - label.u, 0.0))
    return replace(
        row,
        status="ok" if NOTES.issuperset(flags) else "flagged",
        value=reading.value,
        value_label=None if label is None else label.value,
        u_value=u,
        unit=reading.unit,
        n_lines=reading.n_lines,
        std=reading.std,
        min=reading.min,
        max=reading.max,
        method=reading.method,
        quality=reading.quality,
        line=reading.line,
        geometry=reading.geometry,
        flags=flags,
    )


def _disagree(reading: Reading, label: Reading) -> bool:
    """Whether two values of the same thing differ by more than their errors explain.

    A length may differ by a pixel in any case; what is no length has no pixel, so there the error
    of the label counts beside that of the fit.
    """
    gap = abs(reading.value - label.value)
    if reading.unit == "px":
        return gap > max(2 * reading.u, _LEAST_GAP_PX)
    return gap > 2 * math.hypot(reading.u, label.u)


def _blanks(rule: Rule, plan: Plan, index: int, variant: Variant) -> list[MeasuredCD]:
    """Rows of a variant before anything is known of it."""
    return [
        MeasuredCD(
            rule.id,
            rule.kind,
            plan.structure,
            index,
            plan.unit_of(quantity),
            "missing",
            side=variant.side,
            part=plan.part,
            quantity=quantity,
            at_fraction=variant.at_fraction,
        )
        for quantity in plan.quantities
    ]


def _placed(row: MeasuredCD, found: Found) -> MeasuredCD:
    """The row with the place of its instance, to pair rows of two runs by."""
    return replace(row, center=found.instance.center, reach_px=found.instance.reach_px)
