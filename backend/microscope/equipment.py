"""Three synthetic microscopes, their optics, scan and detector: from contrast to pixel values.

No two tools of a fab give the same picture of the same device. A is a bright-field TEM with a
16-bit camera, B a scanning TEM with a HAADF-like detector that burns a data bar into its
images, C an old bright-field TEM at low dose whose pictures come as negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Micrograph: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]  # (H, W)
EquipmentName = Literal["A", "B", "C"]
Field = NDArray[np.float32]  # (H, W)
FIELD_NM = (110, 420)
"""Widths of the field of view that show several structures, each over enough pixels."""


@dataclass(frozen=True)
class Equipment:
    """What is typical of one microscope; ranges are drawn anew for each image."""

    name: EquipmentName
    mode: Literal["bright_field", "haadf"]
    nm_per_px: tuple[float, ...]  # magnifications in use
    dose: tuple[float, float]  # electrons a pixel where nothing absorbs
    readout: tuple[float, float]  # electrons, 1 sigma
    blur_px: tuple[float, float]  # Gaussian sigma
    fringe: tuple[float, float]  # strength of the Fresnel fringe at edges
    jitter_px: float  # 1 sigma of the shift of one scan line
    gamma: tuple[float, float]  # of the stored grey values; 1 = linear
    bits: Literal[8, 16]
    inverted: bool
    databar: bool
    files: Literal["imagej_tif", "tif_and_sidecar", "png"]


EQUIPMENT: Mapping[EquipmentName, Equipment] = {
    "A": Equipment(
        name="A",
        mode="bright_field",
        nm_per_px=(0.14, 0.2, 0.28, 0.38),
        dose=(250, 1000),
        readout=(2, 5),
        blur_px=(0.7, 1.5),
        fringe=(0.0, 0.8),
        jitter_px=0.0,
        gamma=(1.0, 1.0),
        bits=16,
        inverted=False,
        databar=False,
        files="imagej_tif",
    ),
    "B": Equipment(
        name="B",
        mode="haadf",
        nm_per_px=(0.18, 0.25, 0.35, 0.5),
        dose=(200, 800),
        readout=(1, 3),
        blur_px=(0.8, 1.6),
        fringe=(0.0, 0.0),
        jitter_px=0.35,
        gamma=(0.45, 0.7),
        bits=8,
        inverted=False,
        databar=True,
        files="tif_and_sidecar",
    ),
    "C": Equipment(
        name="C",
        mode="bright_field",
        nm_per_px=(0.25, 0.4, 0.6),
        dose=(50, 250),
        readout=(3, 6),
        blur_px=(0.9, 1.9),
        fringe=(0.2, 1.2),
        jitter_px=0.0,
        gamma=(0.8, 1.25),
        bits=8,
        inverted=True,
        databar=False,
        files="png",
    ),
}


@dataclass(frozen=True)
class Exposure:
    """The settings of one recording, kept with the image."""

    dose: float
    readout: float
    blur_px: float
    fringe: float
    jitter_px: float
    gamma: float
    bits: Literal[8, 16]
    inverted: bool

    def noise(self, intensity: float) -> float:
        """Standard deviation of a pixel whose mean is `intensity` (1 = nothing absorbs)."""
        return float(np.sqrt(self.dose * max(intensity, 0) + self.readout**2)) / self.dose


def draw_exposure(equipment: Equipment, rng: np.random.Generator) -> Exposure:
    """Choose the settings of one recording within what the microscope is used for."""
    low, high = np.log(equipment.dose)
    return Exposure(
        dose=float(np.exp(rng.uniform(low, high))),
        readout=rng.uniform(*equipment.readout),
        blur_px=rng.uniform(*equipment.blur_px),
        fringe=rng.uniform(*equipment.fringe),
        jitter_px=equipment.jitter_px,
        gamma=rng.uniform(*equipment.gamma),
        bits=equipment.bits,
        inverted=equipment.inverted,
    )


def draw_nm_per_px(equipment: Equipment, columns: int, rng: np.random.Generator) -> float:
    """Choose a magnification whose field of view is useful, or else the nearest one."""
    wide = [value for value in equipment.nm_per_px if FIELD_NM[0] <= value * columns <= FIELD_NM[1]]
    if wide:
        return float(rng.choice(wide))
    few = equipment.nm_per_px[-1] * columns < FIELD_NM[0]
    return equipment.nm_per_px[-1] if few else equipment.nm_per_px[0]


def focus(intensity: Field, exposure: Exposure, rng: np.random.Generator) -> Field:
    """Blur by the optics, fringes by defocus, and scan lines that miss their column. (H, W)."""
    sharp = ndi.gaussian_filter(intensity, exposure.blur_px)
    if exposure.fringe:
        wide = ndi.gaussian_filter(intensity, 2 * exposure.blur_px)
        sharp = sharp + exposure.fringe * (sharp - wide)
    if exposure.jitter_px:
        sharp = _jittered(sharp, exposure.jitter_px, rng)
    return sharp


def detect(
    intensity: Field, exposure: Exposure, rng: np.random.Generator
) -> tuple[Micrograph, tuple[float, float]]:
    """Count electrons, then store grey values as this microscope does.

    Args:
        intensity: Mean signal, 1 where nothing absorbs. Shape (H, W).
        exposure: Dose, noise, gamma, bits and polarity.
        rng: Source of chance.

    Returns:
        The image (H, W) and the signals stored as black and as white (before gamma).
    """
    counts = rng.poisson(exposure.dose * np.clip(intensity, 0, None)).astype(np.float32)
    counts += exposure.readout * rng.standard_normal(intensity.shape, dtype=np.float32)
    signal = counts / np.float32(exposure.dose)
    low, high = (float(value) for value in np.percentile(signal, [0.1, 99.9]))
    black, white, dtype = _STORED[exposure.bits]
    gray = np.clip((signal - low) / max(high - low, 1e-6), 0, 1) ** np.float32(exposure.gamma)
    if exposure.inverted:
        gray = 1 - gray
    return np.rint(black + gray * (white - black)).astype(dtype), (low, high)


# 16 bits are not all used: the camera's offset and gain leave room on both sides
_STORED: Mapping[int, tuple[int, int, str]] = {
    8: (0, 255, "uint8"),
    16: (1500, 42000, "uint16"),
}


def _jittered(image: Field, sigma_px: float, rng: np.random.Generator) -> Field:
    """Shift each row by its own fraction of a pixel; mostly slow wandering, as from vibration."""
    height, width = image.shape
    shift = rng.standard_normal(height) + ndi.gaussian_filter1d(rng.standard_normal(height), 4) * 3
    columns = np.clip(np.arange(width) + sigma_px * shift[:, None] / np.sqrt(2), 0, width - 1)
    left = np.minimum(columns.astype(np.int64), width - 2)
    part = (columns - left).astype(np.float32)
    row = np.arange(height)[:, None]
    return image[row, left] * (1 - part) + image[row, left + 1] * part
