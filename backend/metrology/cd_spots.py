"""What a guide believes → each CD with its uncertainty, and where a stroke would settle most of it.

A pixel's doubt matters only as far as it moves a CD. Draws of the labels tell how far each CD is
uncertain, and their correlation with what a box shows says where that may come from; then what two
draws show in the box is put into the likeliest labels, and measuring again tells what it does. A
box that touches nothing measured moves nothing, and so never comes up, however doubtful it is.

The uncertainty is what the guide's own probabilities say, times a factor that makes it right on
synthetic images, and what edges may be off in any case. A guide that is sure and wrong still has
small ones: audits are for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.linalg import hadamard
from scipy.spatial import KDTree

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.learning.spots import MAX_SPOTS, Spot
from backend.metrology.cd_audits import BOX_PX, audit_spots, do_overlap
from backend.metrology.cd_draws import (
    COVERAGE,
    STEADY_SHARE,
    Gauge,
    MeasuredDraws,
    UncertainCD,
    measure_draws,
    paired_values,
)
from backend.metrology.contours import pixels_of
from backend.metrology.label_draws import draw_label_maps
from backend.metrology.results import Measured, MeasuredCD

DRAWS = 16
MIN_GAIN = 0.05
"""Squared tolerances; what settles less is not worth a stroke."""

_CELL_PX = BOX_PX // 2  # boxes begin at every cell
_SCREEN = hadamard(8)  # each row a label map, each column but the first a box: low or high
_CANDIDATES = _SCREEN.shape[1] - 1
AUDITS = 3
"""Boxes by lot at measured edges, once every CD is within its tolerance; before, one."""
ASSUMED_U_MAX = {"px": 0.5, "deg": 1.0}
"""Tolerances where the recipe's cannot be told, as in nanometres without a pixel size.

Half a pixel at either end of 40 px is a degree; less cannot be reached on walls of 60 px, whose
edges are never taken to be better known than to 0.3 px.
"""

_NEAR_PX = 2.0 * BOX_PX  # from a structure's edges to the middle of a box that may move its CDs
_LOW, _HIGH = 0.16, 0.84  # of the draws: one standard deviation to either side
_TOUCH_PX = 16.0  # the same, where the structure cannot be measured
_LOST = 20.0  # squared tolerances that a CD counts which cannot be measured
_STRUCTURES = -1
_FEW = 8  # draws, of which no correlation can be told


@dataclass(frozen=True)
class CDReport:
    """Where the CDs of an image stand."""

    cds: tuple[UncertainCD, ...]
    stable_share: float  # of the draws: as many structures as in the likeliest labels
    spots: tuple[Spot, ...]  # what settles most first; `score` is its share of all that is open
    is_settled: bool  # every CD is as certain as asked, and its structures are there
    audits: tuple[Spot, ...] = ()  # boxes by lot at measured edges
    nm_per_px: float | None = None
    is_assumed: bool = False  # the tolerances are `ASSUMED_U_MAX`, nothing told them


class _Boxes(NamedTuple):
    """Squares of `BOX_PX`, half overlapping, and what the draws show in them."""

    shares: NDArray[np.int64]  # (T, B), pixels of the class that varies most over the draws
    change: NDArray[np.float64]  # (B,), mean share of the pixels that differ from the likeliest
    windows: list[tuple[slice, slice]]  # (B)


def report_cds(probabilities: Probabilities, scribbles: LabelMap, gauge: Gauge) -> CDReport:
    """Tell how far each CD is uncertain, and rank up to `MAX_SPOTS` boxes, audits included.

    Args:
        probabilities: What the guide believes. Shape (C, H, W).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew: no doubt is left there.
        gauge: Measures what the recipe asks for.

    Raises:
        ReportStoppedError: The gauge may not go on.
        ValueError: The labels lack a material of the recipe.
    """
    believed = with_scribbles(probabilities, scribbles)
    likeliest = believed.argmax(axis=0).astype(np.uint8)
    draws = draw_label_maps(believed, DRAWS)
    measured = measure_draws(gauge, likeliest, draws)
    u_max = [gauge.tolerance(cd) for cd in measured.rows]
    is_assumed = all(limit is None for limit in u_max)
    if is_assumed:
        u_max = [ASSUMED_U_MAX.get(cd.unit) for cd in measured.rows]
    states = tuple(measured.state(index, limit) for index, limit in enumerate(u_max))
    is_settled = (
        bool(states)
        and measured.stable_share >= STEADY_SHARE
        and not measured.is_broken
        and all(state.is_within for state in states)
    )
    spots: tuple[Spot, ...] = ()
    if not is_settled:
        focused = gauge.focused(likeliest, measured.reference)
        spots = _Ranking(focused, likeliest, draws, measured, states).spots()
    count = AUDITS if is_settled else 1
    audits = audit_spots(measured.reference, gauge.gray, scribbles, spots, count)
    return CDReport(
        states, measured.stable_share, spots, is_settled, audits, gauge.nm_per_px, is_assumed
    )


def with_scribbles(probabilities: Probabilities, scribbles: LabelMap) -> Probabilities:
    """What is believed where the annotator's word is taken. (C, H, W), (H, W) -> (C, H, W)."""
    drawn = scribbles != UNLABELED
    believed = np.where(drawn, np.float32(0), probabilities)
    rows, columns = np.nonzero(drawn)
    believed[scribbles[drawn], rows, columns] = 1
    return believed


