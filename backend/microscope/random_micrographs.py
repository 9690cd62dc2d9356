"""Random pictures of random scenes: contrast, texture, optics and noise of any microscope.

Domain randomisation: what differs between real micrographs differs more here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import LabelMap
from backend.microscope.random_scenes import Field, chance, smooth_noise

FULL_SCALE = 255.0


def photograph(rng: np.random.Generator, label_map: LabelMap) -> NDArray[np.uint8]:
    """Take a picture of the materials in `label_map`, (H, W) -> (H, W) of 8 bits.

    Neighbours of nearly the same gray are common: texture, an outline or the place must then tell
    them apart, or nothing but the strokes of an annotator.
    """
    image = _materials(rng, label_map)
    if chance(rng, 0.5):
        image += _outlines(rng, label_map)
    image = ndi.gaussian_filter(image, rng.uniform(0.3, 2.2))
    image += rng.uniform(0, 18) * smooth_noise(rng, image.shape, *rng.uniform(30, 150, 2))
    if chance(rng, 0.35):
        image *= 1 + _curtains(rng, image.shape)
    image = _noise(rng, image)
    return _expose(rng, image)


def _materials(rng: np.random.Generator, label_map: LabelMap) -> Field:
    """Mean gray and texture of each material, before the optics. Shape (H, W)."""
    materials = int(label_map.max()) + 1
    means = rng.uniform(20, 235, materials)
    for _ in range(rng.integers(0, 3)):  # look-alikes
        one, other = rng.choice(materials, 2, replace=False)
        means[one] = means[other] + rng.normal(0, 10)
    image = np.zeros(label_map.shape, np.float32)
    roughness = rng.uniform(0, 24)
    for material in range(materials):
        where = label_map == material
        image[where] = (means[material] + _texture(rng, label_map.shape, roughness))[where]
    return image


def _texture(rng: np.random.Generator, shape: tuple[int, ...], roughness: float) -> Field:
    """Grain, stripes and clouds of one material. Shape (H, W)."""
    size = (shape[0], shape[1])
    grain_px = rng.uniform(1, 9)
    stretch = rng.uniform(0.6, 1.7)
    texture = rng.uniform(0, roughness) * smooth_noise(
        rng, size, grain_px * stretch, grain_px / stretch
    )
    if chance(rng, 0.25):
        rows, columns = np.ogrid[: size[0], : size[1]]
        angle, period_px = rng.uniform(0, np.pi), rng.uniform(3, 16)
        phase = 2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period_px
        texture = texture + rng.uniform(3, 15) * np.sin(phase)
    if chance(rng, 0.4):
        texture = texture + rng.uniform(4, 30) * smooth_noise(rng, size, rng.uniform(15, 80))
    return texture.astype(np.float32)


def _outlines(rng: np.random.Generator, label_map: LabelMap) -> Field:
    """Bright or dark rims along the borders, of all materials or of one. Shape (H, W)."""
    chosen = label_map
    if chance(rng, 0.5):
        chosen = (label_map == rng.integers(label_map.max() + 1)).astype(np.uint8)
    edge = np.zeros(label_map.shape, bool)
    edge[:-1] |= chosen[:-1] != chosen[1:]
    edge[:, :-1] |= chosen[:, :-1] != chosen[:, 1:]
    distance_px = ndi.distance_transform_edt(~edge)
    rim = rng.normal(0, 45) * np.exp(-((distance_px / rng.uniform(0.8, 4)) ** 2))
    if chance(rng, 0.3):  # Fresnel fringe: a second rim of the other sign
        reach_px = rng.uniform(2, 6)
        rim -= rng.uniform(0.1, 0.5) * rim.max() * np.exp(-(((distance_px - reach_px) / 1.5) ** 2))
    return rim.astype(np.float32)


def _curtains(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    """Streaks that milling leaves, as relative intensity. Shape (H, W)."""
    streaks = smooth_noise(
        rng, (shape[0], shape[1]), shape[0] * rng.uniform(0.3, 3), rng.uniform(1, 12)
    )
    return (rng.uniform(0, 0.12) * streaks).astype(np.float32)


def _noise(rng: np.random.Generator, image: Field) -> Field:
    """Shot noise, detector noise, and noise of whole rows now and then."""
    level = np.clip(image / FULL_SCALE, 0.02, 1)
    noise = rng.standard_normal(image.shape)
    noisy = image + noise * (rng.uniform(0, 22) * np.sqrt(level) + rng.uniform(0, 10))
    if chance(rng, 0.15):
        noisy += rng.uniform(0, 6) * rng.standard_normal((image.shape[0], 1))
    if chance(rng, 0.35):
        noisy = ndi.gaussian_filter(noisy, rng.uniform(0.3, 1.0))
    return noisy.astype(np.float32)


def _expose(rng: np.random.Generator, image: Field) -> NDArray[np.uint8]:
    """Brightness, contrast, gamma and polarity of the picture as it was stored."""
    low, high = np.percentile(image, [0.5, 99.5])
    stretched = (image - low) / max(high - low, 1e-3)
    black, white = rng.uniform(-0.1, 0.2), rng.uniform(0.8, 1.15)
    stored = np.clip(black + (white - black) * stretched, 0, 1) ** rng.uniform(0.7, 1.4)
    if chance(rng, 0.5):
        stored = 1 - stored
    return np.rint(FULL_SCALE * stored).astype(np.uint8)
