"""What an edge looks like across: a step blurred by a Gaussian, between materials with skins.

Barriers, oxidised or damaged rims and diffused atoms make a material lighter or darker near its
border, over some pixels. A plain step fitted to such an edge settles inside the skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]
_DENSITY = 1 / np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class Skin:
    """How a material deviates at its border: share x exp(-(depth / depth_px)^2)."""

    share: float  # of the step between both materials; + is towards the higher level
    depth_px: float


@dataclass(frozen=True)
class EdgeShape:
    """The profile of an edge, 0 on the far left and 1 on the far right of it."""

    left: Skin | None = None
    right: Skin | None = None
    shift_px: float = 0.0  # of the edge, right of where this profile has its step
    u_px: float = 0.0  # 1 sigma: how uncertain the step's place in the profile is

    def mirrored(self) -> EdgeShape:
        """The same edge, seen from the other side."""
        left, right = (
            None if skin is None else Skin(-skin.share, skin.depth_px)
            for skin in (self.right, self.left)
        )
        return EdgeShape(left, right, -self.shift_px, self.u_px)

    def profile(self, across_px: Floats, sigma_px: float) -> Floats:
        """Level at distances right of the step."""
        level: Floats = ndtr(across_px / sigma_px)
        for skin, depth in ((self.left, -across_px), (self.right, across_px)):
            if skin is not None:
                level = level + skin.share * blurred_skin(depth, sigma_px, skin.depth_px)
        return level

    def derivatives(self, across_px: Floats, sigma_px: float) -> tuple[Floats, Floats, Floats]:
        """Level, its slope and its curvature (per px and px^2); sigma x curvature is d/d sigma."""
        z = across_px / sigma_px
        level: Floats = ndtr(z)
        slope = _DENSITY / sigma_px * np.exp(-(z**2) / 2)
        bend = -slope * z / sigma_px
        for skin, sign in ((self.left, -1.0), (self.right, 1.0)):
            if skin is not None:
                parts = _skin_derivatives(sign * across_px, sigma_px, skin.depth_px)
                level = level + skin.share * parts[0]
                slope = slope + sign * skin.share * parts[1]
                bend = bend + skin.share * parts[2]
        return level, slope, bend


PLAIN = EdgeShape()


def blurred_skin(depth_px: Floats, sigma_px: float, skin_px: float) -> Floats:
    """exp(-(depth / skin)^2) inside a material and 0 outside, blurred.

    Example:
        >>> blurred_skin(np.array([-9.0, 0.0, 90.0]), 1.5, 1e6).round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    both = skin_px**2 / 2 + sigma_px**2
    height = skin_px / np.sqrt(2 * both)
    level: Floats = ndtr(height / sigma_px * depth_px)
    level *= height * np.exp(-(depth_px**2) / (2 * both))
    return level


def _skin_derivatives(
    depth_px: Floats, sigma_px: float, skin_px: float
) -> tuple[Floats, Floats, Floats]:
    """The blurred skin, its slope and its curvature."""
    both = skin_px**2 / 2 + sigma_px**2
    height = skin_px / np.sqrt(2 * both)
    sharp = height / sigma_px
    fading = height * np.exp(-(depth_px**2) / (2 * both))
    rise = fading * _DENSITY * sharp * np.exp(-((sharp * depth_px) ** 2) / 2)
    level = fading * ndtr(sharp * depth_px)
    slope = rise - level * depth_px / both
    bend = level * (depth_px**2 / both**2 - 1 / both) - rise * depth_px * (2 / both + sharp**2)
    return level, slope, bend
