"""Roughness of a wall or of a width: three sigma about its best line, with and without noise.

In a TEM cut it is a projection through the lamella. The noise of finding edges has a flat
spectrum, so what is left at the highest frequencies is taken for noise.
"""

from __future__ import annotations

import math

import numpy as np

from backend.metrology.bodies import WALLS, Body, UnmeasurableError
from backend.metrology.contours import Line
from backend.metrology.frame import correlation_length
from backend.metrology.readings import Reading, Scene, Variant, worst
from backend.metrology.recipe import Roughness

QUANTITIES = ("3s", "3s_unbiased", "floor")
LONG_PX = 512  # a shorter line has too few wavelengths of what it is to show
_NOISE_SHARE = 0.3  # of the frequencies, the highest ones
_LEAST_LINES = 16


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
    samples = means[0].samples if variant.side else means[1].samples - means[0].samples
    residuals = _residuals(samples)
    sigma = float(residuals.std(ddof=2))
    noise = noise_sigma(residuals)
    unbiased = math.sqrt(max(sigma**2 - noise**2, 0.0))
    method, quality, flags = worst(means)
    if high - low < LONG_PX:
        flags = (*flags, "short_line")
    independent = max(len(residuals) / correlation_length(residuals), 2.0)
    relative = 1 / math.sqrt(2 * independent)
    u = math.hypot(3 * sigma * relative, 3 * noise / math.sqrt(len(residuals)))
    values = {"3s": 3 * sigma, "3s_unbiased": 3 * unbiased, "floor": 3 * noise}
    ends = [(sum(mean.across for mean in means) / len(means), v) for v in (low, high)]
    line = (body.frame.point(*ends[0]), body.frame.point(*ends[1]))
    return {
        name: Reading(value, u, "px", method, quality, flags, n_lines=len(residuals), line=line)
        for name, value in values.items()
    }


def _residuals(samples: Line) -> Line:
    known = np.isfinite(samples)
    if np.count_nonzero(known) < _LEAST_LINES:
        raise UnmeasurableError("too_few_lines")
    places = np.arange(len(samples))[known]
    return samples[known] - np.polyval(np.polyfit(places, samples[known], 1), places)


def noise_sigma(residuals: Line) -> float:
    """Standard deviation of white noise with the level that the highest frequencies have."""
    spectrum = np.abs(np.fft.rfft(residuals)[1:]) ** 2 / len(residuals)
    highest = spectrum[-max(1, round(_NOISE_SHARE * len(spectrum))) :]
    return math.sqrt(float(highest.mean()))
