"""Where the CDs of an image stand → sentences for annotators and managers."""

from __future__ import annotations

from collections.abc import Iterator

from backend.metrology.cd_draws import STEADY_SHARE, Gauge, UncertainCD
from backend.metrology.cd_spots import ASSUMED_U_MAX, CDReport, name_of


def count_within(report: CDReport) -> str:
    """How many of the CDs that have a tolerance are within it.

    Example:
        >>> count_within(CDReport((), 1.0, (), is_settled=False))
        '0/0'
    """
    asked = [state for state in report.cds if state.u_max is not None]
    return f"{sum(state.is_within for state in asked)}/{len(asked)}"


def state_report(report: CDReport, gauge: Gauge) -> Iterator[str]:
    """Say where the whole stands, then each CD with its value and uncertainty, in nm or px."""
    yield f"CDs within tolerance: {count_within(report)}"
    if report.is_settled:
        yield "all are: look at the boxes to check, and finish if these edges are right"
    if report.stable_share < STEADY_SHARE:
        yield f"structures differ in {1 - report.stable_share:.0%} of what could be true"
    if report.is_assumed:
        told = ", ".join(f"{u_max:g} {unit}" for unit, u_max in ASSUMED_U_MAX.items())
        yield (
            f"the recipe has no tolerance that can be used here, {told} is assumed: give the pixel "
            "size, or annotation: {u_max_px: ...}"
        )
    for state in report.cds:
        yield _state(state, gauge)


def _state(state: UncertainCD, gauge: Gauge) -> str:
    """Where one CD stands; one that is not steady is missing in some of what could be true."""
    cd = state.cd
    if cd.value is None:
        why = ", ".join(cd.flags) or cd.status
        return f"{name_of(cd)}: no value ({why})"
    scale, unit = gauge.shown_in(cd)
    u = "?" if state.u is None else f"{state.u * scale:.2f}"
    value = f"{name_of(cd)}: {cd.value * scale:.2f} ± {u} {unit}".rstrip()
    steady = "" if state.seen_share >= STEADY_SHARE else ", but not steady"
    if state.u_max is None:
        return f"{value}, no tolerance{steady}"
    verdict = "within" if state.u is not None and state.u <= state.u_max else "not within"
    return f"{value}, {verdict} {state.u_max * scale:.2g}{steady}"
