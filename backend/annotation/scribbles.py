"""Strokes of the brush and the eraser to a map of weak labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backend.annotation.label_config import SCRIBBLE, LabelConfig
from backend.annotation.rle import decode_mask
from backend.annotation.tasks import BRUSH, Region, SentRegion, Touch
from backend.arrays import UNLABELED, LabelMap, Mask
from backend.errors import InvalidImageError, InvalidTaskError
from backend.microscope.images import MAX_PIXELS, check_size

MAX_PAINTED_PX = 4_000_000_000
"""Of all masks and strokes of an annotation, each counted by the box it fills: seconds of work."""

_OPAQUE = 128  # the editor's rims are half transparent: from here on a pixel is painted
_HALF_PX = 0.5  # the least radius; from the center of a pixel to its edge
_NO_STEP_PX = 1e-9  # less is nothing, and dividing by it overflows
_MAX_SPANS = 1_000_000  # rows of segments handled at once, to bound the memory


def weak_labels(
    regions: Sequence[Region], config: LabelConfig, sent: Mapping[str, SentRegion]
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Choose the regions an annotator scribbled with the brush, and nothing else.

    Label Studio attaches scribble labels to accepted masks of ours too (they would teach the
    guide its own mistakes), so a scribble must have been made by hand and share its id with none.

    Args:
        regions: All regions of an annotation or a draft.
        config: Tells the materials.
        sent: Regions we sent earlier, by id.

    Returns:
        The weak labels in order, and a sentence about each scribble that was ignored.

    Raises:
        InvalidTaskError: There is so much of them that painting would take minutes.
    """
    _check_work([region for region in regions if region.control == SCRIBBLE])
    controls_by_id = defaultdict(set)
    for region in regions:
        controls_by_id[region.id].add(region.control)
    kept, ignored = [], []
    for region in regions:
        if region.control != SCRIBBLE:
            continue
        shared = len(controls_by_id[region.id]) > 1
        reason = _why_not_weak(region, config, was_ours=shared or region.id in sent)
        if reason:
            ignored.append(f"scribble {region.id} is ignored: {reason}")
        else:
            kept.append(region)
    return tuple(kept), tuple(ignored)


def rasterize(
    regions: Sequence[Region], materials: Sequence[str], shape: tuple[int, int]
) -> LabelMap:
    """Paint regions one after the other; where they overlap, the later one wins.

    Args:
        regions: Painted regions; each label must be one of the materials.
        materials: Names of the classes, in order.
        shape: Height and width of the image, in pixels.

    Returns:
        Class index per pixel, `UNLABELED` where nobody painted. Shape (H, W).
    """
    index_of = {name: index for index, name in enumerate(materials)}
    label_map = np.full(shape, UNLABELED, dtype=np.uint8)
    for region in regions:
        if region.label not in index_of:
            raise InvalidTaskError(f"region {region.id}: {region.label!r} is no material")
        label_map[region_mask(region, shape)] = index_of[region.label]
    return label_map


def region_mask(region: Region, shape: tuple[int, int]) -> Mask:
    """Paint one region: its mask if it has one, then its strokes in order.

    Args:
        region: The eraser takes away from this region only.
        shape: Height and width of the image, in pixels.

    Returns:
        True where it is painted; what lies outside the image is cut off. Shape (H, W).

    Raises:
        InvalidTaskError: It was made on an image of another size, or its mask is malformed.
    """
    if region.shape not in {None, shape}:
        raise InvalidTaskError(
            f"region {region.id} was made on an image of {region.shape} pixels (height, width), "
            f"this one has {shape}"
        )
    mask: Mask = np.zeros(shape, dtype=np.bool_)
    if region.rle:
        mask = _decode(region, region.rle, shape)
    for touch in region.touches:
        _paint(mask, touch)
    return mask


