"""The size of a pixel, and where it is known from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Source = Literal["metadata", "sidecar", "manual", "scale_bar", "lattice", "pitch"]

TOLD_BY_USERS: tuple[Source, ...] = ("manual", "scale_bar", "lattice", "pitch")
"""Those that no file names."""
REL_UNCERTAINTY = 0.05
"""Of a magnification nobody calibrated: 5 to 10 % and more (ISO 29301)."""


@dataclass(frozen=True)
class Calibration:
    """How many nanometres a pixel measures, in x (columns) and in y (rows).

    Raises:
        ValueError: A size is not a positive number, or the uncertainty is negative.
    """

    nm_per_px_x: float
    nm_per_px_y: float
    source: Source
    rel_uncertainty: float = REL_UNCERTAINTY  # 1 sigma, of the scale
    detail: str = ""  # which tag, which file, whose note
    raw: str = ""  # what was read, to the letter
    reader: str = ""  # the library that read it
    reader_version: str = ""
    created_by: str = ""

    def __post_init__(self) -> None:
        for size in (self.nm_per_px_x, self.nm_per_px_y):
            if not (math.isfinite(size) and size > 0):
                raise ValueError(f"a pixel cannot measure {size} nm: give a positive number")
        if not (math.isfinite(self.rel_uncertainty) and self.rel_uncertainty >= 0):
            raise ValueError(f"a scale cannot be uncertain by {self.rel_uncertainty}: 0.05 is 5 %")

    @property
    def nm_per_px(self) -> float:
        """Side of the isotropic pixel that CDs are measured in, sqrt(x y)."""
        return math.sqrt(self.nm_per_px_x * self.nm_per_px_y)

    @property
    def anisotropy(self) -> float:
        """How much longer one side of a pixel is than the other, 0 for a square.

        Example:
            >>> round(Calibration(0.2, 0.202, "manual").anisotropy, 6)
            0.01
        """
        longer = max(self.nm_per_px_x, self.nm_per_px_y)
        return longer / min(self.nm_per_px_x, self.nm_per_px_y) - 1
