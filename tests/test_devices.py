"""Drawn devices tile their window, and differ as their designs do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import shapely

from backend.microscope.devices import (
    MATERIALS,
    build_active,
    build_gate,
    draw_active_design,
    draw_gate_design,
    sheared,
)

FIELD_NM = (150.0, 180.0)
BUILD = {
    "gate": (draw_gate_design, build_gate),
    "active": (draw_active_design, build_active),
}


@cache
def device_of(module, seed=0):
    """A device of the module with a design of its own."""
    rng = np.random.default_rng(seed)
    draw, build = BUILD[module]
    return build(draw(FIELD_NM, rng), 120, rng)


@pytest.mark.parametrize("module", MATERIALS)
@pytest.mark.parametrize("seed", range(3))
def test_materials_tile_the_window(module, seed):
    """No gap, no overlap: what is not one material is another."""
    polygons = device_of(module, seed).polygons

    assert tuple(polygons) == MATERIALS[module]
    assert sum(shape.area for shape in polygons.values()) == pytest.approx(240**2, rel=1e-9)
    assert shapely.union_all(list(polygons.values())).area == pytest.approx(240**2, rel=1e-9)


@pytest.mark.parametrize("module", MATERIALS)
def test_every_material_is_there(module):
    """All four materials show, none by a few pixels only."""
    polygons = device_of(module).polygons

    assert all(shape.area > 0.01 * 240**2 for shape in polygons.values())


def test_gate_oxide_separates_metal_from_silicon():
    """The thin film is closed however rough its faces are."""
    for seed in range(3):
        polygons = device_of("gate", seed).polygons
        assert polygons["Metal"].distance(polygons["Si"]) > 0.5


def test_liner_separates_fill_from_silicon():
    """Below the surface, oxide and silicon never touch."""
    for seed in range(3):
        device = device_of("active", seed)
        top = device.features[0].base_nm + device.features[0].height_nm
        below = shapely.box(-100, -110, 100, top - 10)
        assert (device.polygons["Oxide"] & below).distance(device.polygons["Si"] & below) > 0.3


def test_recess_lowers_the_fill():
    """A fill recessed by 4 nm takes less area than a proud one."""
    design = draw_active_design(FIELD_NM, np.random.default_rng(0))
    low, high = (
        build_active(replace(design, recess_nm=recess), 120, np.random.default_rng(1))
        for recess in (-4, 3)
    )

    assert low.polygons["Oxide"].area < high.polygons["Oxide"].area


def test_shear_keeps_areas_and_levels():
    """Drift along the interface moves points sideways only."""
    device = device_of("gate")

    drifted = sheared(device, 0.01)

    assert drifted.polygons["Metal"].area == pytest.approx(device.polygons["Metal"].area)
    assert drifted.polygons["Si"].bounds[3] == device.polygons["Si"].bounds[3]
