"""Optics and detectors change pictures as their settings say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.microscope.databar import draw_databar, scale_bar_nm
from backend.microscope.equipment import (
    EQUIPMENT,
    Exposure,
    detect,
    draw_exposure,
    draw_nm_per_px,
    focus,
)

PLAIN = Exposure(
    dose=400, readout=3, blur_px=1, fringe=0, jitter_px=0, gamma=1, bits=8, inverted=False
)
STEP = np.repeat(np.array([[0.2, 0.8]], dtype=np.float32), 40, axis=1).repeat(60, axis=0)


def rng():
    """The same chance for each picture compared."""
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", EQUIPMENT)
def test_exposures_stay_within_the_preset(name):
    """A microscope does not leave its ranges."""
    preset = EQUIPMENT[name]

    exposure = draw_exposure(preset, rng())

    assert preset.dose[0] <= exposure.dose <= preset.dose[1]
    assert preset.gamma[0] <= exposure.gamma <= preset.gamma[1]


def test_magnification_suits_the_picture():
    """Small pictures are taken at low, large ones at high magnification."""
    preset = EQUIPMENT["A"]

    assert draw_nm_per_px(preset, 128, rng()) == max(preset.nm_per_px)
    assert draw_nm_per_px(preset, 4000, rng()) == min(preset.nm_per_px)


def test_noise_is_what_the_dose_predicts():
    """`Exposure.noise` agrees with the detector: shot noise and readout."""
    flat = np.full((200, 200), 0.5, dtype=np.float32)
    signals = replace(PLAIN, bits=16)

    image, (low, high) = detect(flat, signals, rng())

    spread = image.std() / (42000 - 1500) * (high - low)
    assert spread == pytest.approx(PLAIN.noise(0.5), rel=0.03)


def test_inversion_turns_bright_into_dark():
    """A negative is the mirror image of the grey scale."""
    positive, _ = detect(STEP, PLAIN, rng())
    negative, _ = detect(STEP, replace(PLAIN, inverted=True), rng())

    assert (positive.astype(int) + negative == 255).mean() > 0.99


def test_gamma_below_one_lifts_the_dark_side():
    """The stored gamma is applied to the stored grey values."""
    linear, _ = detect(STEP, PLAIN, rng())
    lifted, _ = detect(STEP, replace(PLAIN, gamma=0.5), rng())

    assert lifted[:, :30].mean() > linear[:, :30].mean() + 20


def test_fringe_overshoots_at_an_edge():
    """Defocus makes the bright side brighter beside the edge."""
    sharp = focus(STEP, PLAIN, rng())
    fringed = focus(STEP, replace(PLAIN, fringe=1), rng())

    assert fringed.max() > sharp.max() + 0.02


def test_jitter_moves_rows_apart():
    """Without jitter all rows of a vertical edge are equal, with it they are not."""
    steady = focus(STEP, PLAIN, rng())
    shaken = focus(STEP, replace(PLAIN, jitter_px=0.5), rng())

    assert steady.std(axis=0).max() < 1e-6
    assert shaken.std(axis=0).max() > 0.01


def test_databar_adds_rows_and_keeps_the_image():
    """The picture above the bar is untouched, in 16 bits as in 8."""
    image = np.full((60, 200), 9000, dtype=np.uint16)

    barred = draw_databar(image, 12, nm_per_px=0.5)

    assert barred.shape == (72, 200)
    assert (barred[:60] == image).all()
    assert barred[60:].max() == 65535


@pytest.mark.parametrize(("longest", "length"), [(9.9, 5), (10, 10), (37, 20), (260, 200)])
def test_scale_bar_has_a_round_length(longest, length):
    """1, 2 or 5 times a power of ten, never longer than it may be."""
    assert scale_bar_nm(longest) == length
