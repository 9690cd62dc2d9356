"""Boxes to check where nothing is in doubt: at measured edges, by lot.

A guide that is sure and wrong shows no doubt, so that no ranking by doubt finds it. But the image
may contradict it: where gray values change faster beside an edge than on it, the lot is likelier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import UNLABELED, GrayImage, LabelMap
from backend.learning.spots import Spot
from backend.metrology.results import Measured, MeasuredEdge

BOX_PX = 24
"""Side of a box, of those that are ranked by doubt too."""

_BLUR_PX = 1.5  # of the gray values, against noise
_REACH_PX = 4  # how far beside an edge a change is looked for; across a thin film lies another edge
_ON_PX = 1  # what counts as on it
_ALONG = 12  # points over which slopes are averaged
_TANGENT = 3.0  # points, 1 sigma, over which the direction of an edge is taken
_LEAST_SLOPE = 0.002  # a px, of gray values from 0 to 1: less is noise
_EVEN_CHANCE = 0.001  # of a point where the image does not contradict; 1 where it does throughout
_TOLD = 0.2  # contradiction of which the annotator is told


def audit_spots(
    measured: Measured,
    gray: GrayImage | None,
    scribbles: LabelMap,
    others: Sequence[Spot],
    count: int,
) -> tuple[Spot, ...]:
    """Up to `count` boxes by lot, apart from the others and not wholly drawn.

    Of 174 walls of synthetic gates that were moved by 3 px, one box found 98, 98 and 82 %, three
    found 98, 98 and 94 % (equipment A, B and C); with even chances three found 60, 48 and 50 %.

    Args:
        measured: Its edges are looked at.
        gray: The image, (H, W); None: all places have the same chance.
        scribbles: Drawn class per pixel, (H, W). The lot changes with what is drawn, and only then.
        others: Boxes that are shown already.
        count: How many to find.
    """
    places = [(edge, point) for edge in measured.edges for point in edge.points]
    if not places:
        return ()
    rng = np.random.default_rng(np.count_nonzero(scribbles != UNLABELED))
    doubts = np.zeros(len(places)) if gray is None else contradictions(gray, measured.edges)
    chances = doubts + _EVEN_CHANCE
    order = rng.choice(len(places), len(places), replace=False, p=chances / chances.sum())
    found: list[Spot] = []
    for index in order.tolist():
        if len(found) == count:
            break
        edge, point = places[index]
        row, column = (
            int(np.clip(round(at) - BOX_PX // 2, 0, max(side - BOX_PX, 0)))
            for at, side in zip(point, scribbles.shape, strict=True)
        )
        window = slice(row, row + BOX_PX), slice(column, column + BOX_PX)
        taken = any(do_overlap(window, spot.window) for spot in (*others, *found))
        if not taken and (scribbles[window] == UNLABELED).any():
            why = "gray values change faster beside it" if doubts[index] > _TOLD else "by lot"
            reason = f"check: is the edge of {edge.structure} {edge.instance} right here? ({why})"
            height, width = scribbles[window].shape
            found.append(Spot(row, column, height, width, 0.0, reason))
    return tuple(found)


def do_overlap(one: tuple[slice, slice], other: tuple[slice, slice]) -> bool:
    """Whether two windows share pixels."""
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def contradictions(gray: GrayImage, edges: Sequence[MeasuredEdge]) -> NDArray[np.float64]:
    """How far the gray values contradict each point of some edges, one edge after the other.

    0: they change fastest on the edge; 1: they change beside it only. Shape (P,).

    Args:
        gray: Gray values of the image. Shape (H, W).
        edges: P points in all, in order along each edge.
    """
    smooth = ndi.gaussian_filter(gray, _BLUR_PX)
    return np.concatenate([_contradiction(smooth, np.array(edge.points)) for edge in edges])


def _contradiction(smooth: GrayImage, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for one edge: points (P, 2) -> (P,)."""
    if len(points) < 2:  # noqa: PLR2004 - one point has no direction
        return np.zeros(len(points))
    along = np.gradient(ndi.gaussian_filter1d(points, _TANGENT, axis=0, mode="nearest"), axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]])[..., None]  # (2, P, 1)
    steps = np.arange(-_REACH_PX, _REACH_PX + 1)
    profiles = ndi.map_coordinates(
        smooth, points.T[..., None] + across * steps, order=1, mode="nearest"
    )
    slopes = np.gradient(profiles, axis=1)  # (P, steps)
    steepness = np.abs(ndi.uniform_filter1d(slopes, _ALONG, axis=0, mode="nearest"))
    on_edge = steepness[:, np.abs(steps) <= _ON_PX].max(axis=1)
    steepest = steepness.max(axis=1)
    share: NDArray[np.float64] = (steepest - on_edge) / np.maximum(steepest, _LEAST_SLOPE)
    return share
