"""What is measured: an image's labels on its own grid, and what else is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from backend.arrays import LabelMap, Probabilities
from backend.microscope.calibration import Calibration

UNVERIFIED = "unverified"
"""Flag of all that stands on a model's labels: it may be sure and wrong, whatever u_value says."""


@dataclass(frozen=True)
class Subject:
    """One image, seen as labels, as probabilities and as gray values, all on the same grid.

    Raises:
        ValueError: The grids differ: edges would be measured elsewhere than they are.
    """

    label_map: LabelMap  # (H, W), class index, 255 where it is unknown
    labels: tuple[str, ...]  # names of the classes, as a recipe's `materials` name them
    calibration: Calibration | None = None
    gray: NDArray[Any] | None = None  # (H, W), the original intensities, linear and unclipped
    no_gray: str = ""  # why there are none: unknown_gamma, no_original
    probabilities: Probabilities | None = None  # (C, H, W), of a model; None: the labels are drawn
    is_inferred: bool = False  # a model made the labels, no annotator
    databar_rows: int = 0  # below the picture: what runs on under them is cut by a border
    is_draw: bool = False  # of many that could be true: values count, not how well they are known

    def __post_init__(self) -> None:
        shape = self.label_map.shape
        for what, array in (("gray values", self.gray), ("probabilities", self.probabilities)):
            if array is not None and array.shape[-2:] != shape:
                raise ValueError(
                    f"the {what} have {array.shape[-2]} x {array.shape[-1]} pixels and the labels "
                    f"{shape[0]} x {shape[1]}: they are not of the same image, or one was resized"
                )
