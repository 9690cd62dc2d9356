"""How well labels and probabilities know where an edge is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage as ndi

from backend.metrology.contours import Field, Line, Points

U_PIXEL = 1 / math.sqrt(12)  # of an edge rounded to whole pixels
CORRELATION_PX = 8.0  # along an edge, of a model's mistakes: about its stride
LEAST_S_PX = 0.3  # an overfitted model is surer of its edges than it may be
_HARMONICS = np.arange(1, 51)
_POWERS = 1 / (2 * math.pi**2 * _HARMONICS**2)
_NEAR_PX = 1.0  # beyond a stretch: as far across is looked, and no stretch is without places
_UNKNOWN_S_PX = 20.0  # of an edge that a model does not see
_ALIKE = 1.4  # neighbouring rows round alike: of rough films, seen on synthetic images
_LOCKED_PX = 1.01  # an edge that visits no more pixel columns is tied to the grid
LOCKED = "grid_locked"  # flag: such an edge is known to a pixel only
_SLOPE = 0.55  # of a rounded line's slope: simulated, against that of independent roundings


def u_rounding(crossed_px: float) -> float:
    """1 sigma of a straight edge whose mask crosses so many pixel columns.

    Example:
        >>> [round(u_rounding(m), 3) for m in (0, 0.5)]
        [0.287, 0.144]
    """
    return math.sqrt(float(_POWERS @ np.sinc(_HARMONICS * crossed_px) ** 2))


@dataclass(frozen=True)
class LabelError:
    """An edge known from whole pixels, drawn by somebody."""

    along: Line = field(repr=False)  # places of the edge
    pixel: Line = field(repr=False)  # which pixel column (or row) it is in there, in sub-pixels
    crossing: float  # columns crossed per px along, by its best line
    u_place_px: float  # of whoever drew it

    def is_locked(self, low: float, high: float) -> bool:
        """Whether the edge runs along the pixels between two places."""
        visited = self._visited(low, high)
        return visited is not None and visited < _LOCKED_PX

    def crossed(self, low: float, high: float) -> float:
        """Pixel columns crossed between two places: by the best line, or by a rough edge."""
        return max(self.crossing * (high - low), (self._visited(low, high) or 0.0) - 1)

    def _visited(self, low: float, high: float) -> float | None:
        """Pixel columns between the outermost ones it is in; None where it is unknown."""
        inside = self.pixel[(self.along >= low) & (self.along <= high)]
        return float(np.nanmax(inside) - np.nanmin(inside)) if np.isfinite(inside).any() else None

    def of_mean(self, low: float, high: float) -> float:
        """Rounding, never less than that of so many independent pixels, and the hand that drew."""
        length = max(high - low, 1.0)
        rounding = max(u_rounding(self.crossed(low, high)), _ALIKE * U_PIXEL / math.sqrt(length))
        return math.hypot(rounding, self.u_place_px)

    def of_slope(self, low: float, high: float) -> float:
        """Rounding, and a hand that errs differently at either end."""
        length = max(high - low, 1.0)
        locked = _SLOPE * u_rounding(self.crossed(low, high))
        rounding = math.sqrt(12) * max(locked, _ALIKE * U_PIXEL / math.sqrt(length)) / length
        return math.hypot(rounding, 2 * self.u_place_px / length)


@dataclass(frozen=True)
class ProbabilityError:
    """An edge known from a model's probabilities."""

    along: Line = field(repr=False)  # places of the edge
    slope: Line = field(repr=False)  # of the belief across it there, 1/px; NaN where unknown

    def s_px(self, low: float, high: float) -> float:
        """Half the distance of the 16 and 84 % levels between two places, at least 0.3 px.

        Where nothing is known there, that of the whole edge.
        """
        near = (self.along >= low - _NEAR_PX) & (self.along <= high + _NEAR_PX)
        known = ~np.isnan(self.slope)
        if not known.any():
            return _UNKNOWN_S_PX
        slope = float(np.median(self.slope[near & known if (near & known).any() else known]))
        # Phi(x / s) has the slope 1 / (s sqrt(2 pi)) at its middle
        s = 1 / (max(slope, 1e-6) * math.sqrt(2 * math.pi))
        return min(max(s, LEAST_S_PX), _UNKNOWN_S_PX)

    def of_mean(self, low: float, high: float) -> float:
        """The model's doubt there, less over a stretch longer than its mistakes are."""
        ratio = CORRELATION_PX / max(high - low, 1e-3)
        shared = 2 * ratio * (1 - ratio * (1 - math.exp(-1 / ratio)))
        return self.s_px(low, high) * math.sqrt(shared)

    def of_slope(self, low: float, high: float) -> float:
        """Two halves that err on their own."""
        middle = (low + high) / 2
        halves = math.hypot(self.of_mean(low, middle), self.of_mean(middle, high))
        return halves / (middle - low)


LEAST_ERROR = ProbabilityError(np.zeros(1), np.full(1, np.inf))
"""Of an edge that is nowhere in doubt: `LEAST_S_PX` all along."""


def label_error(
    pixels: Points, along: Line, straight: tuple[float, float], u_place_px: float
) -> LabelError:
    """How well a label knows an edge that runs through `pixels`.

    Args:
        pixels: (row, column) points of the edge, NaN where it is unknown. Shape (N, 2).
        along: Rising places along it. Shape (N,).
        straight: The stretch of it whose direction counts.
        u_place_px: Placement of whoever drew it.
    """
    known = np.isfinite(pixels[:, 0]) & (along >= straight[0]) & (along <= straight[1])
    if np.count_nonzero(known) < 3:  # noqa: PLR2004  (less is no line)
        return LabelError(along, pixels[:, 0], 0.0, u_place_px)
    places = along[known] - along[known].mean()
    steps = np.abs(places @ pixels[known]) / (places @ places)  # slopes of the best lines
    minor = pixels[:, int(np.argmin(steps))]
    return LabelError(along, minor, float(steps.min()), u_place_px)


def probability_error(
    field: Field, along: Line, inside: Points, outside: Points
) -> ProbabilityError:
    """How well a model knows an edge, from how steeply its belief changes at each place of it.

    Args:
        field: 2 P - 1, see `contours.probability_field`. Shape (H, W).
        along: Rising places along the edge. Shape (N,).
        inside: (row, column) points one pixel inside the edge. Shape (N, 2).
        outside: The same one pixel outside.
    """
    known = np.isfinite(inside).all(axis=1) & np.isfinite(outside).all(axis=1)
    within, beyond = (
        ndi.map_coordinates(field, points[known].T, order=1, mode="nearest")
        for points in (inside, outside)
    )
    slope = np.full(len(along), np.nan)
    slope[known] = (within - beyond) / 4  # over two px, and P = (1 + field) / 2
    return ProbabilityError(along, slope)
