"""A simulated annotator: draws first strokes, then corrects what a method shows.

Draws like the annotator of the duel by default: a cross in the widest part of each material, then
dabs of the true material where the method is most uncertain and most visibly wrong. Others err, or
look at the recommended spots only, or at as many places chosen at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import UNLABELED, LabelMap, Mask, Probabilities
from backend.learning.spots import Spot
from backend.learning.uncertainty import normalized_entropy

MIN_DEPTH_PX = 1.5
"""Thinner than this on either side of a pixel, a brush would paint over the border."""
MIN_STROKE_DEPTH_PX = 2.0
MIN_ERROR_PX = 60
"""An error of fewer pixels is overlooked."""
SLIP_SHARE = 0.05
SHAKE_PX = 2

AnnotatorName = Literal["careful", "erring", "spots", "random"]


@dataclass(frozen=True)
class Habits:
    """How an annotator draws."""

    stroke_px: int = 40
    """Reach of the first strokes from their middle."""
    brush_px: int = 4
    """Radius of the brush of the first strokes."""
    dab_px: int = 3
    """Radius of a correcting dab."""
    windows: int = 3
    """How many uncertain places are looked at each turn."""
    window_px: int = 48
    errors: int = 2
    """How many of the largest errors are corrected each turn."""
    wander: float = 0.0
    """0: first strokes begin where a material is widest; 1: anywhere in it."""
    slip_share: float = 0.0
    """Share of the strokes that are given another material than was meant."""
    shake_px: int = 0
    """How far a stroke may land from where it was meant, in rows and in columns."""


class Annotator:
    """Draws on one image, turn by turn.

    "careful" draws what is true where the answer is uncertain or wrong; "erring" the same, with
    slips and a shaking hand; "spots" inside the boxes that are recommended, and nowhere else;
    "random" inside as many boxes of that size, anywhere.
    """

    def __init__(self, name: AnnotatorName, truth: LabelMap, seed: int) -> None:
        """Look at an image.

        Args:
            name: Who draws.
            truth: Class per pixel, `UNLABELED` where it is unknown. Shape (H, W).
            seed: 0 begins where each material is widest, as the annotator of the duel does; others
                begin anywhere it is at least half as wide.
        """
        self.name = name
        self.scribbles = np.full(truth.shape, UNLABELED, np.uint8)  # (H, W), all that is drawn
        self.strokes = 0  # how many were drawn
        self._truth = truth
        self._rng = np.random.default_rng(seed)
        self._habits = Habits(wander=0.5 if seed else 0.0)
        if name == "erring":
            self._habits = replace(self._habits, slip_share=SLIP_SHARE, shake_px=SHAKE_PX)

    def begin(self) -> None:
        """Draw the first strokes."""
        self._lay_over(first_strokes(self._truth, self._rng, self._habits))

    def react(self, probabilities: Probabilities, spots: Sequence[Spot]) -> None:
        """Draw what an answer calls for; shape (C, H, W), and its recommended spots."""
        sheet = np.full(self._truth.shape, UNLABELED, np.uint8)
        if self.name in ("spots", "random"):
            boxes = spots if self.name == "spots" else scatter(spots, self._truth.shape, self._rng)
            predicted = probabilities.argmax(axis=0)
            for box in boxes:
                touch_up(sheet, self._truth, predicted, box.window, self._habits.dab_px)
        else:
            correct(sheet, self._truth, probabilities, self._habits)
        self._lay_over(sheet)

    def _lay_over(self, sheet: LabelMap) -> None:
        """Add what was drawn in one turn; later strokes win."""
        strokes = split_strokes(sheet)
        labels = _materials(self._truth)
        for stroke, meant in strokes:
            mask, label = stroke, meant
            if self._habits.shake_px:
                mask = _shifted(stroke, self._rng, self._habits.shake_px)
            if len(labels) > 1 and self._rng.random() < self._habits.slip_share:
                label = int(self._rng.choice([other for other in labels if other != meant]))
            self.scribbles[mask] = label
        self.strokes += len(strokes)


def depth_px(mask: Mask) -> NDArray[np.float64]:
    """Distance of each pixel in `mask` to what is outside, the image's border included. (H, W)."""
    return ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def first_strokes(
    truth: LabelMap, rng: np.random.Generator, habits: Habits | None = None
) -> LabelMap:
    """Draw a cross in the widest part of each material of `truth`, (H, W) -> (H, W)."""
    habits = habits or Habits()
    scribbles = np.full(truth.shape, UNLABELED, np.uint8)
    for label in _materials(truth):
        depth = depth_px(truth == label)
        middle = np.unravel_index((depth + 0.01 * rng.random(depth.shape)).argmax(), depth.shape)
        if habits.wander:
            middle = tuple(rng.choice(np.argwhere(depth >= (1 - habits.wander) * depth.max())))
        for row_step, column_step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            for step in range(habits.stroke_px):
                row, column = middle[0] + row_step * step, middle[1] + column_step * step
                inside = 0 <= row < truth.shape[0] and 0 <= column < truth.shape[1]
                if not inside or depth[row, column] < MIN_STROKE_DEPTH_PX:
                    break
                dab(scribbles, truth, (row, column), min(habits.brush_px, depth[row, column] - 1))
    return scribbles


