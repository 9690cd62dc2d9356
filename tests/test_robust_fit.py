"""Robust fits: the same as a slow standard one, from wherever they start."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from backend.metrology.robust_fit import robust_fit, rough_fits
from backend.metrology.strips import Pixels


def decay(pixels):
    """Make a model of two parameters, height and ln rate, over `along_px`."""

    def model(parameters):
        height, log_rate = parameters
        fallen = np.exp(-np.exp(log_rate) * pixels.along_px)
        slope = -height * fallen * pixels.along_px * np.exp(log_rate)
        return height * fallen, np.stack([fallen, slope])

    return model


def dirty(outliers=10):
    """Pixels, two at each place, of a decay of height 100 and rate 0.2 with noise of 2.

    Some are far too bright.
    """
    rng = np.random.default_rng(3)
    along = np.repeat(np.linspace(0, 20, 200), 2)
    values = 100 * np.exp(-0.2 * along) + rng.normal(0, 2, 400)
    values[rng.choice(400, outliers, replace=False)] += 60
    return Pixels(values, along, np.zeros(400), np.ones(400))


def test_robust_fit_is_that_of_scipy():
    """With the same loss, soft L1 from three sigma on, within a hundredth of the stated error."""
    pixels = dirty()
    model = decay(pixels)
    solution = robust_fit(model, pixels, np.array([90.0, -1.8]))
    sigma = 1.4826 * np.median(np.abs(solution.residuals))
    slow = least_squares(
        lambda parameters: pixels.values - model(parameters)[0],
        [90.0, -1.8],
        loss="soft_l1",
        f_scale=3 * sigma,
        xtol=1e-12,
        ftol=1e-12,
    )
    stated = sigma * np.sqrt(np.diag(solution.inverse_normal()))
    assert np.abs((solution.parameters - slow.x) / stated).max() < 0.01


def test_outliers_pull_less_than_their_share():
    """Ten pixels of 400, thirty sigma off: a plain fit errs by several of its own errors."""
    pixels, true = dirty(), np.array([100, np.log(0.2)])
    model = decay(pixels)
    (plain,) = rough_fits(model, pixels, [np.array([90.0, -1.8])])
    robust = robust_fit(model, pixels, plain.parameters)
    stated = 2 * np.sqrt(np.diag(robust.inverse_normal()))
    assert np.abs((plain.parameters - true) / stated).max() > 5
    assert np.abs((robust.parameters - true) / stated).max() < 3


def test_every_start_is_followed():
    """Two of them meet; one that is sent away from the data ends at a higher cost."""
    pixels = dirty(outliers=0)
    starts = [np.array([90.0, -1.8]), np.array([120.0, -1.0]), np.array([1.0, 4.0])]
    near, other, lost = rough_fits(decay(pixels), pixels, starts)
    assert other.parameters == pytest.approx(near.parameters, abs=1e-3)
    assert near.cost == pytest.approx(4, rel=0.2)
    assert lost.cost > 10 * near.cost


def test_means_over_cells_cost_what_their_pixels_do():
    """Counts weigh, and the scatter within cells is part of the cost."""
    pixels = dirty(outliers=0)
    pairs = pixels.values.reshape(200, 2)
    along, means = pixels.along_px[::2], pairs.mean(axis=1)
    scatter = float(((pairs - means[:, None]) ** 2).sum())
    cells = Pixels(means, along, np.zeros(200), np.full(200, 2.0), scatter)
    (one,) = rough_fits(decay(pixels), pixels, [np.array([90.0, -1.8])])
    (pooled,) = rough_fits(decay(cells), cells, [np.array([90.0, -1.8])])
    assert pooled.parameters == pytest.approx(one.parameters, rel=1e-3)
    assert pooled.cost == pytest.approx(one.cost, rel=1e-3)
