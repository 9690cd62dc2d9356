"""Accuracy goals on shapes known exactly: straight gates and trenches at any phase and tilt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import shapely
from scipy import ndimage as ndi
from shapely.affinity import rotate, translate

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.coverage import covered_fraction, label_at_centers

SHAPE = (220, 260)
MATERIALS = ("si", "ox", "gate")
WIDTH_PX, HEIGHT_PX, FILM_PX, PITCH_PX = 37.3, 80.0, 6.4, 90.4
WALL_DEG = 87.2
CONTENT = {
    "schema": "tem-cd-recipe/1",
    "name": "goals",
    "version": 1,
    "materials": {name: name for name in MATERIALS},
    "frame": {"align": "interface", "between": ["si", "ox"]},
    "structures": {"gate": {"materials": ["gate"], "base": {"interface_with": "ox"}}},
    "measurements": [
        {"id": "cd", "kind": "width", "of": "gate", "at": {"fraction": 0.5, "band": 0.6}},
        {"id": "low", "kind": "width", "of": "gate", "at": {"offset_px": 20}},
        {"id": "h", "kind": "height", "of": "gate"},
        {"id": "swa", "kind": "sidewall_angle", "of": "gate"},
        {"id": "pitch", "kind": "pitch", "of": "gate", "at": {"fraction": 0.5}},
        {"id": "area", "kind": "area", "of": "gate"},
        {
            "id": "film",
            "kind": "thickness",
            "film": "ox",
            "between": ["si", "gate"],
            "site": {"structure": "gate", "part": "base", "inset_px": 3},
        },
    ],
}


@dataclass(frozen=True)
class Scene:
    """Two gates on a film, turned and shifted by part of a pixel."""

    tilt_deg: float = 0.0
    phase_px: tuple[float, float] = (0.0, 0.0)
    wall_deg: float = WALL_DEG
    grown_px: float = 0.0

    def tiles(self):
        """Polygons of the materials, (column, row); the last one takes what is left."""
        lean = HEIGHT_PX / 2 / np.tan(np.radians(self.wall_deg))
        half, base = WIDTH_PX / 2, 160.0
        shape = [
            (-half - lean, base), (half + lean, base),
            (half - lean, base - HEIGHT_PX), (-half + lean, base - HEIGHT_PX),
        ]  # fmt: skip
        gates = [
            translate(shapely.Polygon(shape), u).buffer(self.grown_px, join_style="mitre")
            for u in (85.0, 85.0 + PITCH_PX)
        ]
        silicon = shapely.box(-300, base + FILM_PX, 600, 600)
        parts = [silicon, shapely.box(-300, -300, 600, 600), shapely.union_all(gates)]
        turned = [rotate(part, self.tilt_deg, origin=(130, 110)) for part in parts]
        si, all_, gate = (translate(part, *self.phase_px) for part in turned)
        return [si, all_ - si - gate, gate - si]


def subject(scene, soft=False):
    """Its labels, and with `soft` what a perfect model with a blur of 1.5 px believes."""
    tiles = scene.tiles()
    labels = label_at_centers(tiles, SHAPE)
    shares = None
    if soft:  # finely: an edge along the grid has the steps of its sub-samples
        exact = np.stack([covered_fraction(tile, SHAPE, supersampling=45) for tile in tiles])
        shares = ndi.gaussian_filter(exact, (0, 1.5, 1.5))
    return Subject(labels, MATERIALS, Calibration(0.5, 0.5, "manual"), probabilities=shares)


def recipe(*prefer):
    """Measures without anybody's placement."""
    return Recipe.model_validate(
        CONTENT | {"edges": {"prefer": prefer, "u_place_px": 0, "u_gray_px": 0.05}}
    )


def rows(subject, *prefer):
    """Rows of both gates."""
    return measure_image(subject, recipe(*prefer)).cds


def values(cds, measurement, quantity=""):
    """Values of a measurement."""
    return np.array(
        [cd.value for cd in cds if (cd.measurement, cd.quantity) == (measurement, quantity)]
    )


def scenes(count, low_deg=0.0, high_deg=5.0):
    """Gates at tilts and phases of all kinds."""
    rng = np.random.default_rng(1)
    for tilt in np.linspace(low_deg, high_deg, count):
        yield Scene(float(tilt), tuple(rng.uniform(-0.5, 0.5, 2).tolist()))


def test_soft_probabilities_have_no_bias():
    """G1, tilts of 0 to 5 degrees: biases of width and film below 0.01 px, 3 sigma below 0.03."""
    measured = [rows(subject(scene, soft=True), "prob", "label") for scene in scenes(8)]
    widths = np.concatenate([values(cds, "cd") for cds in measured]) - WIDTH_PX
    films = np.concatenate([values(cds, "film", "mean") for cds in measured]) - FILM_PX
    for errors in (widths, films):
        assert abs(errors.mean()) < 0.01
        assert 3 * errors.std() < 0.03


