"""The mean gray profile across all borders of two materials in an image, as labels show them.

One stretch of an edge shows grain; hundreds of rows across the same two materials show what their
border looks like. Labels tell where to look, not where the edge is: they may be off, and round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import LabelMap

Floats = NDArray[np.float64]
Gray = NDArray[Any]  # (H, W)
Ints = NDArray[np.int64]
REACH_PX = 14
_CLEAR_PX = 3  # kept from what lies behind a material
_KEPT = 0.7  # of the rows have room up to the reach
_LEAST_REACH = 2
_RUN = 12  # rows side by side whose mean shows one place
_LEAST_RUNS = 4
_STEP = 2  # columns, from a row to the next
_NEIGHBOURS = np.ones((3, 3))


@dataclass(frozen=True)
class BorderProfile:
    """Gray values across a border; the label's border is at 0."""

    across_px: Floats  # (K,)
    gray: Floats  # (K,)
    u: float  # of a mean, from how places differ beyond level and contrast


def border_profile(gray: Gray, label_map: LabelMap, left: int, right: int) -> BorderProfile | None:
    """Average rows across borders of `left` and `right`, whichever comes first in the image.

    Args:
        gray: The original intensities. Shape (H, W).
        label_map: Class of each pixel. Shape (H, W). Transpose both for borders that lie flat.
        left: The class at negative `across_px`.
        right: The other one.

    Returns:
        None if there are too few rows, or too little room beside their borders.
    """
    both = [
        _rows(gray, label_map, left, right),
        _rows(gray[:, ::-1], label_map[:, ::-1], left, right),
    ]
    values, rooms, places = (np.concatenate(parts) for parts in zip(*both, strict=True))
    places[len(both[0][2]) :] += len(values) + 1
    if len(values) < _LEAST_RUNS * _RUN:
        return None
    reach = [_reach(side) for side in rooms.T]
    if min(reach) < _LEAST_REACH:
        return None
    needed = [px if px == REACH_PX else px + _CLEAR_PX for px in reach]
    roomy = (rooms >= needed).all(axis=1)
    runs = _means(values[roomy], places[roomy])[:, REACH_PX - reach[0] : REACH_PX + reach[1]]
    if len(runs) < _LEAST_RUNS:
        return None
    across: Floats = np.arange(-reach[0], reach[1], dtype=np.float64) + 0.5
    mean: Floats = runs.mean(axis=0)
    return BorderProfile(across, mean, _scatter(runs) / float(np.sqrt(len(runs))))


def _rows(gray: Gray, label_map: LabelMap, left: int, right: int) -> tuple[Floats, Ints, Ints]:
    """Gray values (N, 2R) around each border, room on both sides (N, 2), number of its run (N,)."""
    border = (label_map[:, :-1] == left) & (label_map[:, 1:] == right)
    pieces, _ = ndi.label(border, _NEIGHBOURS)
    rows, columns = np.nonzero(border)
    order = np.lexsort((rows, pieces[rows, columns]))
    rows, columns = rows[order], columns[order]
    steps = columns[:, None] + np.arange(1 - REACH_PX, REACH_PX + 1)
    inside = (steps >= 0) & (steps < gray.shape[1])
    steps = steps.clip(0, gray.shape[1] - 1)
    labels = label_map[rows[:, None], steps]
    alike = inside & (labels == np.where(np.arange(2 * REACH_PX) < REACH_PX, left, right))
    rooms = np.stack(
        [
            np.logical_and.accumulate(side, axis=1).sum(axis=1)
            for side in (alike[:, REACH_PX - 1 :: -1], alike[:, REACH_PX:])
        ],
        axis=1,
    )
    return gray[rows[:, None], steps].astype(np.float64), rooms, _runs(rows, columns)


def _runs(rows: Ints, columns: Ints) -> Ints:
    """Number of the run of rows side by side that each border belongs to."""
    broken = (np.diff(rows, prepend=-9) != 1) | (np.abs(np.diff(columns, prepend=-9)) > _STEP)
    order = np.arange(len(rows))
    since = order - np.maximum.accumulate(np.where(broken, order, 0))
    return np.cumsum(broken | (since % _RUN == 0))


def _reach(room: Ints) -> int:
    """How far rows go on one side, so that most have room."""
    most = int(np.quantile(room, 1 - _KEPT, method="lower"))
    return REACH_PX if most >= REACH_PX else most - _CLEAR_PX


def _means(values: Floats, places: Ints) -> Floats:
    """Means over runs that are long enough. (M, 2R)."""
    _, run, counts = np.unique(places, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, run, values)
    enough = (counts >= _RUN / 2) & np.isfinite(sums).all(axis=1)
    return sums[enough] / counts[enough, None]


def _scatter(runs: Floats) -> float:
    """Standard deviation of runs from the mean profile, each at its own level and contrast."""
    mean = runs.mean(axis=0)
    model = np.stack([np.ones_like(mean), mean], axis=1)
    rest = runs.T - model @ np.linalg.lstsq(model, runs.T, rcond=None)[0]
    return float(np.sqrt((rest**2).sum() / max(len(runs) * (len(mean) - 2), 1)))
