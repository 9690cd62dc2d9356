"""Device coordinates and pixels agree in both directions."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from backend.microscope.view import View

VIEW = View((60, 80), 0.5, 0.501, tilt_deg=2.5)


def test_coordinates_of_pixels_map_back_to_them():
    """`to_px` undoes `coordinates_nm`, tilt and unequal pixels included."""
    u, v = VIEW.coordinates_nm()

    points = VIEW.to_px(np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64))

    rows, columns = np.mgrid[:60, :80]
    assert points[:, 0] == pytest.approx(rows.ravel(), abs=1e-4)
    assert points[:, 1] == pytest.approx(columns.ravel(), abs=1e-4)


def test_window_is_exactly_what_is_shown():
    """The outline of the picture touches the outer borders of its pixels."""
    window = VIEW.polygon_px(VIEW.window_nm())

    assert window.bounds == pytest.approx((-0.5, -0.5, 79.5, 59.5))
    assert VIEW.shows(shapely.affinity.scale(VIEW.window_nm(), 0.99, 0.99))
    assert not VIEW.shows(VIEW.window_nm())


def test_up_in_the_device_is_up_in_the_picture():
    """V grows away from the substrate, rows grow downward."""
    low, high = VIEW.to_px(np.array([[0.0, -5.0], [0.0, 5.0]]))

    assert high[0] < low[0]
