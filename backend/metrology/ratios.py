"""Ratios: expressions over what was measured → rows of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from backend.metrology.expressions import Expression, Uncertain, parse_expression
from backend.metrology.recipe import Ratio
from backend.metrology.results import NOTES, TIERS, MeasuredCD


def ratio_rows(rule: Ratio, cds: Sequence[MeasuredCD]) -> list[MeasuredCD]:
    """One row for each instance, or one for the image.

    An expression is evaluated per instance if an id stands alone in it, or has several values in
    an instance (its sides). What pools single values, or mixes structures, is about the image.
    Pairs have no row at the last instance: what divides by theirs has none there either.

    Args:
        rule: The ratio.
        cds: All rows that it may refer to.
    """
    expression = parse_expression(rule.expr)
    used = [cd for cd in cds if cd.measurement in expression.ids and _is_main(cd)]
    structures = {cd.structure for cd in used if cd.structure}
    if len(structures) == 1 and (expression.single or _has_sides(used)):
        by_instance = {
            number: [cd for cd in used if cd.instance == number]
            for number in sorted({cd.instance for cd in used})
        }
        whole = [
            cds
            for cds in by_instance.values()
            if {cd.measurement for cd in cds}.issuperset(expression.ids)
        ]
        return [_row(rule, expression, cds) for cds in whole or by_instance.values()]
    return [_row(rule, expression, used)]


def _is_main(cd: MeasuredCD) -> bool:
    """Whether a row tells the value itself, and not how it scatters."""
    return cd.quantity in ("", "mean", "3s", "equivalent")


def _has_sides(cds: Iterable[MeasuredCD]) -> bool:
    keys = [(cd.measurement, cd.instance) for cd in cds]
    return len(set(keys)) < len(keys)


def _row(rule: Ratio, expression: Expression, cds: Sequence[MeasuredCD]) -> MeasuredCD:
    structure, instance, center, reach = "", 0, None, None
    if cds and len({(cd.structure, cd.instance) for cd in cds}) == 1:
        first = cds[0]
        structure, instance = first.structure, first.instance
        center, reach = first.center, first.reach_px
    flags = tuple(dict.fromkeys(flag for cd in cds for flag in cd.flags))
    is_missing = bool(cds) and all(cd.status == "missing" for cd in cds)
    row = MeasuredCD(
        rule.id,
        rule.kind,
        structure,
        instance,
        "ratio",
        "missing" if is_missing else "failed",
        center=center,
        reach_px=reach,
        flags=flags,
    )
    measured = [cd for cd in cds if cd.value is not None]
    try:
        result = expression.evaluate(_values(measured))
    except ValueError:
        return row if is_missing else replace(row, flags=(*flags, "no_operand"))
    try:
        value_label = expression.evaluate(_values(measured, of_label=True)).value
    except ValueError:
        value_label = None
    methods = [cd.method for cd in measured if cd.method is not None]
    partial = len(measured) < len(cds)
    flags = (*flags, "partial") if partial else flags
    return replace(
        row,
        status="ok" if NOTES.issuperset(flags) else "flagged",
        value=result.value,
        value_label=value_label,
        u_value=result.u,
        method=max(methods, key=TIERS.index) if methods else None,
        flags=flags,
    )


def _values(cds: Iterable[MeasuredCD], *, of_label: bool = False) -> dict[str, list[Uncertain]]:
    values: dict[str, list[Uncertain]] = {}
    for cd in cds:
        value = cd.value_label if of_label else cd.value
        if value is not None:
            values.setdefault(cd.measurement, []).append(Uncertain(value, cd.u_value))
    return values
