"""Images with known truth are measured within their error bars, and what fails says so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawings import recipe as drawing_recipe
from drawings import subject as drawn

from backend.metrology.measure import measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.synthetic import make_image

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"
MATERIALS = {
    "gate": {"si": "Si", "ox": "Oxide", "gate": "Metal", "sp": "Nitride"},
    "active": {"si": "Si", "liner": "Liner", "fill": "Oxide", "cap": "Cap"},
}


def recipe(module, prefer=("label",), u_place_px=0.0, **changes):
    """One of the package's recipes for synthetic images."""
    content = yaml.safe_load((RECIPES / f"dram_{module}.yaml").read_text("utf-8"))
    content |= {"materials": MATERIALS[module], "roi_fraction": [0, 0, 1, 1], **changes}
    content["edges"] |= {"prefer": list(prefer), "u_place_px": u_place_px, "u_gray_px": 0.05}
    return Recipe.model_validate(content)


@cache
def image(module, equipment, seed):
    """A synthetic image with its truth."""
    return make_image(module, equipment, seed, (400, 400)).without_databar()


def subject(synthetic):
    """Its true labels."""
    scale = Calibration(synthetic.nm_per_px_x, synthetic.nm_per_px_y, "manual")
    return Subject(synthetic.label_map, synthetic.materials, scale)


def errors(synthetic, measured, measurement, quantity=""):
    """Value minus truth, in sigmas, of the rows that have a true value near them."""
    nm = subject(synthetic).calibration.nm_per_px
    found = []
    for true in (row for row in synthetic.truth if row.measurement == measurement):
        for cd in measured.cds:
            same = (cd.measurement, cd.side, cd.at_fraction or true.fraction, cd.quantity) == (
                measurement, true.side, true.fraction, quantity
            )  # fmt: skip
            near = cd.center and abs(cd.center[1] - true.center_px[1]) < cd.reach_px
            if same and near and true.quantity in ("value", quantity) and cd.value is not None:
                unit = {"px": nm, "px^2": nm**2}.get(cd.unit, 1)
                found.append((cd.value * unit - true.value) / (cd.u_value * unit))
    return np.array(found)


@pytest.mark.parametrize(
    ("measurement", "quantity"),
    [
        ("gate_tcd", ""),
        ("gate_mcd", ""),
        ("gate_bcd", ""),
        ("gate_h", ""),
        ("gox_t", "mean"),
        ("sp_t", "mean"),
        ("gate_area", ""),
        ("gate_ar", ""),
    ],
)
def test_perfect_labels_of_gates_give_true_cds(measurement, quantity):
    """Within four of the standard errors that each row states."""
    synthetic = image("gate", "A", 1)
    measured = measure_image(subject(synthetic), recipe("gate"))
    found = errors(synthetic, measured, measurement, quantity)
    assert len(found) >= 2
    assert np.abs(found).max() < 4


def test_what_is_not_there_is_a_row_that_says_so():
    """An image without gates has the rows of the gates that the recipe expects at least."""
    labels = np.zeros((200, 200), dtype=np.uint8)
    labels[:100] = 1
    empty = Subject(labels, ("Si", "Oxide", "Nitride", "Metal"), Calibration(0.3, 0.3, "manual"))
    measured = measure_image(empty, recipe("gate"))
    widths = [cd for cd in measured.cds if cd.measurement == "gate_mcd"]
    assert [(cd.status, cd.instance, cd.value) for cd in widths] == [
        ("missing", 0, None), ("missing", 1, None),
    ]  # fmt: skip
    assert measured.status == "failed"