def stroke_mask(touch: Touch, shape: tuple[int, int]) -> Mask:
    """Paint a stroke: the pixels whose center is within half its width of its line.

    Strokes have round ends and corners, are at least 1 px wide, and mark at least the pixels
    their points lie in. Shape (H, W).

    Example:
        >>> touch = Touch(erases=False, points_px=np.array([[0.0, 1.0], [0.0, 3.0]]), width_px=1.0)
        >>> stroke_mask(touch, shape=(2, 5)).astype(int).tolist()
        [[0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    height, width = shape
    radius_px = max(touch.width_px / 2, _HALF_PX)
    points = touch.points_px
    # +1 where a span begins and -1 behind its end: the running sum is positive inside
    steps = np.zeros((height, width + 1), dtype=np.int32)
    segments = np.concatenate([points[:-1], points[1:]], axis=1)
    if len(points) == 1:
        segments = np.concatenate([points, points], axis=1)
    at_once = max(1, _MAX_SPANS // height)
    for first in range(0, len(segments), at_once):
        _add_spans(steps, segments[first : first + at_once], radius_px)
    mask = steps[:, :width].cumsum(axis=1) > 0
    _mark_points(mask, points)
    return mask


def _check_work(regions: Sequence[Region]) -> None:
    """Raise if regions would keep the server painting for minutes."""
    painted = sum(_work_px(region) for region in regions)
    if painted > MAX_PAINTED_PX:
        raise InvalidTaskError(
            f"its masks and strokes paint {painted / 1e9:.1f} billion pixels, at most "
            f"{MAX_PAINTED_PX / 1e9:g} are read: draw fewer, or thinner ones"
        )


def _work_px(region: Region) -> int:
    """Pixels that are touched in painting a region; none if its image is too large for that."""
    height, width = region.shape or (0, 0)
    if height * width > MAX_PIXELS:
        return 0
    touches = [touch for touch in region.touches if len(touch.points_px)]
    boxes = [_box(touch, (height, width)) for touch in touches]
    strokes = sum(int(np.prod(high - low)) for low, high in boxes)
    return strokes + bool(region.rle) * height * width


def _why_not_weak(region: Region, config: LabelConfig, *, was_ours: bool) -> str | None:
    if was_ours:
        return "it repeats a region of the guide (press Esc before accepting suggestions)"
    if region.kind != BRUSH or not region.is_painted:
        return "nothing was painted"
    if region.origin != "manual":
        return f"it was not painted by hand (origin {region.origin!r})"
    if region.label not in config.materials:
        return f"{region.label!r} is no material of this project"
    try:
        _check_mask(region)
    except (InvalidTaskError, InvalidImageError) as error:
        return str(error)
    return None


def _check_mask(region: Region) -> None:
    """Raise unless the region is of a possible size, and its mask can be read."""
    if region.shape:
        check_size(*region.shape)
        if region.rle:
            decode_mask(region.rle, region.shape)


def _decode(region: Region, rle: Sequence[int], shape: tuple[int, int]) -> Mask:
    try:
        return decode_mask(rle, shape) >= _OPAQUE
    except InvalidTaskError as error:
        raise InvalidTaskError(f"region {region.id}: {error}") from error


def _paint(mask: Mask, touch: Touch) -> None:
    """Paint or erase a stroke in its bounding box, so that a dot costs a dot."""
    if not len(touch.points_px):
        return
    low, high = _box(touch, mask.shape)
    window = mask[low[0] : high[0], low[1] : high[1]]
    if window.size:
        moved = replace(touch, points_px=touch.points_px - low)
        height, width = window.shape
        window[stroke_mask(moved, (height, width))] = not touch.erases


def _box(touch: Touch, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and column that a stroke may reach, and those behind the last. (2,) each."""
    reach_px = max(touch.width_px / 2, _HALF_PX) + 1
    low = np.clip(np.floor(touch.points_px.min(axis=0) - reach_px), 0, shape)
    high = np.clip(np.ceil(touch.points_px.max(axis=0) + reach_px), 0, shape)
    return low.astype(np.int64), high.astype(np.int64)


