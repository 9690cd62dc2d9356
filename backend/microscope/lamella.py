"""What the lamella adds to a device: its thickness, its damage and the grain of its materials.

All fields are seeded and smooth in nanometres, so a device looks alike at every magnification.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from backend.microscope.view import View

Field = NDArray[np.float32]  # (H, W)
HALF = 0.5  # share of a pixel from which on it counts as the material
LATTICE_NM = 0.3135  # {111} planes of silicon


@dataclass(frozen=True)
class Texture:
    """How unevenly a material scatters; every sigma is relative to its mean."""

    speckle: float = 0.0  # band-limited, as amorphous films show
    speckle_nm: float = 1.0
    patches: float = 0.0  # slow changes of density
    patches_nm: float = 20.0
    grains: float = 0.0  # orientation contrast from grain to grain
    grain_nm: float = 10.0
    bends: float = 0.0  # bend contours of a single crystal
    lattice: float = 0.0  # fringes, where the pixels are fine enough for them
    rim: float = 0.0  # change within `rim_nm` of the material's border: barrier or damage
    rim_nm: float = 2.0


@dataclass(frozen=True)
class Lamella:
    """How one lamella was cut."""

    wedge: float  # relative change of thickness from one side of the picture to the other
    wedge_deg: float  # direction it grows in
    curtain: float  # 1 sigma of the thickness of the streaks under dense features
    haze: float  # share of the contrast lost to damage at the top
    haze_nm: float  # depth over which that loss fades


def draw_lamella(rng: np.random.Generator) -> Lamella:
    """Choose how well a lamella came out of the ion beam."""
    return Lamella(
        wedge=rng.uniform(0.1, 0.5),
        wedge_deg=rng.uniform(0, 360),
        curtain=rng.uniform(0.03, 0.12),
        haze=rng.uniform(0.05, 0.35),
        haze_nm=rng.uniform(20, 80),
    )


def relative_thickness(
    lamella: Lamella, dense: Field, view: View, rng: np.random.Generator
) -> Field:
    """Thickness of the lamella at each pixel, about 1.

    Args:
        lamella: Wedge and curtaining.
        dense: Share of each pixel taken by what the ion beam mills slowly. Shape (H, W).
        view: Pixel size and tilt.
        rng: Source of chance.

    Returns:
        Thickness relative to the nominal one. Shape (H, W).
    """
    u, v = view.coordinates_nm()
    angle = np.radians(lamella.wedge_deg)
    slope = (u * np.cos(angle) + v * np.sin(angle)) / (2 * view.radius_nm)
    return (1 + lamella.wedge * slope + _curtains(lamella, dense, view, rng)).astype(np.float32)


def texture_field(texture: Texture, inside: Field, view: View, rng: np.random.Generator) -> Field:
    """Draw how strongly a material scatters at each pixel, relative to its mean of 1. (H, W).

    `inside` (H, W) is the share of each pixel the material takes; the rim follows its border.
    """
    pixel_nm = float(np.sqrt(view.nm_per_px_x * view.nm_per_px_y))
    field = np.ones(view.shape, dtype=np.float32)
    for sigma, scale_nm in (
        (texture.speckle, texture.speckle_nm),
        (texture.patches, texture.patches_nm),
    ):
        if sigma:
            field += sigma * band_noise(view.shape, scale_nm / pixel_nm, rng)
    if texture.grains:
        field *= 1 + texture.grains * _grains(texture.grain_nm, view, rng)
    if texture.bends:
        field *= 1 + texture.bends * _bend_contours(view, rng)
    if texture.lattice and pixel_nm < LATTICE_NM / 2.2:
        field *= 1 + texture.lattice * _lattice_fringes(view, rng)
    if texture.rim:
        depth_nm = ndi.distance_transform_edt(inside >= HALF) * pixel_nm
        field *= 1 + texture.rim * np.exp(-((depth_nm / texture.rim_nm) ** 2)).astype(np.float32)
    return np.maximum(field, 0.05)


def haze_share(lamella: Lamella, view: View) -> Field:
    """Share of the contrast that damage takes, fading from the top of the lamella down. (H, W)."""
    depth_nm = np.arange(view.shape[0], dtype=np.float32) * view.nm_per_px_y
    share = lamella.haze * (0.25 + 0.75 * np.exp(-depth_nm / lamella.haze_nm))
    return np.repeat(share[:, None], view.shape[1], axis=1).astype(np.float32)


def band_noise(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Field:
    """Noise with structure of about `scale_px` and neither finer nor coarser. (H, W), std 1."""
    down = np.fft.fftfreq(shape[0])[:, None]
    across = np.fft.rfftfreq(shape[1])
    power = (2 * np.pi * max(scale_px, 0.3) / 2) ** 2 * (down**2 + across**2)
    # the difference of two Gaussians: the wider one takes away what is much coarser
    band = np.exp(-power / 2) - np.exp(-power * 4)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * band, shape)
    return (noise / max(float(noise.std()), 1e-9)).astype(np.float32)


def _curtains(lamella: Lamella, dense: Field, view: View, rng: np.random.Generator) -> Field:
    """Streaks that begin under dense features and grow on the way down."""
    u, _ = view.coordinates_nm()
    shadow_nm = np.cumsum(dense, axis=0) * view.nm_per_px_y
    begun = 1 - np.exp(-shadow_nm / 10)
    grown = np.cumsum(begun, axis=0) / (0.5 * view.shape[0])
    strength = ndi.gaussian_filter1d(begun * np.minimum(grown + 0.15, 1.2), 2.0, axis=1)
    fine, broad = (_streaks(u, scale_nm, view, rng) for scale_nm in (1.5, 6.0))
    return lamella.curtain * (strength + 0.12) * (0.7 * fine + 0.7 * broad)


def _streaks(u: Field, scale_nm: float, view: View, rng: np.random.Generator) -> Field:
    """Noise that changes along u only. (H, W), std about 1."""
    step_nm = scale_nm / 4
    knots = np.arange(-view.radius_nm - 2, view.radius_nm + 2, step_nm)
    noise = ndi.gaussian_filter1d(rng.standard_normal(len(knots)), 4)
    return np.interp(u, knots, noise / noise.std()).astype(np.float32)


def _grains(grain_nm: float, view: View, rng: np.random.Generator) -> Field:
    """One random value for each grain of a Voronoi tiling. (H, W), std about 1."""
    u, v = view.coordinates_nm()
    radius = view.radius_nm
    count = max(4, int((2 * radius / grain_nm) ** 2))
    seeds = rng.uniform(-radius, radius, (count, 2))
    values = np.clip(rng.standard_normal(count), -2, 2).astype(np.float32)
    # grains have crooked borders: look up a point that wanders a little
    scale_px = 0.4 * grain_nm / view.nm_per_px_x
    wobble = [0.12 * grain_nm * band_noise(view.shape, scale_px, rng) for _ in range(2)]
    points = np.stack([u + wobble[0], v + wobble[1]], axis=-1)
    _, nearest = cKDTree(seeds).query(points.reshape(-1, 2))
    # neither is a grain even inside: strain and defects mottle it
    mottled = 0.35 * band_noise(view.shape, 2 * scale_px, rng)
    return values[nearest].reshape(view.shape) + mottled


def _bend_contours(view: View, rng: np.random.Generator) -> Field:
    """Bands where a slightly bent crystal meets the Bragg condition. (H, W), 0..1."""
    u, v = view.coordinates_nm()
    angle = rng.uniform(0, np.pi)
    period = view.radius_nm * rng.uniform(0.6, 1.8)
    phase = np.pi * (u * np.cos(angle) + v * np.sin(angle)) / period + rng.uniform(0, np.pi)
    wander = band_noise(view.shape, max(view.shape) / 3, rng)
    bands = np.abs(np.sin(phase + 0.4 * wander)) / rng.uniform(0.3, 0.7)
    return np.exp(-(bands**2)).astype(np.float32)


def _lattice_fringes(view: View, rng: np.random.Generator) -> Field:
    """Two sets of {111} fringes seen along <110>, fading in and out with thickness. (H, W)."""
    u, v = view.coordinates_nm()
    waves = np.zeros(view.shape, dtype=np.float32)
    for degrees in (54.74, 125.26):
        angle = np.radians(degrees)
        across = u * np.sin(angle) + v * np.cos(angle)
        waves += np.cos(2 * np.pi * across / LATTICE_NM).astype(np.float32)
    return waves * (0.6 + 0.4 * band_noise(view.shape, max(view.shape) / 5, rng))
