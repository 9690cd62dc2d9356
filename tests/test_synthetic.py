"""Synthetic micrographs: reproducible, true to their polygons, different by module and tool."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import shapely

from backend.arrays import UNLABELED
from backend.microscope.devices import MATERIALS
from backend.microscope.equipment import EQUIPMENT
from backend.microscope.synthetic import make_image

SMALL = (128, 128)
EVERY = [(module, equipment) for module in MATERIALS for equipment in EQUIPMENT]


image_of = cache(make_image)  # images are frozen: tests may share them


def test_same_seed_gives_the_same_bytes():
    """Image, labels and truth depend on the arguments alone."""
    first, second = (make_image("gate", "A", 5, SMALL) for _ in range(2))

    assert first.image.tobytes() == second.image.tobytes()
    assert first.label_map.tobytes() == second.label_map.tobytes()
    assert first.truth == second.truth


def test_another_seed_gives_another_device():
    """A seed changes the device, not only the noise."""
    first, second = (image_of("active", "C", seed, SMALL) for seed in (1, 2))

    assert (first.label_map != second.label_map).mean() > 0.02


@pytest.mark.parametrize(("module", "equipment"), EVERY)
def test_labels_agree_with_polygons_at_pixel_centers(module, equipment):
    """The label of a pixel is the material at its centre, by shapely's own judgement."""
    image = image_of(module, equipment, 0, SMALL).without_databar()
    rows, columns = np.mgrid[: image.device_rows, : SMALL[1]]

    for label, name in enumerate(image.materials):
        inside = shapely.contains_xy(image.polygons_px[name], columns, rows)
        assert ((image.label_map == label) == inside).all()


@pytest.mark.parametrize(("module", "equipment"), EVERY)
def test_fractions_sum_to_one_above_the_databar(module, equipment):
    """Each pixel of the device belongs to the materials wholly."""
    image = image_of(module, equipment, 0, SMALL)

    total = image.fractions.sum(axis=0)

    assert np.allclose(total[: image.device_rows], 1, atol=1e-5)
    assert (total[image.device_rows :] == 0).all()


def test_fractions_hold_the_area_of_the_polygons():
    """Trap T1 in a whole image: no material gains by being sampled."""
    image = image_of("gate", "A", 0, SMALL)
    picture = shapely.box(-0.5, -0.5, 127.5, 127.5)

    for share, name in zip(image.fractions, image.materials, strict=True):
        area = (image.polygons_px[name] & picture).area
        assert share.sum(dtype=np.float64) == pytest.approx(area, rel=1e-3)


@pytest.mark.parametrize("equipment", EQUIPMENT)
def test_equipment_stores_what_it_says(equipment):
    """Depth, data bar and mode follow the preset."""
    image = image_of("gate", equipment, 0, SMALL)
    preset = EQUIPMENT[equipment]

    assert image.image.dtype == (np.uint8 if preset.bits == 8 else np.uint16)
    assert (image.device_rows < SMALL[0]) == preset.databar
    assert image.metadata["equipment"]["name"] == equipment


def test_databar_counts_nowhere():
    """Its pixels are unlabeled; cutting it off leaves a fully labeled image."""
    image = image_of("gate", "B", 0, SMALL)

    cut = image.without_databar()

    assert (image.label_map[image.device_rows :] == UNLABELED).all()
    assert (cut.label_map != UNLABELED).all()
    assert cut.image.shape == cut.label_map.shape == cut.fractions.shape[1:]


def test_negative_shows_metal_bright():
    """Tool C stores negatives: what absorbs most is bright there and dark on tool A."""
    shades = {}
    for name in ("A", "C"):
        image = image_of("gate", name, 0, SMALL)
        metal = image.label_map == image.materials.index("Metal")
        shades[name] = image.image[metal].mean() / image.image.mean()

    assert shades["A"] < 0.8
    assert shades["C"] > 1.2


@pytest.mark.parametrize(("module", "structure"), [("gate", "gate"), ("active", "trench")])
def test_truth_agrees_with_the_label_map(module, structure):
    """Mid widths agree with runs of labels, within a pixel and the roughness of one row."""
    image = image_of(module, "A", 2, (384, 384))
    measured = {"gate": "Metal", "active": "Si"}[module]
    inside = image.label_map == image.materials.index(measured)
    mcds = [row for row in image.truth if row.measurement in {"gate_mcd", "act_mcd"}]

    for row in mcds:
        line = inside[round(row.center_px[0])]
        center = round(row.center_px[1])
        left = np.flatnonzero(~line[:center])[-1]
        right = center + np.flatnonzero(~line[center:])[0]
        width_nm = (right - left - 1) * image.nm_per_px_x
        # the band of the true width averages over roughness, one row of labels does not
        assert row.value == pytest.approx(width_nm, abs=2 * image.nm_per_px_x + 1.5)
    assert any(row.structure == structure for row in image.truth)


@pytest.mark.parametrize("shape", [(48, 48), (97, 311), (300, 101)])
@pytest.mark.parametrize("module", MATERIALS)
def test_any_shape_is_drawn(module, shape):
    """Odd, wide, tall and tiny pictures are drawn in full, and no truth is NaN."""
    image = image_of(module, "B", 0, shape)

    assert image.image.shape == image.label_map.shape == shape
    assert np.isfinite([row.value for row in image.truth]).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fin", "A", 0), "module is 'fin': use one of gate, active"),
        (("gate", "D", 0), "equipment is 'D': use one of A, B, C"),
        (("gate", "A", -1), "seed is -1: use 0 or more"),
        (("gate", "A", 0, (20, 500)), "both sides need at least 48 px"),
    ],
)
def test_mistakes_get_a_sentence(arguments, sentence):
    """What is wrong, with the value, and what to do."""
    with pytest.raises(ValueError, match=sentence):
        image_of(*arguments)


def test_metadata_and_truth_are_ready_for_json():
    """No NumPy scalar hides in what is written beside the image."""
    image = image_of("active", "B", 0, SMALL)

    text = json.dumps([image.metadata, [asdict(row) for row in image.truth]])

    assert "signal_black" in text


def test_degenerate_slivers_are_measured():
    """Seed 311 leaves slivers that GEOS's fast clipping cannot close into rings."""
    assert image_of("active", "B", 311, (200, 640)).truth
