"""The strip of text and scale that some microscopes burn into the bottom of their images."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from backend.microscope.equipment import Micrograph

DATABAR_SHARE = 0.06
"""Share of the rows a data bar takes; recipes cut at `roi_fraction` 0.94."""


def draw_databar(image: Micrograph, rows: int, nm_per_px: float) -> Micrograph:
    """Add `rows` rows of data bar under an image: image (H, W) -> (H + rows, W), same dtype."""
    width = image.shape[1]
    bar = Image.new("L", (width, rows), 20)
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(size=max(6, rows * 0.5))
    length_nm = scale_bar_nm(0.22 * width * nm_per_px)
    right, middle = width - 6, rows // 2
    left = right - round(length_nm / nm_per_px)
    draw.rectangle([left, middle - 1, right, middle + 1], fill=255)
    draw.text((left - 4, middle), f"{length_nm:g} nm", fill=255, font=font, anchor="rm")
    draw.text((4, middle), "HAADF  200 kV", fill=235, font=font, anchor="lm")
    white = np.iinfo(image.dtype).max
    pixels = (np.asarray(bar, dtype=np.float64) / 255 * white).astype(image.dtype)
    return np.concatenate([image, pixels])


def scale_bar_nm(longest_nm: float) -> float:
    """The longest round length (1, 2 or 5 times a power of ten) up to `longest_nm`.

    Example:
        >>> scale_bar_nm(37)
        20.0
    """
    power = 10 ** np.floor(np.log10(longest_nm))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_nm))
