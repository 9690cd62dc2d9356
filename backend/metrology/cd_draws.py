"""Label maps that could be true → how far each CD is uncertain, and how often structures change.

Every draw is measured by the label tier. Its rows are paired by position with those of the
likeliest labels, whose values are the ones reported. Draws of an overfitted guide hardly scatter,
so no CD is more certain than edges known to 0.3 px make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backend.arrays import GrayImage, LabelMap
from backend.metrology.contours import interface_points
from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.results import LENGTH_POWERS, Measured, MeasuredCD
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration

STEADY_SHARE = 0.95
"""Of the draws: how many must have a CD, and as many structures as the likeliest labels."""

COVERAGE = 1.4
"""How much more CDs err than draws scatter, so that about 95 % of the truths lie within 2 u.

From widths, heights and gate oxides on twelve synthetic images (equipment A, B and C, 256 px, five
turns of strokes each): 96 % of the truths lie within 2 u with it, of widths 93 %, and 90 % without.
On six images held out it was 99 %. `scripts/cd_spots_experiment.py --coverage` measures it on
others.
"""

_MAIN = ("", "mean", "3s", "equivalent")  # rows that tell the value itself, and not how it scatters
_LEAST_DRAWS = 2
_BROKEN = ("no_align", "unexpected_count")
_MARGIN_PX = 48  # around what is measured


class ReportStoppedError(Exception):
    """Measuring was given up: it took too long, or somebody else waits."""


class Gauge:
    """Measures label maps of one image by a recipe, always the same rows."""

    def __init__(
        self,
        labels: Sequence[str],
        recipe: Recipe,
        calibration: Calibration | None = None,
        may_go_on: Callable[[], bool] = lambda: True,
        gray: GrayImage | None = None,
    ) -> None:
        """Take the names of the classes, what to measure, and the pixel size if it is known.

        `may_go_on` is asked before each measuring; `gray` are the gray values of the image, (H, W).
        """
        edges = recipe.edges.model_copy(update={"prefer": ("label",)})
        self.recipe = recipe.model_copy(update={"edges": edges})
        self.labels = tuple(labels)
        self.calibration = calibration
        self.gray = gray
        self._may_go_on = may_go_on

    def measure(self, label_map: LabelMap) -> Measured:
        """Measure one label map, (H, W).

        Raises:
            ReportStoppedError: It may not go on.
        """
        if not self._may_go_on():
            raise ReportStoppedError
        subject = Subject(label_map, self.labels, self.calibration, is_draw=True)
        return measure_image(subject, self.recipe)

    def focused(self, label_map: LabelMap, measured: Measured) -> Gauge:
        """A gauge for labels much like these, which looks at the rows of structures and frame only.

        It sees the same in less time. Where something was not found it may lie anywhere.
        """
        between = self.recipe.frame.between
        if between is None or any(cd.status == "missing" for cd in measured.cds):
            return self
        lower, upper = ([self.labels.index(self.recipe.materials[name])] for name in between)
        drawn = [row for edge in measured.edges for row, _ in edge.points]
        rows = np.concatenate([interface_points(label_map, lower, upper)[:, 0], drawn])
        left, top, right, bottom = self.recipe.roi_fraction
        height = len(label_map)
        top = max(top, (float(rows.min()) - _MARGIN_PX) / height)
        bottom = min(bottom, (float(rows.max()) + _MARGIN_PX) / height)
        recipe = self.recipe.model_copy(update={"roi_fraction": (left, top, right, bottom)})
        return Gauge(self.labels, recipe, self.calibration, self._may_go_on, self.gray)

    @property
    def nm_per_px(self) -> float | None:
        """Side of a pixel."""
        return self.calibration.nm_per_px if self.calibration else None

    def shown_in(self, cd: MeasuredCD) -> tuple[float, str]:
        """What to multiply a CD with to show it, and the unit that it then has."""
        if cd.unit == "ratio":
            return 1.0, ""
        if self.nm_per_px is None or not LENGTH_POWERS[cd.unit]:
            return 1.0, cd.unit
        return self.nm_per_px ** LENGTH_POWERS[cd.unit], cd.unit.replace("px", "nm")

    def tolerance(self, cd: MeasuredCD) -> float | None:
        """How far a CD may be uncertain, 1 sigma, in its own unit; None if nothing says so.

        `annotation.u_max_nm` or `u_max_deg` of the recipe, else a 20th of its limits, else 1 % of
        its target; in pixels `u_max_px`, where these say nothing or no pixel size is known.
        """
        rule, asked = self.recipe.rule(cd.measurement), self.recipe.annotation
        suffix = {"deg": "_deg", "ratio": ""}.get(cd.unit, "_nm")
        lower, upper, target = (
            getattr(rule, f"{name}{suffix}") for name in ("lsl", "usl", "target")
        )
        u_max = (asked.u_max_deg if cd.unit == "deg" else asked.u_max_nm).get(cd.measurement)
        if u_max is None and lower is not None and upper is not None:
            u_max = (upper - lower) / 20
        if u_max is None and target:
            u_max = abs(target) / 100
        power = LENGTH_POWERS[cd.unit]
        if u_max is None or (power and self.nm_per_px is None):
            return asked.u_max_px.get(cd.measurement) if power else None
        return float(u_max / self.nm_per_px**power if self.nm_per_px and power else u_max)


@dataclass(frozen=True)
class UncertainCD:
    """One CD, as the likeliest labels give it, and how far it is uncertain; in its own unit."""

    cd: MeasuredCD
    u: float | None
    """1 sigma, of the draws and of the edges, see `told_u`; None where too few draws have it."""
    u_max: float | None  # its tolerance; None: the recipe does not say
    seen_share: float  # of the draws that have it

    @property
    def is_within(self) -> bool:
        """It is measured, in nearly every draw, and as certain as was asked."""
        if self.cd.value is None or self.u is None or self.seen_share < STEADY_SHARE:
            return False
        return self.u_max is None or self.u <= self.u_max


@dataclass(frozen=True)
class MeasuredDraws:
    """The likeliest labels and all draws, measured."""

    reference: Measured  # of the likeliest labels
    rows: tuple[MeasuredCD, ...]  # of it, those that tell a value
    values: NDArray[np.float64]  # (T, J), of each row in each draw; NaN where a draw has none
    is_same: NDArray[np.bool_]  # (T,), draws with the same structures and CDs

    @property
    def stable_share(self) -> float:
        """Of the draws: those with the structures and CDs of the likeliest labels."""
        return float(self.is_same.mean())

    @property
    def is_broken(self) -> bool:
        """The likeliest labels have no frame, or not as many structures as the recipe expects."""
        return any(flag.startswith(_BROKEN) for flag in self.reference.flags)

    @cached_property
    def u(self) -> NDArray[np.float64]:
        """Standard deviation of each row over the draws, NaN where too few have it. (J,).

        Not yet what is told of it, see `told_u`.
        """
        known = np.isfinite(self.values).sum(axis=0)
        u = np.full(len(self.rows), np.nan)
        enough = known >= _LEAST_DRAWS
        u[enough] = np.nanstd(self.values[:, enough], axis=0, ddof=1)
        return u

    def has_same(self, other: Measured) -> bool:
        """Whether other labels show the same structures and have the same CDs."""
        has = np.isfinite(paired_values(self.rows, other.cds))
        return _is_same(self.reference, self.rows, other, has)

    def state(self, index: int, u_max: float | None) -> UncertainCD:
        """What is known of a row."""
        seen = float(np.isfinite(self.values[:, index]).mean())
        u = told_u(float(self.u[index]), self.rows[index])
        return UncertainCD(self.rows[index], None if math.isnan(u) else u, u_max, seen)


def told_u(scatter: float, row: MeasuredCD) -> float:
    """1 sigma of a CD: `COVERAGE` times the scatter of its draws, and what edges may be off anyway.

    The `u_value` of labels that are measured as a draw is that of edges which are nowhere in doubt
    (`seed_errors.LEAST_ERROR`, 0.3 px), as they make themselves felt in a CD of its kind.
    """
    return math.hypot(COVERAGE * scatter, row.u_value or 0.0)


def measure_draws(gauge: Gauge, likeliest: LabelMap, draws: LabelMap) -> MeasuredDraws:
    """Measure the likeliest labels, (H, W), and all draws, (T, H, W)."""
    reference = gauge.measure(likeliest)
    gauge = gauge.focused(likeliest, reference)
    rows = tuple(cd for cd in reference.cds if cd.quantity in _MAIN)
    values = np.full((len(draws), len(rows)), np.nan)
    is_same = np.zeros(len(draws), dtype=bool)
    for index, draw in enumerate(draws):
        measured = gauge.measure(draw)
        values[index] = paired_values(rows, measured.cds)
        is_same[index] = _is_same(reference, rows, measured, np.isfinite(values[index]))
    return MeasuredDraws(reference, rows, values, is_same)


def _is_same(
    reference: Measured, rows: Sequence[MeasuredCD], other: Measured, has: NDArray[np.bool_]
) -> bool:
    """Whether other labels show the same structures, and have a value where the reference has."""
    had = [row.value is not None for row in rows]
    return count_structures(reference) == count_structures(other) and had == has.tolist()


def count_structures(measured: Measured) -> Mapping[str, int]:
    """How many instances of each structure there are."""
    found = {(cd.structure, cd.instance) for cd in measured.cds if cd.status != "missing"}
    names = {cd.structure for cd in measured.cds}
    return {name: sum(structure == name for structure, _ in found) for name in names}


def paired_values(rows: Sequence[MeasuredCD], others: Sequence[MeasuredCD]) -> NDArray[np.float64]:
    """The value of the same thing on another label map, NaN where there is none. (J,).

    Numbers of instances change when one vanishes, so the nearest one counts, if it lies within
    half the width of the structure.
    """
    by_key: dict[tuple[object, ...], list[MeasuredCD]] = {}
    for other in others:
        if other.value is not None:
            by_key.setdefault(_key(other), []).append(other)
    return np.array([_nearest(row, by_key.get(_key(row), [])) for row in rows], dtype=float)


def _key(cd: MeasuredCD) -> tuple[object, ...]:
    return cd.measurement, cd.structure, cd.side, cd.part, cd.quantity, cd.at_fraction


def _nearest(row: MeasuredCD, others: Sequence[MeasuredCD]) -> float:
    if row.center is None or row.reach_px is None:  # about the image as a whole
        return float(others[0].value or 0.0) if others and others[0].center is None else math.nan
    best, value = math.inf, math.nan
    for other in others:
        if other.center is None or other.value is None:
            continue
        down, across = other.center[0] - row.center[0], other.center[1] - row.center[1]
        if abs(across) <= row.reach_px and math.hypot(down, across) < best:
            best, value = math.hypot(down, across), other.value
    return value
