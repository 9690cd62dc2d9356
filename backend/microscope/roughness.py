"""Edge roughness: a smooth outline in nanometres becomes one that an etch could have left.

The displacement follows the self-affine spectrum of Palasantzas,
`PSD(k) ~ sigma^2 xi / (1 + k^2 xi^2)^(1/2 + H)`, along the arc length of the outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

STEP_NM = 0.4
"""Distance of the vertices of a rough outline; well below every correlation length we draw."""


@dataclass(frozen=True)
class Roughness:
    """How an edge wanders about its straight course."""

    sigma_nm: float  # standard deviation (1 sigma) of the displacement, 0 = smooth
    correlation_nm: float  # xi, over which neighbouring points move together
    hurst: float  # H, 0.5 jagged .. 1 smooth

    def scaled(self, factor: float) -> Roughness:
        """The same spectrum with `factor` times the amplitude."""
        return replace(self, sigma_nm=self.sigma_nm * factor)


def palasantzas_noise(
    count: int, step_nm: float, roughness: Roughness, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a periodic displacement with the spectrum of `roughness`.

    Args:
        count: Number of points, at least 2.
        step_nm: Distance of the points.
        roughness: Amplitude, correlation length and Hurst exponent.
        rng: Source of chance.

    Returns:
        Displacement in nm, zero on average. Shape (count,).
    """
    frequencies = 2 * np.pi * np.fft.rfftfreq(count, step_nm)  # rad / nm
    spectrum = (1 + (frequencies * roughness.correlation_nm) ** 2) ** -(0.5 + roughness.hurst)
    spectrum[0] = 0  # a shift of the whole edge is a change of CD, not roughness
    pairs = rng.standard_normal((2, len(frequencies)))
    waves = np.sqrt(spectrum) * (pairs[0] + 1j * pairs[1])
    # each frequency but zero stands for itself and its mirror image, hence 2 x 2 x power
    scale = roughness.sigma_nm * count / np.sqrt(4 * spectrum.sum())
    return np.fft.irfft(waves * scale, count)


def rough_line(
    line_nm: NDArray[np.float64], roughness: Roughness, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Resample an open line of (u, v) points every `STEP_NM` and displace it along its normals.

    line_nm (N, 2) -> (M, 2), both in nm.
    """
    line = LineString(line_nm)
    count = max(2, int(np.ceil(line.length / STEP_NM)) + 1)
    points = _points_along(line, count)
    # drawn twice as long and cut: the two ends of an open line must not be tied together
    noise = palasantzas_noise(2 * count, line.length / (count - 1), roughness, rng)[:count]
    return points + noise[:, None] * _normals(points, closed=False)


def rough_polygon(polygon: Polygon, roughness: Roughness, rng: np.random.Generator) -> MultiPolygon:
    """Displace the whole outline of `polygon` (nm) along its normals; holes are dropped."""
    outline = polygon.exterior
    count = max(8, int(np.ceil(outline.length / STEP_NM)))
    points = _points_along(outline, count + 1)[:-1]
    noise = palasantzas_noise(count, outline.length / count, roughness, rng)
    rough = Polygon(points + noise[:, None] * _normals(points, closed=True))
    return valid_polygons(rough)


def valid_polygons(shape: BaseGeometry) -> MultiPolygon:
    """The polygons of a shape, without the loops, lines and points that touching outlines leave."""
    if not shape.is_valid:
        shape = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    return MultiPolygon([part for part in parts if part.area > 0])


def _points_along(line: LineString, count: int) -> NDArray[np.float64]:
    corners = shapely.get_coordinates(line)
    passed = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    distances = np.linspace(0, passed[-1], count)
    return np.stack([np.interp(distances, passed, axis) for axis in corners.T], axis=1)


def _normals(points: NDArray[np.float64], closed: bool) -> NDArray[np.float64]:
    """Unit normals of a line of points (N, 2), pointing to its right."""
    if closed:
        along = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    else:
        along = np.gradient(points, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-12)[:, None]
    return np.stack([along[:, 1], -along[:, 0]], axis=1)
