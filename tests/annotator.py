"""A simulated annotator, who knows the truth: decides where to paint next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MAX_REACH_PX = 60  # half the length of a stroke
MIN_REACH_PX = 2


@dataclass(frozen=True)
class Stroke:
    """A straight stroke of one material, in image pixels."""

    label: int  # class index
    points: tuple[tuple[int, int], ...]  # (row, column), from end to end


def first_strokes(truth, radius_px):
    """Paint one stroke inside each material. truth (H, W), class per pixel."""
    return [stroke_inside(truth == label, label, radius_px) for label in classes_of(truth)]


def classes_of(truth):
    """List the classes that occur."""
    return np.unique(truth[truth != 255]).tolist()


def strokes_in(boxes, truth, radius_px):
    """Paint the widest material of each box, where the brush fits. boxes: slices; truth (H, W)."""
    strokes = []
    for box in boxes:
        seen = np.full(truth.shape, 255, np.uint8)
        seen[box] = truth[box]
        depths = {label: depth(seen == label).max() for label in classes_of(seen)}
        label = max(depths, key=depths.get)
        if depths[label] >= radius_px:
            strokes.append(stroke_inside(seen == label, label, radius_px))
    return strokes


def corrections(truth, shown, radius_px, count):
    """Paint where `shown` is most wrong and the brush fits. truth, shown (H, W)."""
    wrong = np.zeros(truth.shape, bool)
    for label in classes_of(truth):
        wrong |= (truth == label) & (shown != label) & (depth(truth == label) >= radius_px)
    strokes = []
    for _ in range(count):
        depths = {label: depth(wrong & (truth == label)).max() for label in classes_of(truth)}
        label = max(depths, key=depths.get)
        if depths[label] < MIN_REACH_PX:
            break
        stroke = stroke_inside(wrong & (truth == label), label, radius_px)
        wrong[near(stroke, truth.shape, MAX_REACH_PX)] = False  # the next one lies elsewhere
        strokes.append(stroke)
    return strokes


def stroke_inside(mask, label, radius_px):
    """Paint through the deepest point of `mask`, as far as the brush fits. mask (H, W) bool."""
    inside = depth(mask)
    row, column = np.unravel_index(inside.argmax(), mask.shape)
    fits = inside >= min(radius_px, inside.max())
    along_row = [(int(row), int(c)) for c in run_through(fits[row], column)]
    along_column = [(int(r), int(column)) for r in run_through(fits[:, column], row)]
    return Stroke(label, tuple(max(along_row, along_column, key=lambda ends: spread(*ends))))


def depth(mask):
    """Distance of each pixel to the nearest one outside `mask`, in px; the image ends outside."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def run_through(fits, position):
    """Return both ends of the run of true values around `position`."""
    gaps = np.flatnonzero(~fits)
    low = max(gaps[gaps < position].max(initial=-1) + 1, position - MAX_REACH_PX)
    high = min(gaps[gaps > position].min(initial=len(fits)) - 1, position + MAX_REACH_PX)
    # Label Studio draws nothing at all where the brush did not move
    return max(0, min(low, position - MIN_REACH_PX)), max(high, position + MIN_REACH_PX)


def spread(first, second):
    """Distance between two ends of a straight run, px."""
    return abs(first[0] - second[0]) + abs(first[1] - second[1])


def near(stroke, shape, distance_px):
    """Mark the pixels within a distance of the middle of a stroke. -> (H, W) bool."""
    rows, columns = np.indices(shape)
    middle = np.mean(stroke.points, axis=0)
    return np.hypot(rows - middle[0], columns - middle[1]) <= distance_px


def along(stroke):
    """List the pixels from one end of a stroke to the other."""
    (row, column), (last_row, last_column) = stroke.points[0], stroke.points[-1]
    steps = max(abs(last_row - row), abs(last_column - column)) + 1
    rows = np.linspace(row, last_row, steps).round().astype(int)
    return rows, np.linspace(column, last_column, steps).round().astype(int)


def mean_iou(truth, shown):
    """Average intersection over union of the classes in `truth`."""
    known = truth != 255
    overlaps = [
        np.count_nonzero(known & (truth == label) & (shown == label))
        / np.count_nonzero(known & ((truth == label) | (shown == label)))
        for label in classes_of(truth)
    ]
    return float(np.mean(overlaps))
