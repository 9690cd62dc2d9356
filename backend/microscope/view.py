"""How a device lies in an image: from its frame (u, v in nm) to pixels (row, column) and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import affine_transform
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from backend.microscope.roughness import valid_polygons


@dataclass(frozen=True)
class View:
    """The part of a device a picture shows; the origin of the device is the middle of the picture.

    Example:
        >>> View((3, 5), 0.5, 0.5, tilt_deg=0).to_px(np.array([[1.0, 0.5]])).tolist()
        [[0.0, 4.0]]
    """

    shape: tuple[int, int]  # rows and columns that show the device, without a data bar
    nm_per_px_x: float
    nm_per_px_y: float
    tilt_deg: float  # the reference interface falls to the right by this angle

    @property
    def field_nm(self) -> tuple[float, float]:
        """Height and width of the picture."""
        return self.shape[0] * self.nm_per_px_y, self.shape[1] * self.nm_per_px_x

    @property
    def radius_nm(self) -> float:
        """Half the diagonal: no pixel is further from the origin."""
        return float(np.hypot(*self.field_nm)) / 2

    def to_px(self, points_nm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(u, v) points in nm -> (row, column) points in px; both (N, 2)."""
        a, b, d, e, column, row = self._matrix()
        u, v = points_nm[:, 0], points_nm[:, 1]
        return np.stack([d * u + e * v + row, a * u + b * v + column], axis=1)

    def polygon_px(self, polygon_nm: BaseGeometry) -> MultiPolygon:
        """A polygon of (u, v) in nm as a polygon of (column, row) in px."""
        # rounding can make two vertices that nearly touch cross each other
        return valid_polygons(affine_transform(polygon_nm, self._matrix()))

    def shows(self, polygon_nm: BaseGeometry) -> bool:
        """True if the whole polygon lies inside the picture."""
        height, width = self.shape
        picture = shapely.box(-0.5, -0.5, width - 0.5, height - 0.5)
        return bool(picture.contains_properly(self.polygon_px(polygon_nm)))

    def window_nm(self) -> Polygon | MultiPolygon:
        """The outline of the picture in (u, v) nm."""
        height, width = self.field_nm
        box = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
        cos, sin = self._direction()
        return affine_transform(box, [cos, sin, sin, -cos, 0, 0])

    def coordinates_nm(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give u and v of every pixel centre, each (H, W)."""
        height, width = self.shape
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * self.nm_per_px_x
        y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) * self.nm_per_px_y
        cos, sin = self._direction()
        u = (x * cos + y * sin).astype(np.float32)
        v = (x * sin - y * cos).astype(np.float32)
        return u, v

    def _direction(self) -> tuple[float, float]:
        angle = np.radians(self.tilt_deg)
        return float(np.cos(angle)), float(np.sin(angle))

    def _matrix(self) -> list[float]:
        """Shapely's order: a, b, d, e, x offset, y offset with x the column and y the row."""
        cos, sin = self._direction()
        height, width = self.shape
        across, down = self.nm_per_px_x, self.nm_per_px_y
        middle = [(width - 1) / 2, (height - 1) / 2]
        return [cos / across, sin / across, sin / down, -cos / down, *middle]
