"""Finds the strip of text and scale that a microscope burnt into the bottom of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SHARE = 0.3
"""A bar that took more of the rows would be no bar."""
MIN_ROWS = 6

_RANGE_PERCENT = (0.1, 99.9)  # of the gray values: a hot pixel must not stretch it
_TOLERANCE = 0.012  # of the range: JPEG rings around letters
_QUIET = 1 / 8  # of the image's noise: what varies more is no background that was drawn
_BACKGROUND = 0.4  # share of a bar's pixels that have its one background value
_TEXT_ROW = 0.2  # share of them in the fullest line of text
_FRAME_ROW = 0.95  # share of one value in a line drawn around the bar
_STEP = 0.4  # by which the share of the background rises at the seam
_SEAM_ROWS = 3
_ROWS_BELOW = 2  # of the image, where the bar was drawn into it
_CONTRAST = 0.5  # of the range, between text and background
_TEXT = 0.01  # share of a bar's pixels with that contrast: dead and hot pixels are fewer
_INK = 0.1  # of the range: letters are of one value, which JPEG and smoothing blur
_INKED = 0.3  # share of the text with that value


def find_databar(image: NDArray[Any]) -> int:
    """Count the rows of the data bar at the bottom of an image; 0 if there is none.

    A bar has one background value in most of its pixels, whole rows of it or of its frame, and the
    image above has not: the share of that value jumps at the seam. Text of a second value stands
    out from it. A background that was drawn is free of the noise that an even substrate has.

    Args:
        image: Gray values, shape (H, W).
    """
    rows = image.shape[0]
    values = image.astype(np.float64)
    some = slice(None, None, 1 + rows // 1024)  # rows enough for statistics
    low, high = (float(limit) for limit in np.percentile(values[some], _RANGE_PERCENT))
    noise = np.median(np.abs(np.diff(values[: rows - int(rows * MAX_SHARE)][some], axis=1)))
    reach = min((high - low) * _TOLERANCE, float(noise) * _QUIET)
    background = _commonest(values[rows - max(MIN_ROWS, rows // 25) :])
    share = (np.abs(values - background) <= reach).mean(axis=1)
    middle = np.median(values, axis=1, keepdims=True)
    is_frame = (np.abs(values - middle) <= reach).mean(axis=1) >= _FRAME_ROW
    outside = np.flatnonzero(~((share >= _TEXT_ROW) | is_frame)[: rows - _ROWS_BELOW])
    bar_rows = rows - 1 - int(outside[-1]) if outside.size else rows
    if not (MIN_ROWS <= bar_rows <= rows * MAX_SHARE and _has_seam(share, bar_rows)):
        return 0
    return bar_rows if _has_text(values[rows - bar_rows :], background, high - low) else 0


def _commonest(values: NDArray[np.float64]) -> float:
    levels, counts = np.unique(values, return_counts=True)
    return float(levels[counts.argmax()])


def _has_seam(share: NDArray[np.float64], bar_rows: int) -> bool:
    """Whether the last rows differ enough from those above, by their share of the background."""
    rows = share.size
    inside = share[rows - bar_rows : rows - _ROWS_BELOW].mean()
    above = share[: rows - bar_rows][-_SEAM_ROWS:].mean()
    return bool(inside >= _BACKGROUND and inside - above >= _STEP)


def _has_text(bar: NDArray[np.float64], background: float, span: float) -> bool:
    """Whether enough of a bar stands out from its background, in one value."""
    text = bar[np.abs(bar - background) > _CONTRAST * span]
    if text.size < _TEXT * bar.size:
        return False
    return bool((np.abs(text - _commonest(text)) <= _INK * span).mean() >= _INKED)