def _add_spans(steps: NDArray[np.int32], segments: NDArray[np.float64], radius_px: float) -> None:
    """Add the columns that every segment covers in every row it reaches.

    `segments` has a row per segment: row and column of its first and of its last point. A segment
    thickened by the radius is convex, so it covers one span of columns in each row.
    """
    height, width = steps.shape[0], steps.shape[1] - 1
    row_ends = segments[:, [0, 2]]
    first_rows = np.ceil(np.clip(row_ends.min(axis=1) - radius_px, 0, height)).astype(np.int64)
    last_rows = np.floor(np.clip(row_ends.max(axis=1) + radius_px, -1, height - 1))
    counts = np.maximum(last_rows.astype(np.int64) - first_rows + 1, 0)
    which = np.repeat(np.arange(len(segments)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first_rows, counts)
    left, right = _spans(rows, segments[which], radius_px)
    first = np.ceil(np.clip(left, 0, width)).astype(np.int64)
    behind = np.floor(np.clip(right, -1, width - 1)).astype(np.int64) + 1
    seen = behind > first
    np.add.at(steps, (rows[seen], first[seen]), 1)
    np.add.at(steps, (rows[seen], behind[seen]), -1)


def _spans(
    rows: NDArray[np.int64], segments: NDArray[np.float64], radius_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last column within the radius of segment i in row i; inf, -inf if none. (N,)."""
    row_0, column_0, row_1, column_1 = segments.T
    left: NDArray[np.float64] = np.full(len(rows), np.inf)
    right: NDArray[np.float64] = np.full(len(rows), -np.inf)
    for row_center, column_center in ((row_0, column_0), (row_1, column_1)):
        square = radius_px**2 - (rows - row_center) ** 2
        half = np.sqrt(np.maximum(square, 0))
        left = np.where(square >= 0, np.minimum(left, column_center - half), left)
        right = np.where(square >= 0, np.maximum(right, column_center + half), right)
    rise, run = (
        np.where(np.abs(step) < _NO_STEP_PX, 0, step)
        for step in (row_1 - row_0, column_1 - column_0)
    )
    side_left, side_right = _band(rows - row_0, rise, run, radius_px)
    inside = side_left <= side_right
    left = np.where(inside, np.minimum(left, column_0 + side_left), left)
    right = np.where(inside, np.maximum(right, column_0 + side_right), right)
    return left, right


def _band(
    row: NDArray[np.float64],
    rise: NDArray[np.float64],
    run: NDArray[np.float64],
    radius_px: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns of the rectangle around a segment from (0, 0) to (rise, run) in `row`. (N,).

    A column x is beside the line if |x * rise - row * run| <= radius * length, and between its
    ends if 0 <= x * run + row * rise <= length ** 2.
    """
    length = np.hypot(rise, run)
    beside = _solve(rise, row * run - radius_px * length, row * run + radius_px * length)
    between = _solve(run, -row * rise, length**2 - row * rise)
    first, last = np.maximum(beside[0], between[0]), np.minimum(beside[1], between[1])
    return np.where(length > 0, first, np.inf), np.where(length > 0, last, -np.inf)


def _solve(
    factor: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interval of x with low <= factor * x <= high, all of shape (N,)."""
    usable = np.where(factor == 0, 1.0, factor)
    ends = np.stack([low / usable, high / usable])
    # a factor of zero asks nothing of x: every x or none
    everywhere = (low <= 0) & (high >= 0)
    first = np.where(factor == 0, np.where(everywhere, -np.inf, np.inf), ends.min(axis=0))
    last = np.where(factor == 0, np.where(everywhere, np.inf, -np.inf), ends.max(axis=0))
    return first, last


def _mark_points(mask: Mask, points: NDArray[np.float64]) -> None:
    """Mark the pixels the points lie in: a thin click between four centers must not be lost."""
    height, width = mask.shape
    far_edge = np.array([height, width]) - _HALF_PX
    inside = ((points >= -_HALF_PX) & (points <= far_edge)).all(axis=1)
    pixels = np.floor(points[inside] + _HALF_PX).astype(np.int64)
    rows, columns = np.minimum(pixels, [height - 1, width - 1]).T  # the far edge counts too
    mask[rows, columns] = True