@dataclass(frozen=True)
class _Ranking:
    """Finds the boxes whose content moves CDs that are not settled."""

    gauge: Gauge
    likeliest: LabelMap  # (H, W)
    draws: LabelMap  # (T, H, W)
    measured: MeasuredDraws
    states: Sequence[UncertainCD]

    def spots(self) -> tuple[Spot, ...]:
        """The best boxes, what settles most first."""
        boxes = _boxes(self.draws, self.likeliest)
        candidates = list(self._candidates(boxes))
        found = []
        for index, moved in zip(candidates, self._moved(boxes, candidates), strict=True):
            rows, columns = boxes.windows[index]
            gains = self._gains(boxes, index, moved)
            gain = sum(gains.values())
            if gain >= MIN_GAIN:
                size = rows.stop - rows.start, columns.stop - columns.start
                reason = self._reason(gains, moved)
                found.append(Spot(rows.start, columns.start, *size, gain / self._total, reason))
        return tuple(sorted(found, key=lambda spot: -spot.score)[: MAX_SPOTS - 1])

    @cached_property
    def _open(self) -> dict[int, float]:
        """Rows that are not settled, and by how many squared tolerances they are uncertain."""
        return {
            index: (state.u / state.u_max) ** 2
            for index, state in enumerate(self.states)
            if state.cd.value is not None and state.u and state.u_max and not state.is_within
        }

    @cached_property
    def _lost(self) -> dict[int, NDArray[np.float64]]:
        """Rows that the likeliest labels do not have, and the outline of their structure."""
        return {
            index: self._outline(state.cd)
            for index, state in enumerate(self.states)
            if state.cd.value is None and state.u_max
        }

    @cached_property
    def _unstable(self) -> float:
        """What unstable structures count, in squared tolerances."""
        excess = (1 - self.measured.stable_share) / (1 - STEADY_SHARE)
        return excess if excess > 1 else 0.0

    @cached_property
    def _total(self) -> float:
        return sum(self._open.values()) + self._unstable + _LOST * len(self._lost)

    def _candidates(self, boxes: _Boxes) -> Iterator[int]:
        """Boxes apart from each other whose content goes with what is open, the best first."""
        score = self._unstable * _explained(boxes.shares, self.measured.is_same.astype(float))
        for index, weight in self._open.items():
            near = _near(boxes.windows, self._outline(self.states[index].cd), _NEAR_PX)
            score += near * weight * _explained(boxes.shares, self.measured.values[:, index])
        for outline in self._lost.values():
            score += _LOST * boxes.change * _near(boxes.windows, outline, _TOUCH_PX)
        for _ in range(_CANDIDATES):
            if not len(score) or score.max() <= 0:
                return
            best = int(score.argmax())
            yield best
            score[[do_overlap(boxes.windows[best], window) for window in boxes.windows]] = 0

    def _moved(self, boxes: _Boxes, candidates: Sequence[int]) -> NDArray[np.float64]:
        """How far the content of each box moves each CD, 1 sigma. (K,) -> (K, J).

        The likeliest labels are measured with all boxes as a low or as a high draw shows them, in
        such turns that for each box the others are low as often as high (a screening design).
        """
        if not candidates:
            return np.zeros((0, len(self.states)))
        last = len(self.draws) - 1
        order = boxes.shares[:, candidates].argsort(axis=0, kind="stable")
        chosen = {-1: order[round(_LOW * last)], 1: order[round(_HIGH * last)]}
        windows = [boxes.windows[index] for index in candidates]
        values = []
        for signs in _SCREEN[:, 1 : len(candidates) + 1].tolist():
            drawn = [int(chosen[sign][box]) for box, sign in enumerate(signs)]
            cds = self._pasted(zip(drawn, windows, strict=True)).cds
            values.append(paired_values(self.measured.rows, cds))
        found = np.array(values)
        high = _SCREEN[:, 1 : len(candidates) + 1].T > 0
        moved = [np.abs(_mean(found[up]) - _mean(found[~up])) / 2 for up in high]
        return COVERAGE * np.array(moved)

    def _gains(self, boxes: _Boxes, box: int, moved: NDArray[np.float64]) -> dict[int, float]:
        """What is settled where the labels in a box become known, in squared tolerances.

        Returns:
            By row; `_STRUCTURES` stands for their number.
        """
        gains = {}
        for index, doubt in self._open.items():
            part = (moved[index] / (self.states[index].u_max or 1)) ** 2
            gains[index] = doubt if np.isnan(part) else min(doubt, float(part))
        for index, outline in self._lost.items():
            near = bool(_near([boxes.windows[box]], outline, _TOUCH_PX)[0])
            gains[index] = _LOST * float(boxes.change[box]) * near
        if self._unstable and self._breaks(boxes, box):
            gains[_STRUCTURES] = self._unstable
        return gains

    def _breaks(self, boxes: _Boxes, box: int) -> bool:
        """Whether what a draw with other structures shows in a box makes the structures others."""
        shares, others = boxes.shares[:, box], np.flatnonzero(~self.measured.is_same)
        if not _explained(shares[:, None], self.measured.is_same.astype(float))[0]:
            return False  # nothing speaks for it: measuring would be a waste of time
        farthest = int(others[np.abs(shares[others] - np.median(shares)).argmax()])
        return not self.measured.has_same(self._pasted([(farthest, boxes.windows[box])]))

    def _pasted(self, pieces: Iterable[tuple[int, tuple[slice, slice]]]) -> Measured:
        label_map = self.likeliest.copy()
        for draw, window in pieces:
            label_map[window] = self.draws[draw][window]
        return self.gauge.measure(label_map)

    def _outline(self, cd: MeasuredCD) -> NDArray[np.float64]:
        """Border pixels of the structure that a CD is of, and points of its own lines. (N, 2)."""
        rule = self.gauge.recipe.structures.get(cd.structure)
        lines = [*cd.geometry, *((cd.line,) if cd.line else ())]
        points = [np.array([point for line in lines for point in line], dtype=float)]
        names = (
            [self.gauge.recipe.materials[material] for material in rule.materials] if rule else []
        )
        mask = pixels_of(self.likeliest, [self.gauge.labels.index(name) for name in names])
        border = np.argwhere(mask & ~ndi.binary_erosion(mask)).astype(float)
        if cd.center is not None and cd.reach_px is not None:
            border = border[np.abs(border[:, 1] - cd.center[1]) <= cd.reach_px + BOX_PX / 2]
        return np.concatenate([border, *(one.reshape(-1, 2) for one in points)])

    def _reason(self, gains: Mapping[int, float], moved: NDArray[np.float64]) -> str:
        """Name what is settled most, e.g. "moves gate_mcd of gate 3 by 0.80 nm"."""
        most = max(gains, key=lambda index: gains[index])
        if most == _STRUCTURES:
            return f"structures differ in {1 - self.measured.stable_share:.0%} of the draws"
        state = self.states[most]
        if most in self._lost:
            return f"{name_of(state.cd)} cannot be measured"
        scale, unit = self.gauge.shown_in(state.cd)
        return f"moves {name_of(state.cd)} by {moved[most] * scale:.2f} {unit}".rstrip()