def test_hard_labels_that_cross_pixels_have_no_bias():
    """G2: each side crosses a pixel column. Bias below 0.05 px, 3 sigma below 0.2 px."""
    measured = [rows(subject(scene), "label") for scene in scenes(10, 4.5, 7)]
    widths = np.concatenate([values(cds, "cd") for cds in measured]) - WIDTH_PX
    films = np.concatenate([values(cds, "film", "mean") for cds in measured]) - FILM_PX
    heights = np.concatenate([values(cds, "h") for cds in measured]) - HEIGHT_PX
    assert abs(widths.mean()) < 0.05
    assert 3 * widths.std() < 0.2
    assert abs(films.mean()) < 0.05
    assert 3 * films.std() < 0.2
    assert abs(heights.mean()) < 0.1


def test_a_side_along_the_grid_knows_its_width_badly():
    """G3: 37.3 is 37 or 38; the row says so and its error is no smaller than 0.4 px."""
    for shift in (0.0, 0.3, 0.6):
        scene = Scene(phase_px=(shift, shift), wall_deg=90.0)
        (one, other) = (cd for cd in rows(subject(scene), "label") if cd.measurement == "cd")
        assert one.u_value >= 0.4
        assert other.u_value >= 0.4
        assert "grid_locked" in one.flags
        assert abs(one.value - WIDTH_PX) <= 1


def test_pitch_ignores_that_both_edges_are_too_far_out():
    """G10: grown by 2 px on all sides, the pitch stays."""
    plain, grown = (
        np.array([values(rows(subject(s), "label"), "pitch")[0] for s in many])
        for many in (
            [Scene(5, (x, 0)) for x in (0.1, 0.4, 0.7)],
            [Scene(5, (x, 0), grown_px=2) for x in (0.1, 0.4, 0.7)],
        )
    )
    # both are measured with the rounding of a hard label, which moves along with the edges
    assert abs(grown.mean() - plain.mean()) < 0.08
    soft = [
        values(rows(subject(Scene(2, (0.3, 0), grown_px=g), soft=True), "prob", "label"), "pitch")
        for g in (0, 2)
    ]
    assert abs(soft[1][0] - soft[0][0]) < 0.02


def test_a_new_scale_changes_no_pixel():
    """G11: values are in pixels, and nanometres are those times the scale."""
    first = subject(Scene(2))
    second = Subject(first.label_map, MATERIALS, Calibration(0.31, 0.31, "lattice"))
    assert [cd.value for cd in rows(first, "label")] == [cd.value for cd in rows(second, "label")]


@pytest.mark.parametrize("change", ["flip", "crop", "enlarge"])
def test_widths_do_not_depend_on_how_an_image_lies(change):
    """G12: mirrored, cropped or with each pixel doubled: the same within 0.03 px, scaled."""
    scene = subject(Scene(3.0, (0.2, 0.1)))
    labels = scene.label_map
    factor = 1.0
    if change == "flip":
        labels = labels[:, ::-1]
    elif change == "crop":
        labels = labels[13:, 21:-9]
    else:
        labels, factor = labels.repeat(2, axis=0).repeat(2, axis=1), 2.0
    changed = Subject(labels, MATERIALS, scene.calibration)
    before, after = values(rows(scene, "label"), "cd"), values(rows(changed, "label"), "cd")
    after = after[::-1] if change == "flip" else after
    assert after / factor == pytest.approx(before, abs=0.03)


def test_stated_errors_are_those_that_occur():
    """G9: on hard labels, values scatter about the truth by about what their rows say."""
    ratios = []
    for scene in scenes(10, 1.0, 6.0):
        for cd in rows(subject(scene), "label"):
            if cd.measurement in ("cd", "low"):
                lean = 2 / np.tan(np.radians(WALL_DEG))
                true = WIDTH_PX + (0 if cd.measurement == "cd" else lean * (HEIGHT_PX / 2 - 20))
                ratios.append((cd.value - true) / cd.u_value)
    assert 0.4 < np.sqrt(np.mean(np.square(ratios))) < 1.4


def test_wall_angles_of_hard_labels():
    """G7: over 56 rows 3 sigma below 2 degrees."""
    found = np.concatenate([values(rows(subject(s), "label"), "swa") for s in scenes(6, 1, 5)])
    assert abs(found.mean() - WALL_DEG) < 0.3
    assert 3 * found.std() < 2
