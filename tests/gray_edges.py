"""Hand-made images whose edges are known exactly."""

import numpy as np

from backend.metrology.edge_shapes import PLAIN


def layers(levels, places_px, shape=(80, 60), slope=0.0, sigma_px=1.5, edges=()):
    """Blur straight layers from left to right.

    The interfaces cross the middle row at the columns `places_px` and move by `slope` a row; the
    values are those of a Gaussian blur at the pixel centres. `edges` are their shapes.
    """
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    image = np.full(shape, float(levels[0]))
    edges = edges or [PLAIN] * len(places_px)
    for place, before, after, edge in zip(places_px, levels[:-1], levels[1:], edges, strict=True):
        distance = (columns - place - slope * (rows - (shape[0] - 1) / 2)) / np.hypot(1, slope)
        image += (after - before) * edge.profile(distance, sigma_px)
    return image


def seed_line(place_px, shape=(80, 60), slope=0.0, margin_px=10, wrong_px=0.0):
    """The line of an interface of `layers` from bottom to top, moved to the right on purpose."""
    middle = (shape[0] - 1) / 2
    ends = (shape[0] - 1.0 - margin_px, float(margin_px))
    return [(row, place_px + wrong_px + slope * (row - middle)) for row in ends]


def missed_px(fit, place_px, shape=(80, 60), slope=0.0):
    """How far to the right of the interface the middle of a fit lies, along the normal."""
    row, column = np.mean([fit.start, fit.end], axis=0)
    return (column - place_px - slope * (row - (shape[0] - 1) / 2)) / np.hypot(1, slope)


def angle_deg(fit):
    """Angle of a fit from the columns, + where it moves right going down."""
    (row0, column0), (row1, column1) = fit.start, fit.end
    return np.degrees(np.arctan((column1 - column0) / (row1 - row0)))
