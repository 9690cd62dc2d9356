"""Materials look as different, and one pair as alike, as intended."""

from __future__ import annotations

import numpy as np
import pytest

from backend.microscope.contrast import ALIKE, draw_contrast, grade_border, signal
from backend.microscope.equipment import EQUIPMENT, draw_exposure


def contrast_of(module, equipment, seed):
    """A contrast and the exposure it was drawn for."""
    rng = np.random.default_rng(seed)
    exposure = draw_exposure(EQUIPMENT[equipment], rng)
    return draw_contrast(module, EQUIPMENT[equipment].mode, exposure, rng), exposure


@pytest.mark.parametrize("module", ALIKE)
@pytest.mark.parametrize("equipment", EQUIPMENT)
@pytest.mark.parametrize("seed", range(5))
def test_one_pair_is_nearly_alike(module, equipment, seed):
    """Its signals differ by 1 to 2 times the noise and speckle of a pixel."""
    contrast, exposure = contrast_of(module, equipment, seed)
    scattering = np.array([contrast.scattering[name] for name in contrast.alike], dtype=np.float32)

    changed, kept = signal(contrast.mode, scattering, np.ones(2, dtype=np.float32))

    depth = scattering[1] if contrast.mode == "bright_field" else 1
    speckle = contrast.textures[contrast.alike[1]].speckle * depth * kept
    cnr = abs(changed - kept) / np.hypot(exposure.noise(kept), speckle)
    assert cnr == pytest.approx(contrast.cnr, rel=0.01) or changed == pytest.approx(0.95)
    assert 1 <= contrast.cnr <= 2


def test_metal_is_dark_in_bright_field_and_bright_in_haadf():
    """Absorption and atomic number order the materials oppositely."""
    one = np.ones(1, dtype=np.float32)
    dark, bright = (contrast_of("gate", name, 0)[0] for name in ("A", "B"))

    for contrast, pick in ((dark, min), (bright, max)):
        shades = {
            name: float(signal(contrast.mode, one * value, one)[0])
            for name, value in contrast.scattering.items()
        }
        assert pick(shades, key=shades.get) == "Metal"


def test_graded_border_mixes_two_materials_only():
    """The third material keeps its sharp border, and shares still sum to 1."""
    fractions = np.zeros((3, 20, 30), dtype=np.float32)
    fractions[0, :, :10], fractions[1, :, 10:20], fractions[2, :, 20:] = 1, 1, 1

    graded = grade_border(fractions, (0, 1), sigma_px=2)

    assert np.allclose(graded.sum(axis=0), 1)
    assert (graded[2] == fractions[2]).all()
    assert 0.2 < graded[0, 5, 10] < 0.5
