"""How bright each material is: bright field (absorption) or HAADF-like (atomic number).

One pair of materials that touch is made nearly alike on purpose (contrast-to-noise ratio 1 to
2) and its border blurred, because the borders that annotators disagree about are such borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.microscope.devices import MATERIALS, Module
from backend.microscope.equipment import Exposure
from backend.microscope.lamella import Texture

Mode = Literal["bright_field", "haadf"]

ABSORPTION: Mapping[str, tuple[float, float]] = {
    "Si": (0.60, 0.90),
    "Oxide": (0.35, 0.55),
    "Nitride": (0.55, 0.85),
    "Liner": (0.55, 0.85),
    "Metal": (1.4, 2.3),
}
"""Range of mu x t of each material in a lamella of nominal thickness."""

ATOMIC_NUMBER: Mapping[str, tuple[float, float]] = {
    "Si": (13.5, 14.5),
    "Oxide": (10.3, 11.3),
    "Nitride": (11.8, 13.2),
    "Liner": (11.8, 13.2),
    "Metal": (22.0, 34.0),
}
"""Range of the effective atomic number, density included."""

CAPS: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "poly": ((0.60, 0.95), (13.3, 14.6)),
    "metal": ((1.2, 1.9), (20.0, 30.0)),
    "resist": ((0.15, 0.30), (7.5, 9.0)),
}
"""What may cover actives: ranges of mu x t and of the atomic number."""

ALIKE: Mapping[Module, tuple[tuple[str, str], ...]] = {
    "gate": (("Nitride", "Oxide"), ("Nitride", "Oxide"), ("Si", "Oxide")),
    "active": (("Liner", "Oxide"), ("Liner", "Oxide"), ("Cap", "Si"), ("Cap", "Oxide")),
}
"""Pairs (changed, kept) one of which is made nearly alike."""


@dataclass(frozen=True)
class Contrast:
    """Brightness and texture of every material in one image."""

    mode: Mode
    scattering: Mapping[str, float]  # mu x t (bright field) or relative signal (HAADF)
    textures: Mapping[str, Texture]
    alike: tuple[str, str]  # the ambiguous pair
    cnr: float  # its difference over the noise and speckle of one pixel
    graded_nm: float  # sigma of its border


def draw_contrast(
    module: Module, mode: Mode, exposure: Exposure, rng: np.random.Generator
) -> Contrast:
    """Choose how the materials of one image look."""
    cap = str(rng.choice(list(CAPS)))
    scattering = {name: _draw_scattering(name, cap, mode, rng) for name in MATERIALS[module]}
    if mode == "haadf":
        brightest = max(scattering.values())
        scattering = {name: 0.9 * value / brightest for name, value in scattering.items()}
    pairs = ALIKE[module]
    changed, kept = pairs[int(rng.integers(len(pairs)))]
    # a film of few pixels needs the upper half of the range to be seen by anyone
    cnr = rng.uniform(1.5 if changed == "Liner" else 1, 2)
    textures = {name: _draw_texture(name, cap, mode, rng) for name in MATERIALS[module]}
    grain = textures[kept].speckle * (scattering[kept] if mode == "bright_field" else 1)
    darker = _mean_signal(mode, scattering[changed]) < _mean_signal(mode, scattering[kept])
    scattering[changed] = _nearly(mode, scattering[kept], -cnr if darker else cnr, exposure, grain)
    return Contrast(
        mode=mode,
        scattering=scattering,
        textures=textures,
        alike=(changed, kept),
        cnr=cnr,
        graded_nm=rng.uniform(1, 4) / 2,
    )


def signal(
    mode: Mode, scattering: NDArray[np.float32], thickness: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Detected share of the electrons, for the same shapes of scattering and relative thickness."""
    if mode == "bright_field":
        return np.exp(-scattering * thickness)
    return scattering * thickness


def grade_border(
    fractions: NDArray[np.float32], pair: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Let two materials diffuse into each other, and into nothing else.

    Args:
        fractions: Share of each pixel by material, summing to 1. Shape (C, H, W).
        pair: The two materials.
        sigma_px: Standard deviation of the error function their border becomes.

    Returns:
        Fractions with a soft border, still summing to 1. Shape (C, H, W).
    """
    first, second = pair
    both = fractions[first] + fractions[second]
    blurred = [ndi.gaussian_filter(fractions[index], sigma_px) for index in pair]
    share = blurred[0] / np.maximum(blurred[0] + blurred[1], 1e-6)
    graded = fractions.copy()
    graded[first], graded[second] = both * share, both * (1 - share)
    return graded


def _draw_scattering(name: str, cap: str, mode: Mode, rng: np.random.Generator) -> float:
    if name == "Cap":
        absorption, number = CAPS[cap]
    else:
        absorption, number = ABSORPTION[name], ATOMIC_NUMBER[name]
    if mode == "bright_field":
        return rng.uniform(*absorption)
    return rng.uniform(*number) ** 1.7


def _mean_signal(mode: Mode, scattering: float) -> float:
    return float(np.exp(-scattering)) if mode == "bright_field" else scattering


def _nearly(mode: Mode, scattering: float, cnr: float, exposure: Exposure, grain: float) -> float:
    """Scattering of a material whose signal differs by `cnr` times the noise.

    Noise is that of the detector and `grain`, the speckle's share of the signal.
    """
    kept = _mean_signal(mode, scattering)
    noise = np.hypot(exposure.noise(kept), grain * kept)
    wanted = float(np.clip(kept + cnr * noise, 0.03, 0.95))
    return -float(np.log(wanted)) if mode == "bright_field" else wanted


def _draw_texture(name: str, cap: str, mode: Mode, rng: np.random.Generator) -> Texture:
    """Amorphous films are speckled, metals and poly-silicon grainy, the substrate is bent."""
    crystal = 1.0 if mode == "bright_field" else 0.3  # diffraction hardly reaches a HAADF detector
    kind = cap if name == "Cap" else name
    grainy = {"Metal": (0.18, 7.0), "metal": (0.2, 12.0), "poly": (0.22 * crystal, 22.0)}
    if kind == "Si":
        return Texture(
            speckle=rng.uniform(0.02, 0.05),
            speckle_nm=rng.uniform(1, 2),
            patches=rng.uniform(0.02, 0.06),
            patches_nm=30,
            bends=crystal * rng.uniform(0.1, 0.45) * float(rng.choice([-0.6, 1, 1])),
            lattice=crystal * rng.uniform(0.1, 0.3),
            rim=rng.uniform(-0.25, 0.25),
        )
    if kind in grainy:
        sigma, size = grainy[kind]
        return Texture(
            speckle=rng.uniform(0.02, 0.05),
            grains=sigma * rng.uniform(0.6, 1.3),
            grain_nm=size * rng.uniform(0.7, 1.4),
            rim=rng.uniform(-0.55, 0.0) if kind == "Metal" else 0.0,
            rim_nm=rng.uniform(1, 3),
        )
    film = kind in {"Liner", "Nitride"}  # the skin of a grown film has a composition of its own
    return Texture(
        rim=rng.uniform(0.08, 0.25) * float(rng.choice([-1, 1])) if film else 0.0,
        rim_nm=0.8,
        speckle=rng.uniform(0.04, 0.12),
        speckle_nm=rng.uniform(0.6, 1.6),
        patches=rng.uniform(0.04, 0.14),
        patches_nm=rng.uniform(15, 50),
    )
