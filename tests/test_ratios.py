"""Ratios are reported where all that they divide has a row."""

from dataclasses import replace

import pytest
from cd_runs import lost, width

from backend.metrology.ratios import ratio_rows
from backend.metrology.recipe import Ratio


def pitch(instance=0, **changes):
    """The distance to the next gate, 80 px."""
    return replace(width(instance, 80.0), measurement="gate_pitch", kind="pitch", **changes)


def ratio(expression):
    """A ratio by that expression."""
    return Ratio.model_validate({"id": "duty", "kind": "ratio", "expr": expression})


def test_the_last_gate_has_no_duty():
    """Three gates have two pitches: two rows, and none that failed."""
    cds = [width(0, 40.0), width(1, 44.0), width(2, 40.0), pitch(0), pitch(1)]

    rows = ratio_rows(ratio("gate_mcd / gate_pitch"), cds)

    found = [(row.instance, row.value, row.status) for row in rows]
    assert found == [(0, 0.5, "ok"), (1, 0.55, "ok")]


def test_a_pitch_that_was_not_found_is_no_silence():
    """One gate where two are expected: there should have been a pitch."""
    cds = [width(0), lost(1), replace(pitch(0), status="missing", value=None)]

    (row,) = ratio_rows(ratio("gate_mcd / gate_pitch"), cds)

    assert (row.instance, row.status, row.flags) == (0, "failed", ("no_operand",))


def test_pairs_pooled_have_no_row_at_the_last_gate():
    """Of an instance; there is none to pool."""
    cds = [width(0, 40.0), width(1, 44.0), pitch(0)]

    (row,) = ratio_rows(ratio("gate_mcd / mean(gate_pitch)"), cds)

    assert (row.instance, row.value) == (0, pytest.approx(0.5))