def test_without_a_scale_nanometres_fail_and_pixels_do_not():
    """Structures told by their area in pixels are measured; an offset in nm is refused."""
    synthetic = image("gate", "A", 1)
    plain = Subject(synthetic.label_map, synthetic.materials)
    refused = measure_image(plain, recipe("gate"))
    assert {(cd.status, cd.flags) for cd in refused.cds if cd.kind != "ratio"} == {
        ("failed", ("uncalibrated",))
    }
    content = yaml.safe_load((RECIPES / "dram_gate.yaml").read_text("utf-8"))
    gate = content["structures"]["gate"]
    del gate["min_area_nm2"]
    measured = measure_image(plain, recipe("gate", structures={"gate": gate}))
    status = {(cd.measurement, cd.status) for cd in measured.cds}
    assert ("gate_mcd", "ok") in status
    assert {s for name, s in status if name == "gate_bcd"} == {"failed"}


def test_failed_rows_have_the_keys_of_those_that_succeed():
    """Whatever the labels show, the same values are reported for an instance."""
    synthetic = image("gate", "A", 1)
    upside_down = Subject(
        synthetic.label_map[::-1], synthetic.materials, subject(synthetic).calibration
    )
    good, bad = (
        {
            (cd.measurement, cd.side, cd.part, cd.quantity, cd.at_fraction)
            for cd in measure_image(one, recipe("gate")).cds
            if cd.kind != "ratio"
        }
        for one in (subject(synthetic), upside_down)
    )
    assert good == bad


@pytest.mark.parametrize(
    ("measurement", "quantity"),
    [
        ("act_tcd", ""),
        ("act_mcd", ""),
        ("trench_depth", ""),
        ("trench_bcd", ""),
        ("act_lean", ""),
        ("act_corner", ""),
        ("liner_side", "mean"),
        ("liner_bottom", "mean"),
        ("sti_recess", ""),
        ("trench_area", ""),
        ("liner_coverage", ""),
    ],
)
def test_perfect_labels_of_actives_give_true_cds(measurement, quantity):
    """Actives cut out of the common silicon: within four of their standard errors."""
    synthetic = image("active", "A", 0)
    measured = measure_image(subject(synthetic), recipe("active"))
    found = errors(synthetic, measured, measurement, quantity)
    assert len(found) >= 1
    assert np.abs(found).max() < 4


@pytest.mark.parametrize("seed", [0, 2])
def test_metal_with_a_light_skin_gives_no_wrong_cd_that_looks_right(seed):
    """The skin moves gray edges into the metal: rows are within four sigma of truth, or flagged."""
    synthetic = image("gate", "A", seed)
    with_gray = replace(subject(synthetic), gray=synthetic.image)
    rules = [
        rule
        for rule in recipe("gate").measurements
        if rule.id in ("gate_mcd", "gate_h", "gate_swa")
    ]
    measured = measure_image(with_gray, recipe("gate", ("gray", "label"), measurements=rules))
    sure = replace(measured, cds=tuple(cd for cd in measured.cds if cd.status == "ok"))
    found = np.concatenate([errors(synthetic, sure, rule.id) for rule in rules])
    assert "gray" in {cd.method for cd in measured.cds}
    assert len(found) >= 2
    assert np.abs(found).max() < 4


def test_what_runs_on_under_a_data_bar_is_cut_by_a_border():
    """Its height would be that of what the bar leaves of it."""
    labels = np.ones((200, 260), dtype=np.uint8)
    labels[:40] = 0
    for column, bottom in ((40, 150), (120, 188), (200, 150)):
        labels[40:bottom, column : column + 20] = 2
    labels[188:] = 255
    rule = {"id": "h", "kind": "height", "of": "gate"}

    found = measure_image(drawn(labels, databar_rows=12), drawing_recipe(rule)).cds

    assert [round(cd.value) for cd in found] == [110, 110]


def test_a_region_without_pixels_is_refused():
    """A hundredth of an image may be less than one."""
    labels = np.ones((41, 33), dtype=np.uint8)
    rule = {"id": "h", "kind": "height", "of": "gate"}
    with pytest.raises(ValueError, match=r"holds no pixel of an image of 33 x 41 px"):
        measure_image(drawn(labels), drawing_recipe(rule, roi_fraction=[0.5, 0.5, 0.51, 0.51]))
