"""Finds the strip of text and scale that a microscope burnt into the bottom of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SHARE = 0.3
"""A bar that took more of the rows would be no bar."""
MIN_ROWS = 6

_TOLERANCE = 0.012  # of the range: JPEG rings around letters
_BACKGROUND = 0.5  # share of a bar's pixels that have its one background value
_TEXT_ROW = 0.2  # share of them in the fullest line of text
_FRAME_ROW = 0.95  # share of one value in a line drawn around the bar
_STEP = 0.4  # by which the share of the background rises at the seam
_SEAM_ROWS = 3
_ROWS_BELOW = 2  # of the image, where the bar was drawn into it


def find_databar(image: NDArray[Any]) -> int:
    """Count the rows of the data bar at the bottom of an image; 0 if there is none.

    A bar has one background value in most of its pixels, whole rows of it or of its frame, and the
    image above has not: the share of that value jumps at the seam.

    Args:
        image: Gray values, shape (H, W).
    """
    rows = image.shape[0]
    values = image.astype(np.float64)
    reach = np.ptp(values) * _TOLERANCE
    levels, counts = np.unique(values[rows - max(MIN_ROWS, rows // 25) :], return_counts=True)
    share = (np.abs(values - levels[counts.argmax()]) <= reach).mean(axis=1)
    middle = np.median(values, axis=1, keepdims=True)
    is_frame = (np.abs(values - middle) <= reach).mean(axis=1) >= _FRAME_ROW
    outside = np.flatnonzero(~((share >= _TEXT_ROW) | is_frame)[: rows - _ROWS_BELOW])
    bar_rows = rows - 1 - int(outside[-1]) if outside.size else rows
    return bar_rows if _is_bar(share, bar_rows) else 0


def _is_bar(share: NDArray[np.float64], bar_rows: int) -> bool:
    """Whether the last rows differ enough from those above, by their share of the background."""
    rows = share.size
    if not MIN_ROWS <= bar_rows <= rows * MAX_SHARE:
        return False
    inside = share[rows - bar_rows : rows - _ROWS_BELOW].mean()
    above = share[: rows - bar_rows][-_SEAM_ROWS:].mean()
    return bool(inside >= _BACKGROUND and inside - above >= _STEP)
