"""Roughness of a wall or of a width: three sigma about its best line, with and without noise.

In a TEM cut it is a projection through the lamella. The noise of finding edges has a flat
spectrum, so what is left at the highest frequencies is taken for noise. It is flat only if every
row of pixels gives one line: between two rows there is nothing but their mean.
"""

from __future__ import annotations

import math

import numpy as np

from backend.metrology.bodies import WALLS, Body, UnmeasurableError
from backend.metrology.contours import Line, Points, extremes, segments_of
from backend.metrology.frame import correlation_length
from backend.metrology.readings import Reading, Scene, Variant, hypot, worst
from backend.metrology.recipe import Roughness, Side
from backend.metrology.seed_errors import U_PIXEL, LabelError

QUANTITIES = ("3s", "3s_unbiased", "floor")
LONG_PX = 512  # a shorter line has too few wavelengths of what it is to show
_NOISE_SHARE = 0.3  # of the frequencies, the highest ones
_LEAST_LINES = 16
_SAME_LEVEL_PX = 0.75  # of two lines of a width: rows are about a pixel apart


def measure_roughness(
    _: Scene, body: Body, rule: Roughness, variant: Variant
) -> dict[str, Reading]:
    """Three sigma, the same without the noise floor, and that floor."""
    low, high = (body.level(fraction) for fraction in rule.between_fractions)
    sides = [variant.side] if variant.side else list(WALLS)
    # a fit smooths over a stretch of the edge: only the seed shows its single lines
    means = [mean for side in sides if (mean := body.seed[side].mean(low, high)) is not None]
    if len(means) < len(sides):
        raise UnmeasurableError("no_edge")
    walls = [_scan_lines(body, side, low, high) for side in sides]
    residuals = _residuals(walls[0] if variant.side else _widths(*walls))
    sigma = float(residuals.std(ddof=2))
    noise = noise_sigma(residuals)
    unbiased = math.sqrt(max(sigma**2 - noise**2, 0.0))
    method, quality, flags = worst(means)
    if high - low < LONG_PX:
        flags = (*flags, "short_line")
    independent = max(len(residuals) / correlation_length(residuals), 2.0)
    relative = 1 / math.sqrt(2 * independent)
    errors = (body.seed[side].error for side in sides)
    drawn = hypot(*(_u_line(one) for one in errors if isinstance(one, LabelError)))
    u = hypot(3 * sigma * relative, 3 * noise / math.sqrt(len(residuals)), 3 * drawn)
    values = {"3s": 3 * sigma, "3s_unbiased": 3 * unbiased, "floor": 3 * noise}
    ends = [(sum(mean.across for mean in means) / len(means), v) for v in (low, high)]
    line = (body.frame.point(*ends[0]), body.frame.point(*ends[1]))
    return {
        name: Reading(value, u, "px", method, quality, flags, n_lines=len(residuals), line=line)
        for name, value in values.items()
    }


def _u_line(error: LabelError) -> float:
    """What a label may add to the sigma of a wall, px, and no spectrum tells from the wall itself.

    That is the hand that drew it, and rounding: along a straight wall a slow sawtooth, no noise.
    """
    return hypot(error.u_place_px, U_PIXEL)


def _scan_lines(body: Body, side: Side, low: float, high: float) -> Points:
    """Where a wall crosses each row of pixels between two levels: (u, v), from below. (N, 2)."""
    outlines = [body.frame.to_px(outline)[:, ::-1] for outline in body.outline]
    rows = np.concatenate(outlines)[:, 1]
    lines = np.arange(math.ceil(rows.min()), math.floor(rows.max()) + 1.0)
    crossed = extremes(segments_of(outlines), lines)[WALLS.index(side)]
    points = body.frame.to_uv(np.stack([lines, crossed], axis=-1))[::-1]
    inside = points[(points[:, 1] >= low) & (points[:, 1] <= high)]
    if len(inside) < _LEAST_LINES:
        raise UnmeasurableError("too_few_lines")
    return inside


def _widths(left: Points, right: Points) -> Points:
    """Width and level of each line of the left wall whose level a line of the right one has.

    In a turned frame that is the line of another row; none is interpolated.
    """
    nearest = np.rint(np.interp(left[:, 1], right[:, 1], np.arange(len(right)))).astype(int)
    paired = right[nearest]
    near = np.abs(paired[:, 1] - left[:, 1]) <= _SAME_LEVEL_PX
    return np.stack([paired[:, 0] - left[:, 0], left[:, 1]], axis=-1)[near]


def _residuals(lines: Points) -> Line:
    """What is left of (u, v) lines beside the best straight one."""
    across, along = lines.T
    if len(across) < _LEAST_LINES:
        raise UnmeasurableError("too_few_lines")
    along = along - along.mean()
    return across - np.polyval(np.polyfit(along, across, 1), along)


def noise_sigma(residuals: Line) -> float:
    """Standard deviation of white noise with the level that the highest frequencies have."""
    spectrum = np.abs(np.fft.rfft(residuals)[1:]) ** 2 / len(residuals)
    highest = spectrum[-max(1, round(_NOISE_SHARE * len(spectrum))) :]
    return math.sqrt(float(highest.mean()))
