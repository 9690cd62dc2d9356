"""Robust least squares of a smooth model: damped Gauss-Newton with re-weighted residuals.

A grain, a dead pixel or the corner of a neighbour must not pull an edge: residuals beyond about
three sigma lose weight (soft L1). Every start is followed a few steps on means over cells of
pixels, the best one to its end on all pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from backend.metrology.strips import Pixels

Floats = NDArray[np.float64]
Model = Callable[[Floats], tuple[Floats, Floats]]
"""Parameters (P,) -> values (N,) and their derivatives (P, N)."""

_STEPS = 15
_ROUNDS = 3  # of re-weighting
_SOFT = 3.0  # residual, in sigma, from which on weight is lost
_ROUGH, _FINE = 1e-5, 1e-6  # of the cost, what a last step may promise: u/10, u/30 of 1000 pixels
_STILL = 1e-4  # px, and of a parameter: a change that ends the rounds
_TINY = 1e-12


@dataclass(frozen=True)
class Solution:
    """Where a fit came to rest."""

    parameters: Floats  # (P,)
    residuals: Floats  # (N,), value minus model
    weights: Floats  # (N,), 1 for an ordinary pixel, less for an outlier
    jacobian: Floats  # (P, N)

    @property
    def squares(self) -> float:
        """Weighted sum of the squared residuals."""
        return float(self.weights @ self.residuals**2)

    def inverse_normal(self) -> Floats:
        """Covariance of the parameters for noise of 1 sigma = 1. (P, P)."""
        normal = (self.jacobian * self.weights) @ self.jacobian.T
        _, inverse, failed = dposv(normal, np.eye(len(normal)))
        if not failed:
            return np.asarray(inverse, dtype=np.float64)
        return np.asarray(np.linalg.pinv(normal, hermitian=True), dtype=np.float64)


@dataclass(frozen=True)
class Rough:
    """Where a start has led to."""

    parameters: Floats  # (P,)
    cost: float  # mean square of the residuals of single pixels


def rough_fits(model: Model, cells: Pixels, starts: Sequence[Floats]) -> list[Rough]:
    """Where every start leads to without re-weighting."""
    ends = [_descend(model, _at(model, start, cells), cells.values, _ROUGH) for start in starts]
    pixels = float(cells.counts.sum())
    return [Rough(end.parameters, (end.squares + cells.scatter) / pixels) for end in ends]


def robust_fit(model: Model, pixels: Pixels, parameters: Floats) -> Solution:
    """The robust fit to all pixels, from parameters close to it."""
    solution = _at(model, parameters, pixels)
    for _ in range(_ROUNDS):
        before = solution.parameters
        sigma = 1.4826 * float(np.median(np.abs(solution.residuals)))
        weights = 1 / np.sqrt(1 + (solution.residuals / max(_SOFT * sigma, _TINY)) ** 2)
        solution = replace(solution, weights=weights)
        solution = _descend(model, solution, pixels.values, _FINE)
        if (np.abs(solution.parameters - before) <= _STILL * (1 + np.abs(before))).all():
            break
    return solution


def _at(model: Model, parameters: Floats, pixels: Pixels) -> Solution:
    predicted, jacobian = model(parameters)
    return Solution(parameters, pixels.values - predicted, pixels.counts, jacobian)


def _descend(model: Model, solution: Solution, values: Floats, tolerance: float) -> Solution:
    """Take damped steps until they promise less than `tolerance` of the cost."""
    cost, damping = solution.squares, 1e-3
    least = _TINY * float(values @ values)  # noise-free data leave no cost to compare with
    for _ in range(_STEPS):
        weighted = solution.jacobian * solution.weights
        normal = weighted @ solution.jacobian.T
        damped = normal.copy()
        damped.flat[:: len(damped) + 1] += damping * normal.diagonal() + _TINY
        _, step, failed = dposv(damped, weighted @ solution.residuals)
        if failed:
            damping *= 10
            continue
        parameters = solution.parameters + step
        predicted, jacobian = model(parameters)
        trial = Solution(parameters, values - predicted, solution.weights, jacobian)
        gain, trial_cost = float(step @ normal @ step), trial.squares
        if trial_cost <= cost:
            solution, cost, damping = trial, trial_cost, max(damping / 10, 1e-9)
        else:
            damping *= 10
        if gain <= tolerance * cost + least:
            break
    return solution
