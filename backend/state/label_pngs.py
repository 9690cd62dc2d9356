"""Label maps as PNG files, with the moment when Label Studio saved what they hold."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backend.arrays import LabelMap

_MOMENT = "Creation Time"  # PNG's own word for it
LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


def to_png(label_map: LabelMap, moment: datetime = LONG_AGO) -> bytes:
    """Encode a label map, (H, W); without a moment the same map gives the same bytes."""
    buffer, notes = io.BytesIO(), PngInfo()
    if moment != LONG_AGO:
        notes.add_text(_MOMENT, moment.isoformat())
    Image.fromarray(label_map).save(buffer, "PNG", optimize=True, pnginfo=notes)
    return buffer.getvalue()


def from_png(content: bytes) -> LabelMap:
    """Decode a label map, (H, W).

    Raises:
        ValueError: It is none.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            label_map = np.array(file)
    except (OSError, SyntaxError) as error:  # the latter is Pillow's, for a broken PNG
        raise ValueError(str(error)) from error
    if label_map.ndim != 2 or label_map.dtype != np.uint8:  # noqa: PLR2004 - rows, columns
        raise ValueError(f"it holds {label_map.dtype} of shape {label_map.shape}, no label map")
    return label_map


def moment_of(content: bytes) -> datetime:
    """When what is in a PNG was saved; the distant past if it does not tell, or is damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as file:
            return datetime.fromisoformat(file.info.get(_MOMENT, LONG_AGO.isoformat()))
    except (OSError, SyntaxError, ValueError):
        return LONG_AGO
