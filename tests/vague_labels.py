"""Two gates, and what a guide might believe of them: sure, but for some places."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from backend.arrays import UNLABELED
from backend.metrology.accuracy_scenes import LABELS, SceneSettings, draw_scene, scene_recipe
from backend.metrology.cd_draws import Gauge

SETTINGS = SceneSettings(shape=(144, 240), tilt=(1.0, 1.0))
NO_SCRIBBLES = np.full(SETTINGS.shape, UNLABELED, np.uint8)
U_MAX_NM = {"width": 0.1, "height": 0.1, "film": 0.1}


@dataclass(frozen=True)
class Gates:
    """Two gates, their true labels, and a gauge for them."""

    gauge: Gauge
    labels: np.ndarray  # (H, W)
    center_px: tuple[float, float]  # of the left gate
    half_px: float  # of its width


def gates(u_max_nm=None, **changes):
    """Draw two gates; the recipe tolerates so many nm."""
    subject = draw_scene(SETTINGS, np.random.default_rng(0)).subject
    annotation = {"u_max_nm": U_MAX_NM if u_max_nm is None else u_max_nm}
    data = scene_recipe("label").model_dump(by_alias=True)
    recipe = type(scene_recipe("label")).model_validate(data | {"annotation": annotation} | changes)
    gauge = Gauge(LABELS, recipe, subject.calibration)
    left = next(cd for cd in gauge.measure(subject.label_map).cds if cd.measurement == "width")
    return Gates(gauge, subject.label_map, left.center, left.reach_px)


def believed(labels, *places, blur_px=0.3):
    """Believe in labels; in each place (rows, columns, blur in px) their borders are vague."""
    sharp = np.stack([labels == label for label in range(len(LABELS))]).astype(np.float32)
    probabilities = ndi.gaussian_filter(sharp, (0, blur_px, blur_px))
    for rows, columns, vague_px in places:
        vague = ndi.gaussian_filter(sharp, (0, vague_px, vague_px))
        probabilities[:, rows, columns] = vague[:, rows, columns]
    return probabilities / probabilities.sum(axis=0)


def around(row, column, half_px=12):
    """Rows and columns of a square around a point."""
    row, column = round(row), round(column)
    return slice(row - half_px, row + half_px), slice(column - half_px, column + half_px)


def meets(spot, rows, columns):
    """Whether a box and a window share pixels."""
    return (
        spot.row < rows.stop
        and rows.start < spot.row + spot.height
        and spot.column < columns.stop
        and columns.start < spot.column + spot.width
    )
