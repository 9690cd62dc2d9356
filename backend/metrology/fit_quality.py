"""How far a fit to the pixels of a strip can be trusted: noise, misfit, honest covariance.

The covariance of a least-squares fit holds for white noise and a right model. Three things make it
larger here: scan lines that scatter more than their pixels' noise allows, scan lines that are alike
(grain, speckle, scan distortion), and a mean profile that is not the model's (fringes, curtains
along the edge, a graded interface).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.metrology.robust_fit import Solution
from backend.metrology.strips import Strip

Floats = NDArray[np.float64]
_LEAST_NOISE = 0.005  # of the gray values' range: in a cleaner image, pixels that are no points
# would count as misfit
_MIN_PIXELS = 20  # to tell a noise level from


@dataclass(frozen=True)
class FitQuality:
    """Noise and misfit of a fit, and the covariance of its parameters."""

    noise: float  # 1 sigma of a pixel on the plateaus, grain included
    chi2_red: float  # of all pixels, against that noise
    covariance: Floats  # (P, P), inflated


def assess(strip: Strip, solution: Solution, plateau: NDArray[np.bool_], key: int) -> FitQuality:
    """Judge a fit to the valid pixels of a strip.

    Args:
        strip: What was fitted.
        solution: The fit.
        plateau: Which of the valid pixels no edge reaches. Shape (N,).
        key: The parameter whose scatter from line to line tells how much noise is alike.
    """
    parameters = len(solution.parameters)
    residuals = _on_grid(strip, solution.residuals)
    on_plateau = np.zeros(strip.valid.shape, dtype=bool)
    on_plateau[strip.valid] = plateau if plateau.sum() >= _MIN_PIXELS else True
    least = _LEAST_NOISE * float(np.ptp(strip.values[strip.valid]))
    noise = max(_scatter_along(residuals, on_plateau), least)
    inverse = solution.inverse_normal()
    if noise == 0:
        return FitQuality(0.0, 0.0, np.zeros_like(inverse))
    chi2_red = solution.squares / max(float(solution.weights.sum()) - parameters, 1.0) / noise**2
    alike = _line_inflation(strip, solution, inverse[key], noise**2 * inverse[key, key])
    profile = _profile_misfit(residuals, strip.valid, noise, parameters)
    return FitQuality(noise, chi2_red, inverse * noise**2 * max(1.0, alike, profile))


def _on_grid(strip: Strip, flat: Floats) -> Floats:
    grid = np.zeros(strip.valid.shape)
    grid[strip.valid] = flat
    return grid


def _scatter_along(residuals: Floats, chosen: NDArray[np.bool_]) -> float:
    """Standard deviation from the mean profile: what repeats along an edge is no noise."""
    counts = chosen.sum(axis=0)
    means = np.where(chosen, residuals, 0).sum(axis=0) / np.maximum(counts, 1)
    squares = (np.where(chosen, residuals - means, 0) ** 2).sum()
    return float(np.sqrt(squares / max(counts.sum() - np.count_nonzero(counts), 1)))


def _line_inflation(strip: Strip, solution: Solution, row: Floats, variance: float) -> float:
    """How much more scan lines pull a parameter than white noise does, runs of them included."""
    pull = row @ solution.jacobian * solution.weights * solution.residuals
    lines = _on_grid(strip, pull).sum(axis=1)[strip.valid.any(axis=1)]
    squares = float(lines @ lines)
    if squares == 0:
        return 1.0
    run = 1.0
    for lag in range(1, len(lines) // 4 + 1):
        correlation = float(lines[lag:] @ lines[:-lag]) / squares
        if correlation < 1 / np.sqrt(len(lines)):  # less is what white noise shows by chance
            break
        run += 2 * correlation
    return squares / variance * run


def _profile_misfit(
    residuals: Floats, valid: NDArray[np.bool_], noise: float, parameters: int
) -> float:
    """Reduced chi-square of the profile averaged along the edge."""
    counts = valid.sum(axis=0)
    full = counts >= counts.max() / 2
    means = residuals[:, full].sum(axis=0) / counts[full]
    free = max(np.count_nonzero(full) - (parameters + 1) // 2, 1)
    return float((counts[full] * means**2).sum()) / noise**2 / free
