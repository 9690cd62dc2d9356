"""Scenes of the accuracy proof: their truth is what is drawn."""

import math

import numpy as np
import pytest

from backend.metrology.accuracy_scenes import GRAY, LABELS, SceneSettings, draw_scene


def scene(seed=0, **settings):
    """Draw one scene."""
    return draw_scene(SceneSettings(**settings), np.random.default_rng(seed))


def metal_area(one):
    """Area of both gates in the label, px^2."""
    return np.count_nonzero(one.subject.label_map == LABELS.index("Metal"))


def test_gates_have_the_area_of_their_trapezoids():
    """Width at half height x height, whatever the tilt."""
    for tilt in (-1.7, 0.0, 1.7):
        one = scene(tilt=(tilt, tilt))
        assert metal_area(one) == pytest.approx(2 * 37.3 * 60.4, rel=0.01)


def test_wrong_label_is_wrong_by_as_much_as_asked():
    """2 px outward on each of four walls; the gray values don't move."""
    right, wrong = scene(), scene(label_off=(2.0, 2.0))
    assert metal_area(wrong) - metal_area(right) == pytest.approx(4 * 2 * 60.4, rel=0.06)
    assert np.array_equal(right.subject.gray, wrong.subject.gray)


def test_gray_values_are_those_of_the_materials():
    """Without noise; the film is so thin that its neighbours shine into it."""
    one = scene()
    for index, gray in enumerate(GRAY):
        values = one.subject.gray[one.subject.label_map == index]
        assert np.median(values) == pytest.approx(gray, abs=15 if LABELS[index] == "Oxide" else 0.1)


def test_noise_is_that_of_the_contrast():
    """CNR 10 on a contrast of 120 is a sigma of 12."""
    difference = scene(cnr=10.0).subject.gray - scene().subject.gray
    assert difference.std() == pytest.approx(12, rel=0.03)
    assert scene(dose=200.0).subject.gray.std() > scene().subject.gray.std()


def test_curtains_begin_under_the_gates():
    """Nothing changes above them."""
    difference = np.abs(scene(curtain=0.1).subject.gray - scene().subject.gray)
    assert difference[:30].max() < 1e-9
    assert difference[-30:].max() > 1


def test_walls_lean_by_their_angle():
    """The metal's lowest row is wider than its highest by 2 h / tan(angle)."""
    one = scene(tilt=(0.0, 0.0), angle=80.0)
    counts = (one.subject.label_map == LABELS.index("Metal")).sum(axis=1)
    rows = counts[counts > 0]
    expected = 2 * 2 * 60.4 / math.tan(math.radians(80))  # of two gates
    assert rows[-1] - rows[0] == pytest.approx(expected, abs=4)
