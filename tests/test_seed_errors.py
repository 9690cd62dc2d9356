"""How well a model knows an edge, place by place."""

import numpy as np
import pytest
from drawings import recipe, rows_of, subject
from scipy.special import ndtr

from backend.metrology.seed_errors import LEAST_ERROR, LEAST_S_PX, ProbabilityError

ALONG = np.arange(0, 100, 0.5)


def error(s_below, s_above):
    """An edge of 100 px whose upper half is known otherwise than the lower one."""
    s = np.where(ALONG < 50, s_below, s_above)
    return ProbabilityError(ALONG, 1 / (s * np.sqrt(2 * np.pi)))


def test_doubt_is_that_of_the_place():
    """An eighth as sure above as below."""
    found = error(1.0, 8.0)
    assert found.s_px(10, 12) == pytest.approx(1)
    assert found.s_px(90, 92) == pytest.approx(8)
    assert found.of_mean(90, 92) == pytest.approx(8 * found.of_mean(10, 12))


def test_each_half_of_a_line_has_its_own_doubt():
    """The slope is as uncertain as the vaguer half makes it."""
    alike, vague = error(1.0, 1.0), error(1.0, 8.0)
    assert alike.of_slope(10, 90) == pytest.approx(np.sqrt(2) * alike.of_mean(0, 40) / 40)
    assert vague.of_slope(10, 90) > 4 * alike.of_slope(10, 90)


def test_place_without_an_edge_has_the_doubt_of_the_whole():
    """And an edge that is nowhere known is not known at all."""
    found = error(2.0, 2.0)
    assert found.s_px(200, 210) == pytest.approx(2)
    assert ProbabilityError(ALONG, np.full_like(ALONG, np.nan)).s_px(0, 9) == 20


def test_no_edge_is_known_better_than_a_sure_one():
    """The least there is, all along."""
    assert LEAST_ERROR.s_px(40, 60) == error(0.01, 0.01).s_px(40, 60) == LEAST_S_PX


def test_top_in_doubt_makes_the_top_width_uncertain_and_no_other():
    """The walls of a gate are vague over their upper third."""
    rows, columns = np.mgrid[:200, :160].astype(float)
    s = np.where(rows < 85, 8.0, 1.0)
    gate = (
        ndtr(np.minimum(columns - 50.3, 110.4 - columns) / s) * ndtr(rows - 50) * ndtr(150 - rows)
    )
    shares = np.stack([np.zeros_like(gate), 1 - gate, gate, np.zeros_like(gate)])
    one = subject(shares.argmax(axis=0).astype(np.uint8), probabilities=shares, is_inferred=True)
    at = {"tcd": 0.9, "mcd": 0.5}
    rules = [{"id": n, "kind": "width", "of": "gate", "at": {"fraction": f}} for n, f in at.items()]
    found = rows_of(one, recipe(*rules, edges={"prefer": ["prob"]}))
    u = {cd.measurement: cd.u_value for cd in found.values()}
    assert u["mcd"] < 2
    assert 8 < u["tcd"] < 12
