"""Original intensities → the 8-bit picture an annotator sees, on the same pixels.

Only for looking at and for networks: edges are fitted to the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRETCH_PERCENT = (0.1, 99.9)


@dataclass(frozen=True)
class LabelingPicture:
    """The picture, and which intensities became black and white."""

    pixels: NDArray[np.uint8]  # (H, W)
    low: float
    high: float


def draw_labeling_picture(image: NDArray[Any], databar_rows: int = 0) -> LabelingPicture:
    """Stretch an image between its 0.1 and 99.9 percentiles to 0..255.

    Args:
        image: Original intensities, finite, shape (H, W).
        databar_rows: Rows at the bottom that do not count for the percentiles.
    """
    values = image.astype(np.float64)
    counted = values[: values.shape[0] - databar_rows]
    low, high = (float(limit) for limit in np.percentile(counted, STRETCH_PERCENT))
    if high == low:  # of few bright pixels on a ground of one value
        low, high = float(counted.min()), float(counted.max())
    contrast = high - low if high > low else 1.0
    pixels = np.rint(255 * np.clip((values - low) / contrast, 0, 1)).astype(np.uint8)
    return LabelingPicture(pixels, low, high)