def correct(
    scribbles: LabelMap,
    truth: LabelMap,
    probabilities: Probabilities,
    habits: Habits | None = None,
) -> None:
    """Add dabs to `scribbles`, in place, where a method is uncertain or wrong.

    Args:
        scribbles: What has been drawn, `UNLABELED` elsewhere. Shape (H, W).
        truth: Shape (H, W).
        probabilities: The method's answer. Shape (C, H, W).
        habits: How to draw.
    """
    habits = habits or Habits()
    predicted = probabilities.argmax(axis=0)
    uncertainty = normalized_entropy(probabilities)
    for window in uncertain_windows(uncertainty, habits.windows, habits.window_px):
        touch_up(scribbles, truth, predicted, window, habits.dab_px)
    _fix_largest_errors(scribbles, truth, predicted, habits.errors)


def uncertain_windows(
    uncertainty: NDArray[np.float32], count: int, size_px: int
) -> Iterator[tuple[slice, slice]]:
    """Choose squares of the highest mean uncertainty that do not overlap."""
    value = ndi.uniform_filter(uncertainty, size_px)
    half = size_px // 2
    value[:half] = value[-half:] = value[:, :half] = value[:, -half:] = 0
    for _ in range(count):
        row, column = np.unravel_index(value.argmax(), value.shape)
        top, left = max(0, int(row) - half), max(0, int(column) - half)
        yield slice(top, int(row) + half), slice(left, int(column) + half)
        apart_top, apart_left = max(0, int(row) - size_px), max(0, int(column) - size_px)
        value[apart_top : row + size_px, apart_left : column + size_px] = 0


def touch_up(
    scribbles: LabelMap,
    truth: LabelMap,
    predicted: NDArray[np.integer],
    window: tuple[slice, slice],
    radius_px: float,
) -> None:
    """Dab each material seen in a window once, where it is wide and best where it is wrong."""
    seen = truth[window]
    for label in _materials(seen):
        depth = ndi.distance_transform_edt(seen == label)
        if depth.max() < MIN_DEPTH_PX:
            continue
        wrong = (seen == label) & (predicted[window] != label)
        at = np.unravel_index((depth * (1 + 2 * wrong)).argmax(), depth.shape)
        dab(scribbles[window], seen, at, min(radius_px, depth[at]))


def scatter(
    spots: Sequence[Spot], shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[Spot, ...]:
    """Move each box to a place chosen at random, inside an image of this (height, width)."""
    return tuple(
        replace(
            spot,
            row=int(rng.integers(shape[0] - spot.height + 1)),
            column=int(rng.integers(shape[1] - spot.width + 1)),
        )
        for spot in spots
    )


def split_strokes(scribbles: LabelMap) -> list[tuple[Mask, int]]:
    """Tell strokes apart: connected pixels of one class, and the class.

    Example:
        >>> drawn = np.array([[0, 0, 255, 1], [255, 255, 255, 1], [0, 255, 255, 255]], np.uint8)
        >>> [(int(mask.sum()), label) for mask, label in split_strokes(drawn)]
        [(2, 0), (1, 0), (2, 1)]
    """
    strokes = []
    for label in _materials(scribbles):
        parts, count = ndi.label(scribbles == label, np.ones((3, 3)))
        strokes += [(parts == part, label) for part in range(1, count + 1)]
    return strokes


def dab(
    scribbles: LabelMap, truth: LabelMap, at: Sequence[np.integer | int], radius_px: float
) -> None:
    """Paint a disc around (row, column), in place, where the material is that of its middle."""
    reach = int(radius_px) + 1
    row, column = (int(i) for i in at)
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    y, x = np.ogrid[rows.start : rows.stop, columns.start : columns.stop]
    label = truth[row, column]
    near = truth[rows, columns]
    disc = ((y - row) ** 2 + (x - column) ** 2 <= radius_px**2)[: near.shape[0], : near.shape[1]]
    scribbles[rows, columns][disc & (near == label)] = label


def _fix_largest_errors(
    scribbles: LabelMap, truth: LabelMap, predicted: NDArray[np.integer], count: int
) -> None:
    """Dab each material within the largest connected errors."""
    known = truth != UNLABELED
    blobs, found = ndi.label(ndi.binary_opening((predicted != truth) & known))
    sizes = np.bincount(blobs.ravel(), minlength=found + 1)[1:]
    for blob in np.argsort(-sizes)[:count]:
        if sizes[blob] < MIN_ERROR_PX:
            return
        where = blobs == blob + 1
        for label in _materials(truth[where]):
            depth = ndi.distance_transform_edt(where & (truth == label))
            at = np.unravel_index(depth.argmax(), depth.shape)
            dab(scribbles, truth, at, float(np.clip(depth[at], 2, 5)))


def _shifted(mask: Mask, rng: np.random.Generator, reach_px: int) -> Mask:
    """Move a stroke by up to `reach_px` in rows and in columns; none of it is lost at a border."""
    rows, columns = np.nonzero(mask)
    down, right = rng.integers(-reach_px, reach_px + 1, 2)
    moved = np.zeros_like(mask)
    height, width = mask.shape
    moved[(rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)] = True
    return moved


def _materials(truth: LabelMap) -> list[int]:
    labels: list[int] = np.unique(truth[truth != UNLABELED]).tolist()
    return labels
