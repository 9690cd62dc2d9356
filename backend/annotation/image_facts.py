"""What the data of a task says of its image: the size of a pixel, what took it, where it came from.

An import writes it, whoever makes tasks by hand may; an export and the report of CDs read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backend.errors import InvalidTaskError
from backend.microscope.calibration import Calibration
from backend.microscope.scale import is_plausible

PIXEL_SIZE_KEY = "pixel_size_nm"
"""Where a task's data may hold the size of a pixel."""
PIXEL_SIZE_KEYS = ("pixel_size_x_nm", "pixel_size_y_nm")
"""The same, where width and height of a pixel may differ."""
PIXEL_SOURCE_KEY = "pixel_size_source"
"""Where a task's data may tell how its pixel size is known."""
EQUIPMENT_KEY = "equipment"
"""Where a task's data may name what took the image."""
RECORD_KEY = "import_record"
"""Where a task's data may name the record of its image's import."""
ORIGINAL_KEY = "original_sha256"
"""Where a task's data may hold the hash of the original intensities."""
DATABAR_KEY = "databar_rows"
"""Where a task's data may count the rows at the bottom that show no specimen."""


def databar_rows(data: Mapping[str, Any]) -> int:
    """How many rows at the bottom of the image are a data bar; 0 if nobody says.

    Raises:
        InvalidTaskError: It is no number of rows: letters would pass for materials.

    Example:
        >>> databar_rows({"databar_rows": "34"}), databar_rows({})
        (34, 0)
    """
    told = data.get(DATABAR_KEY)
    if told in (None, ""):
        return 0
    rows = _number(told)
    if not (rows >= 0 and rows.is_integer()):
        raise InvalidTaskError(
            f"{DATABAR_KEY} of the task is {str(told)[:80]!r}, which is no number of rows: correct "
            "it in its data"
        )
    return int(rows)


def task_scale(data: Mapping[str, Any]) -> tuple[Calibration | None, tuple[str, ...]]:
    """The pixel size that a task's data carries, also one that differs in x and y; what is odd.

    Example:
        >>> task_scale({"pixel_size_nm": "0.21"})[0].nm_per_px_x, task_scale({})
        (0.21, (None, ()))
    """
    is_square = data.get(PIXEL_SIZE_KEY) is not None
    keys = (PIXEL_SIZE_KEY, PIXEL_SIZE_KEY) if is_square else PIXEL_SIZE_KEYS
    (x_nm, doubts), (y_nm, others) = (_length_nm(data, key) for key in keys)
    if x_nm is None or y_nm is None:
        return None, tuple(dict.fromkeys((*doubts, *others)))
    scale = Calibration(x_nm, y_nm, "manual", detail=_source(data, x_nm * y_nm))
    if not is_plausible(scale):
        return None, (
            f"a pixel of {x_nm:g} x {y_nm:g} nm is not plausible: nothing is told in nanometres",
        )
    return scale, ()


def _source(data: Mapping[str, Any], area_nm2: float) -> str:
    """Who says so: what an import noted, unless another size was given since."""
    told = str(data.get(PIXEL_SOURCE_KEY) or "")
    x_nm, y_nm = (_length_nm(data, key)[0] for key in PIXEL_SIZE_KEYS)
    is_another = x_nm and y_nm and not math.isclose(x_nm * y_nm, area_nm2, rel_tol=1e-6)
    return PIXEL_SIZE_KEY if is_another or not told else told


def _length_nm(data: Mapping[str, Any], key: str) -> tuple[float | None, tuple[str, ...]]:
    told = data.get(key)
    if told is None:
        return None, ()
    size_nm = _number(told)
    if math.isfinite(size_nm) and size_nm > 0:
        return size_nm, ()
    return None, (f"{key} of the task is {str(told)[:80]!r}: it is no length in nm",)


def _number(told: object) -> float:
    """What a number says, or a text that is one; NaN for all else."""
    try:
        return (
            float(told)
            if isinstance(told, int | float | str) and not isinstance(told, bool)
            else math.nan
        )
    except (ValueError, OverflowError):
        return math.nan
