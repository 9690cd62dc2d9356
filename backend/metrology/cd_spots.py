"""What a guide believes → each CD with its uncertainty, and where a stroke would settle most of it.

A pixel's doubt matters only as far as it moves a CD. Draws of the labels tell how far each CD is
uncertain, and their correlation with what a box shows says where that may come from; then what two
draws show in the box is put into the likeliest labels, and measuring again tells what it does. A
box that touches nothing measured moves nothing, and so never comes up, however doubtful it is.

The uncertainty is what the guide's own probabilities say. Nobody has compared it with errors: one
that is sure and wrong has small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import KDTree

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.learning.spots import MAX_SPOTS, Spot
from backend.metrology.cd_draws import (
    STEADY_SHARE,
    Gauge,
    MeasuredDraws,
    UncertainCD,
    measure_draws,
    paired_values,
)
from backend.metrology.label_draws import draw_label_maps
from backend.metrology.results import Measured, MeasuredCD

DRAWS = 32
BOX_PX = 24
MIN_GAIN = 0.05
"""Squared tolerances; what settles less is not worth a stroke."""

_CELL_PX = BOX_PX // 2  # boxes begin at every cell
_CANDIDATES = 12
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
    nm_per_px: float | None = None


class _Boxes(NamedTuple):
    """Squares of `BOX_PX`, half overlapping, and what the draws show in them."""

    shares: NDArray[np.int64]  # (T, B), pixels of the class that varies most over the draws
    change: NDArray[np.float64]  # (B,), mean share of the pixels that differ from the likeliest
    windows: list[tuple[slice, slice]]  # (B)


def report_cds(probabilities: Probabilities, scribbles: LabelMap, gauge: Gauge) -> CDReport:
    """Tell how far each CD is uncertain, and rank up to `MAX_SPOTS` boxes.

    Args:
        probabilities: What the guide believes. Shape (C, H, W).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew: no doubt is left there.
        gauge: Measures what the recipe asks for.

    Raises:
        ValueError: No measurement of the recipe has a tolerance, so nothing tells when to stop.
    """
    believed = with_scribbles(probabilities, scribbles)
    likeliest = believed.argmax(axis=0).astype(np.uint8)
    draws = draw_label_maps(believed, DRAWS)
    measured = measure_draws(gauge, likeliest, draws)
    u_max = [gauge.tolerance(cd) for cd in measured.rows]
    if all(limit is None for limit in u_max):
        raise ValueError(
            "no CD has a tolerance: give annotation: {u_max_nm: ...}, limits or targets in the "
            "recipe, and a pixel size with the image"
        )
    states = tuple(measured.state(index, limit) for index, limit in enumerate(u_max))
    is_settled = (
        measured.stable_share >= STEADY_SHARE
        and not measured.is_broken
        and all(state.is_within for state in states)
    )
    ranking = _Ranking(gauge, likeliest, draws, measured, states)
    spots = () if is_settled else ranking.spots()
    return CDReport(states, measured.stable_share, spots, is_settled, gauge.nm_per_px)


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
        found = []
        for index in self._candidates(boxes):
            rows, columns = boxes.windows[index]
            gains = self._gains(boxes, index)
            gain = sum(gains.values())
            if gain >= MIN_GAIN:
                size = rows.stop - rows.start, columns.stop - columns.start
                reason = self._reason(gains)
                found.append(Spot(rows.start, columns.start, *size, gain / self._total, reason))
        return tuple(sorted(found, key=lambda spot: -spot.score)[:MAX_SPOTS])

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
            score[[_overlap(boxes.windows[best], window) for window in boxes.windows]] = 0

    def _gains(self, boxes: _Boxes, box: int) -> dict[int, float]:
        """What is settled where the labels in a box become known, in squared tolerances.

        The likeliest labels are measured with the box as a low and as a high draw show it.

        Returns:
            By row; `_STRUCTURES` stands for their number.
        """
        window, shares = boxes.windows[box], boxes.shares[:, box]
        order = shares.argsort(kind="stable")
        last = len(order) - 1
        chosen = [order[round(_LOW * last)], order[round(_HIGH * last)]]
        others = np.flatnonzero(~self.measured.is_same)
        if self._unstable:
            chosen.append(others[np.abs(shares[others] - np.median(shares)).argmax()])
        pasted = [self._pasted(draw, window) for draw in chosen]
        low, high = (paired_values(self.measured.rows, one.cds) for one in pasted[:2])
        moved = np.abs(high - low) / 2
        gains = {}
        for index, doubt in self._open.items():
            part = (moved[index] / (self.states[index].u_max or 1)) ** 2
            gains[index] = doubt if np.isnan(part) else min(doubt, float(part))
        for index, outline in self._lost.items():
            near = bool(_near([window], outline, _TOUCH_PX)[0])
            gains[index] = _LOST * float(boxes.change[box]) * near
        if self._unstable and not all(self.measured.has_same(one) for one in pasted):
            gains[_STRUCTURES] = self._unstable
        return gains

    def _pasted(self, draw: int, window: tuple[slice, slice]) -> Measured:
        label_map = self.likeliest.copy()
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
        mask = np.isin(self.likeliest, [self.gauge.labels.index(name) for name in names])
        border = np.argwhere(mask & ~ndi.binary_erosion(mask)).astype(float)
        if cd.center is not None and cd.reach_px is not None:
            border = border[np.abs(border[:, 1] - cd.center[1]) <= cd.reach_px + BOX_PX / 2]
        return np.concatenate([border, *(one.reshape(-1, 2) for one in points)])

    def _reason(self, gains: Mapping[int, float]) -> str:
        """Name what is settled most, e.g. "gate_mcd 0.62 -> 0.31 nm"."""
        most = max(gains, key=lambda index: gains[index])
        if most == _STRUCTURES:
            return f"structures differ in {1 - self.measured.stable_share:.0%} of the draws"
        state = self.states[most]
        if most in self._lost or not state.u or not state.u_max:
            return f"{state.cd.measurement} cannot be measured"
        left = np.sqrt(max(state.u**2 - gains[most] * state.u_max**2, 0.0))
        scale, unit = self.gauge.shown_in(state.cd)
        return f"{state.cd.measurement} {state.u * scale:.2f} -> {left * scale:.2f} {unit}".rstrip()


def _boxes(draws: LabelMap, likeliest: LabelMap) -> _Boxes:
    """All boxes in which the draws differ."""
    height, width = likeliest.shape
    counts = np.stack([_box_sums(draws == label) for label in np.unique(likeliest)])
    changes = _box_sums(draws != likeliest)
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


def _box_sums(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each box that are set, (T, H, W) -> (T, h, w)."""
    cells = masks.astype(np.int64)
    for axis in (1, 2):
        cells = np.add.reduceat(cells, np.arange(0, masks.shape[axis], _CELL_PX), axis=axis)
    return cells[:, :-1, :-1] + cells[:, 1:, :-1] + cells[:, :-1, 1:] + cells[:, 1:, 1:]


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


def _overlap(one: tuple[slice, slice], other: tuple[slice, slice]) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
