"""Robust least squares of a smooth model: damped Gauss-Newton with re-weighted residuals.

A grain, a dead pixel or the corner of a neighbour must not pull an edge: residuals beyond about
three sigma lose weight (soft L1). Every start is followed a few steps, the best one to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Model = Callable[[Floats], tuple[Floats, Floats]]
"""Parameters (P,) -> values (N,) and their derivatives (P, N)."""

_ROUNDS = 3  # of re-weighting
_SOFT = 3.0  # residual, in sigma, from which on weight is lost
_TINY = 1e-12


@dataclass(frozen=True)
class Solution:
    """Where a fit came to rest."""

    parameters: Floats  # (P,)
    residuals: Floats  # (N,), value minus model
    weights: Floats  # (N,), 1 for an ordinary pixel, less for an outlier
    jacobian: Floats  # (P, N)

    @property
    def cost(self) -> float:
        """Mean weighted square of the residuals."""
        return float((self.weights * self.residuals**2).mean())

    def inverse_normal(self) -> Floats:
        """Covariance of the parameters for noise of 1 sigma = 1. (P, P)."""
        normal = (self.jacobian * self.weights) @ self.jacobian.T
        return np.asarray(np.linalg.pinv(normal, hermitian=True), dtype=np.float64)


def fit_from_starts(
    model: Model, starts: Sequence[Floats], values: Floats
) -> tuple[Solution, list[Solution]]:
    """Adapt the parameters of `model` to `values`.

    Returns:
        The robust fit from the best start, and where every start led to without re-weighting.
    """
    ones = np.ones_like(values)
    rough = [_descend(model, start, values, ones, tolerance=1e-6) for start in starts]
    solution = min(rough, key=lambda one: one.cost)
    for _ in range(_ROUNDS):
        before = solution.parameters
        sigma = 1.4826 * float(np.median(np.abs(solution.residuals)))
        weights = 1 / np.sqrt(1 + (solution.residuals / max(_SOFT * sigma, _TINY)) ** 2)
        solution = _descend(model, before, values, weights, tolerance=1e-7)
        if np.allclose(before, solution.parameters, rtol=1e-4, atol=1e-4):
            break
    return solution, rough


def _descend(
    model: Model, parameters: Floats, values: Floats, weights: Floats, tolerance: float
) -> Solution:
    """Take damped steps until they promise less than `tolerance` of the cost."""
    predicted, jacobian = model(parameters)
    residuals, damping = values - predicted, 1e-3
    cost = float(weights @ residuals**2)
    for _ in range(15):
        weighted = jacobian * weights
        normal = weighted @ jacobian.T
        damped = normal + np.diag(damping * normal.diagonal() + _TINY)
        step = np.linalg.solve(damped, weighted @ residuals)
        predicted, trial_jacobian = model(parameters + step)
        trial = float(weights @ (values - predicted) ** 2)
        gain = float(step @ normal @ step)
        if trial <= cost:
            parameters, jacobian, residuals = parameters + step, trial_jacobian, values - predicted
            cost, damping = trial, max(damping / 10, 1e-9)
        else:
            damping *= 10
        # noise-free data leave no cost to compare with
        if gain <= tolerance * cost or np.abs(step).max() <= _TINY * np.abs(parameters).max():
            break
    return Solution(parameters, residuals, weights, jacobian)
