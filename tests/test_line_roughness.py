"""Roughness is that of the wall, wherever its stretch begins, and noise is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from drawings import drawing, recipe, rows_of, subject

from backend.metrology.line_roughness import QUANTITIES
from backend.microscope.roughness import Roughness, palasantzas_noise

LINES, TRUE_3S, NOISE_3S = 512, 1.80, 1.38
RULE = {"id": "l", "kind": "roughness", "of": "gate", "quantity": "ler", "sides": ["right"]}


def walls(shift, seed):
    """A gate of 560 px whose right wall is rough and found with noise, row by row.

    The belief of a model that knows each row's edge exactly; `shift` moves the image in v.
    """
    rng = np.random.default_rng(seed)
    rough = palasantzas_noise(600, 1.0, Roughness(TRUE_3S / 3, 10.0, 0.7), rng)
    rough *= TRUE_3S / 3 / rough.std()
    edge = 60 + rough + rng.normal(0, NOISE_3S / 3, 600)
    columns = np.arange(100)
    belief = np.clip(0.5 + (edge[:, None] - columns) / 4, 0, 1)
    belief = np.minimum(belief, np.clip(0.5 + (columns - 20) / 4, 0, 1))
    rows = np.arange(600)[:, None]
    # the top's place decides where between two rows the stretch begins
    belief = np.minimum(belief, np.clip(0.5 + (rows - 20 - shift) / 4, 0, 1))
    belief = np.minimum(belief, np.clip(0.5 + (580 - rows) / 4, 0, 1))
    return np.stack([np.zeros_like(belief), 1 - belief, belief, np.zeros_like(belief)])


def found(shift, seed, tilt_deg=0.0):
    """Values by quantity of one wall of about 512 lines."""
    belief = walls(shift, seed)
    one = subject(belief.argmax(axis=0).astype(np.uint8), probabilities=belief)
    rule = RULE | {"between_fractions": [0.0429, 0.957]}
    frame = {"align": "angle", "angle_deg": tilt_deg}
    rows = rows_of(one, recipe(rule, edges={"prefer": ["prob"]}, frame=frame))
    return {name: rows["l", 0, "right", name] for name in QUANTITIES}


def mean_of(quantity, shift, tilt_deg=0.0):
    """Mean over eight walls: of one of so many lines the roughness varies by a tenth."""
    return np.mean([found(shift, seed, tilt_deg)[quantity].value for seed in range(8)])


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.8])
def test_noise_is_told_apart_wherever_the_stretch_begins(shift):
    """Plain 3 sigma is 2.27 px; without its noise it is that of the wall, 1.80."""
    assert mean_of("3s", shift) == pytest.approx(np.hypot(TRUE_3S, NOISE_3S), abs=0.06)
    assert mean_of("floor", shift) == pytest.approx(NOISE_3S, abs=0.1)
    assert mean_of("3s_unbiased", shift) == pytest.approx(TRUE_3S, abs=0.06)


def test_a_turned_frame_changes_no_roughness():
    """Scan lines stay those of the image: nothing is interpolated between them."""
    plain, turned = (found(0.3, 0, tilt_deg) for tilt_deg in (0.0, 2.0))
    for name in QUANTITIES:
        assert turned[name].value == pytest.approx(plain[name].value, rel=0.05)


@pytest.mark.parametrize(("tilt_deg", "most"), [(0.0, 0.05), (2.0, 0.8)])
def test_both_walls_count_on_one_level(tilt_deg, most):
    """Walls that swing together by 3 sigma of 6.4 px leave the width alone.

    In a turned frame their rows meet to half a pixel; those of one row lie 2 px apart in height.
    """
    rows, columns = np.indices((600, 200))
    turn = np.radians(tilt_deg)
    u = (columns - 100) * np.cos(turn) + (rows - 300) * np.sin(turn)
    v = (columns - 100) * np.sin(turn) - (rows - 300) * np.cos(turn)
    belief = np.clip(0.5 + (30 - np.abs(u - 3 * np.sin(2 * np.pi * v / 37))) / 4, 0, 1)
    belief = np.where((rows > 20) & (rows < 580), belief, 0.0)
    shares = np.stack([np.zeros_like(belief), 1 - belief, belief, np.zeros_like(belief)])
    one = subject(shares.argmax(axis=0).astype(np.uint8), probabilities=shares)
    by = recipe(
        RULE | {"quantity": "lwr"},
        edges={"prefer": ["prob"]},
        frame={"align": "angle", "angle_deg": tilt_deg},
    )
    assert rows_of(one, by)["l", 0, "", "3s"].value < most


@pytest.mark.parametrize(("quantity", "side", "edges"), [("ler", "right", 1), ("lwr", "", 2)])
def test_a_drawn_wall_may_have_the_roughness_of_the_brush(quantity, side, edges):
    """Nobody can tell apart what the hand and what the wall did."""
    rule = RULE | {"quantity": quantity, "sides": ["right"]}
    row = rows_of(subject(drawing()), recipe(rule, edges={"prefer": ["label"], "u_place_px": 0.5}))
    assert row["l", 0, side, "3s"].u_value >= 3 * 0.5 * np.sqrt(edges)


@pytest.mark.parametrize("tilt_deg", [0.5, 1.5, 3.0])
def test_rounding_of_a_straight_wall_is_within_its_uncertainty(tilt_deg):
    """A slow sawtooth passes for roughness, which is 0: the uncertainty says so."""
    rows, columns = np.mgrid[:1000, :260]
    middle = 130 + (rows - 500) * np.tan(np.radians(tilt_deg))
    labels = np.ones((1000, 260), np.uint8)
    labels[(np.abs(columns - middle) < 20.3) & (rows >= 20) & (rows < 980)] = 2
    rule = {"id": "lwr", "kind": "roughness", "of": "gate", "quantity": "lwr"}
    one = subject(labels, is_inferred=True)  # no hand drew it
    row = rows_of(one, recipe(rule, edges={"prefer": ["label"]}))["lwr", 0, "", "3s_unbiased"]
    assert 0 < row.value < 2 * row.u_value < 3
