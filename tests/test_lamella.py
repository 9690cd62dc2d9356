"""The lamella's faults are where ion beams leave them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backend.microscope.lamella import (
    Lamella,
    Texture,
    band_noise,
    haze_share,
    relative_thickness,
    texture_field,
)
from backend.microscope.view import View

VIEW = View((120, 200), 0.4, 0.4, tilt_deg=0)
FLAT = Lamella(wedge=0, wedge_deg=0, curtain=0, haze=0.3, haze_nm=20)


def dense_block():
    """Something hard to mill in rows 30 to 60 of columns 80 to 120."""
    dense = np.zeros(VIEW.shape, dtype=np.float32)
    dense[30:60, 80:120] = 1
    return dense


def test_curtains_begin_under_dense_features_and_grow():
    """Columns under the block are streaked most, and more at the bottom than at the top."""
    curtained = replace(FLAT, curtain=0.1)
    thickness = [
        relative_thickness(curtained, dense_block(), VIEW, np.random.default_rng(seed))
        for seed in range(8)
    ]

    spread = np.std(thickness, axis=0)

    assert spread[110, 85:115].mean() > 2 * spread[110, :60].mean()
    assert spread[110, 85:115].mean() > 2 * spread[20, 85:115].mean()


def test_wedge_makes_one_side_thicker():
    """The thickness changes by the wedge over the diagonal."""
    wedge = replace(FLAT, wedge=0.4)

    thickness = relative_thickness(wedge, 0 * dense_block(), VIEW, np.random.default_rng(0))

    assert thickness[:, -1].mean() - thickness[:, 0].mean() == pytest.approx(0.34, abs=0.02)


def test_haze_fades_downward():
    """Damage is strongest at the top of the lamella."""
    share = haze_share(FLAT, VIEW)

    assert share[0, 0] == pytest.approx(0.3)
    assert (np.diff(share[:, 0]) < 0).all()


@pytest.mark.parametrize("scale_px", [1.0, 8.0, 30.0])
def test_noise_has_unit_spread(scale_px):
    """Sigma of a texture means the same at every scale."""
    noise = band_noise((128, 128), scale_px, np.random.default_rng(0))

    assert noise.std() == pytest.approx(1, rel=1e-3)


def test_no_texture_is_flat():
    """A material without texture scatters evenly."""
    field = texture_field(Texture(), dense_block(), VIEW, np.random.default_rng(0))

    assert (field == 1).all()


@pytest.mark.parametrize(
    "texture", [Texture(speckle=0.1), Texture(grains=0.1), Texture(bends=0.3), Texture(rim=0.3)]
)
def test_each_texture_shows(texture):
    """Speckle, grains, bend contours and rims all change the field."""
    field = texture_field(texture, dense_block(), VIEW, np.random.default_rng(0))

    assert field.std() > 0.01
    assert field.min() > 0


def test_lattice_shows_only_in_fine_pixels():
    """Fringes of 0.31 nm would alias in coarse pixels, so they are left out there."""
    fine = replace(VIEW, nm_per_px_x=0.1, nm_per_px_y=0.1)
    spreads = [
        texture_field(Texture(lattice=0.2), dense_block(), view, np.random.default_rng(0)).std()
        for view in (VIEW, fine)
    ]

    assert spreads[0] == 0
    assert spreads[1] > 0.05