def name_of(cd: MeasuredCD) -> str:
    """Name a CD as overlays do, e.g. "sp_t left of gate 1"."""
    at = "" if cd.at_fraction is None else f"at {cd.at_fraction:g}"
    quantity = "" if cd.quantity == "mean" else cd.quantity
    where = f"of {cd.structure} {cd.instance}" if cd.structure else ""
    return " ".join(filter(None, (cd.measurement, quantity, cd.side, at, where)))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each column over the rows that have it, NaN where none has. (N, J) -> (J,)."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _boxes(draws: LabelMap, likeliest: LabelMap) -> _Boxes:
    """All boxes in which the draws differ."""
    height, width = likeliest.shape
    rows, columns = np.nonzero((draws != likeliest).any(axis=0))
    shown, expected = draws[:, rows, columns], likeliest[rows, columns]
    cells = -(-height // _CELL_PX), -(-width // _CELL_PX)
    at = rows // _CELL_PX * cells[1] + columns // _CELL_PX
    counts = np.stack([_box_sums(shown == label, at, cells) for label in np.unique(likeliest)])
    changes = _box_sums(shown != expected, at, cells)
    most = counts.std(axis=1).argmax(axis=0)  # (h, w), the class that varies most
    shares = np.take_along_axis(counts, most[None, None], axis=0)[0]
    differs = shares.std(axis=0) > 0
    windows = [
        (
            slice(row * _CELL_PX, min(row * _CELL_PX + BOX_PX, height)),
            slice(column * _CELL_PX, min(column * _CELL_PX + BOX_PX, width)),
        )
        for row, column in np.argwhere(differs).tolist()
    ]
    return _Boxes(shares[:, differs], changes.mean(axis=0)[differs] / BOX_PX**2, windows)


def _box_sums(
    masks: NDArray[np.bool_], at: NDArray[np.int64], cells: tuple[int, int]
) -> NDArray[np.int64]:
    """Pixels of each box that are set: some pixels' masks, (T, N), and cells, (N,) -> (T, h, w)."""
    sums = np.stack([np.bincount(at[mask], minlength=cells[0] * cells[1]) for mask in masks])
    sums = sums.reshape(-1, *cells)
    return sums[:, :-1, :-1] + sums[:, 1:, :-1] + sums[:, :-1, 1:] + sums[:, 1:, 1:]


def _explained(shares: NDArray[np.integer], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of the variance of a value over the draws that goes with what each box shows.

    Adjusted, since few draws correlate with anything a little. (T, B), (T,) -> (B,), 0 to 1.

    Example:
        >>> values = np.arange(9.0)
        >>> _explained(np.stack([values, values % 2], axis=1), values).round(2).tolist()
        [1.0, 0.0]
    """
    known = np.isfinite(values)
    count = int(known.sum())
    if count < _FEW or values[known].std() == 0:
        return np.zeros(shares.shape[1])
    x, y = shares[known], values[known]
    x, y = x - x.mean(axis=0), y - y.mean()
    squares = (x**2).sum(axis=0) * (y @ y)
    r2 = (y @ x) ** 2 / np.maximum(squares, 1e-12)
    return np.maximum(1 - (1 - r2) * (count - 1) / (count - 2), 0.0)


def _near(
    windows: Sequence[tuple[slice, slice]], places: NDArray[np.float64], reach_px: float
) -> NDArray[np.bool_]:
    """Which boxes have their middle near one of some points, (N, 2). (B,)."""
    if not len(places) or not windows:
        return np.zeros(len(windows), dtype=bool)
    middles = [((r.start + r.stop) / 2, (c.start + c.stop) / 2) for r, c in windows]
    distances, _ = KDTree(places).query(np.array(middles))
    return np.asarray(distances <= reach_px)
