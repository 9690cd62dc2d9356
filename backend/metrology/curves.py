"""One edge of a structure as a curve: its mean position and its best line, each with its error.

A wall is u over v, a face is v over u; both are "across over along". How well a curve is known
depends on how it was found, and is said by its `error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from backend.metrology.contours import Line
from backend.metrology.results import EdgeQuality, Tier

LINES = 41  # through a band
MIN_LINES = 5
NO_QUALITY = EdgeQuality()  # of what was not fitted
MIN_SHARE = 0.6  # of the lines asked for


class CurveError(Protocol):
    """How well a kind of curve is known, 1 sigma."""

    def of_mean(self, low: float, high: float) -> float:
        """Of the mean of `across` between two places, px."""
        ...

    def of_slope(self, low: float, high: float) -> float:
        """Of the slope of the line fitted between two places."""
        ...


@dataclass(frozen=True)
class EdgeMean:
    """The mean of a curve over a stretch of it."""

    across: float
    u: float
    samples: Line  # about one for each px of the stretch
    method: Tier
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class EdgeLine:
    """The line through a stretch of a curve: across = offset + slope x along."""

    slope: float
    offset: float
    u_slope: float
    method: Tier
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()

    def across(self, along: float) -> float:
        """Where the line is."""
        return self.offset + self.slope * along


@dataclass(frozen=True)
class Curve:
    """An edge: `across` over rising `along`, NaN where it was not found."""

    along: Line  # (N,)
    across: Line  # (N,)
    method: Tier
    error: CurveError
    quality: EdgeQuality = NO_QUALITY
    flags: tuple[str, ...] = ()

    def at(self, along: Line) -> Line:
        """Positions at places between the samples; NaN beyond them."""
        return np.interp(along, self.along, self.across, left=np.nan, right=np.nan)

    def position(self, low: float, high: float) -> float | None:
        """Mean over [low, high], whose ends lie anywhere between samples; None where unknown."""
        step = (high - low) / LINES
        lines = self.at(low + step * (np.arange(LINES) + 0.5))
        known = lines[np.isfinite(lines)]
        return float(known.mean()) if len(known) >= max(MIN_LINES, MIN_SHARE * LINES) else None

    def mean(self, low: float, high: float) -> EdgeMean | None:
        """The position with its error and the single lines it is the mean of."""
        value = self.position(low, high)
        if value is None:
            return None
        count = max(1, round(high - low))
        samples = self.at(low + (high - low) * (np.arange(count) + 0.5) / count)
        u = self.error.of_mean(low, high)
        return EdgeMean(value, u, samples, self.method, self.quality, self.flags)

    def why_not(self, _low: float, _high: float) -> tuple[str, ...]:
        """Flags of the gates that the curve does not pass over a stretch; a seed passes all."""
        return ()

    def line(self, low: float, high: float) -> EdgeLine | None:
        """The least-squares line over [low, high]; None where the curve is unknown."""
        along = np.linspace(low, high, max(LINES, 2 * math.ceil(high - low)))
        across = self.at(along)
        if not _enough(across):
            return None
        known = np.isfinite(across)
        slope, offset = np.polyfit(along[known], across[known], 1)
        u = self.error.of_slope(low, high)
        return EdgeLine(float(slope), float(offset), u, self.method, self.quality, self.flags)


def _enough(lines: Line) -> bool:
    known = np.count_nonzero(np.isfinite(lines))
    return bool(known >= max(MIN_LINES, MIN_SHARE * len(lines)))
