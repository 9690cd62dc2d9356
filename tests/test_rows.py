"""Pixels become nanometres exactly, and what is no number says so."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from cd_runs import SCALE, angle, area, gates, width
from hypothesis import given
from hypothesis import strategies as st

from backend.metrology.results import MeasuredEdge
from backend.metrology.rows import edge_rows, measurement_rows, to_json, to_measured
from backend.microscope.calibration import Calibration

RUN = {"status": "ok", "flags": "[]", "tilt_deg": 1.5, "tilt_u_deg": 0.1}


def row_of(cd, calibration=SCALE):
    """The row of one CD."""
    (row,) = measurement_rows("run", [cd], calibration)
    return row


@given(st.floats(-1e4, 1e4), st.floats(0.005, 50))
def test_nanometres_are_pixels_times_the_scale(value, size):
    """To the last digit, areas by its square; an uncertain scale moves those twice as far."""
    calibration = Calibration(size, size, "manual", 0.01)
    length, surface = row_of(width(0, value), calibration), row_of(area(0, value), calibration)
    scale = calibration.nm_per_px

    assert (length["value"], length["value_px"]) == (value * scale, value)
    assert (surface["value"], surface["value_px"]) == (value * scale**2, value)
    assert length["u_scale"] == pytest.approx(abs(length["value"]) * 0.01)
    assert surface["u_scale"] == pytest.approx(abs(surface["value"]) * 0.02)


def test_company_of_a_value_is_in_its_unit():
    """40 px at 0.2 nm: 8 nm, 0.02 nm uncertain, from 7.8 to 8.2."""
    row = row_of(width(0, 40.0))

    found = {name: row[name] for name in ("value", "value_label", "u_value", "std", "min", "max")}
    expected = {
        "value": 8,
        "value_label": 8.1,
        "u_value": 0.02,
        "std": 0.04,
        "min": 7.8,
        "max": 8.2,
    }
    assert found == pytest.approx(expected)
    assert row["unit"] == "nm"


def test_isotropic_pixel_of_unequal_sides():
    """A pixel of 0.1 by 0.4 nm is as large as one of 0.2 nm."""
    assert row_of(width(0, 40.0), Calibration(0.1, 0.4, "manual"))["value"] == pytest.approx(8)


def test_angles_know_no_scale():
    """87 degrees remain, with no pixels beside them and nothing from the scale."""
    row = row_of(angle())

    assert (row["value"], row["unit"], row["value_px"], row["u_scale"]) == (87, "deg", None, 0)


def test_without_calibration_no_nanometre():
    """Pixels are kept, all that would be nanometres is NULL, and the row is flagged."""
    row = row_of(width(0, 40.0), None)

    empty = ("value", "value_label", "u_value", "u_scale", "std", "min", "max")
    assert [row[name] for name in empty] == [None] * len(empty)
    assert (row["value_px"], row["status"], row["flags"]) == (40, "flagged", '["uncalibrated"]')


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), None])
def test_no_number_is_a_failure(value):
    """A value that is none cannot be ok."""
    row = row_of(width(0, value=40.0, line=None), SCALE) | row_of(replace(width(), value=value))

    assert (row["value"], row["value_px"], row["status"]) == (None, None, "failed")
    assert json.loads(row["flags"]) == ["not_finite"]


def test_unknown_uncertainty_is_flagged():
    """An infinite one must not read as none given."""
    row = row_of(width(u_value=math.inf))

    assert (row["u_value"], row["status"], row["flags"]) == (None, "flagged", '["not_finite"]')


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_what_failed_has_no_value(status):
    """Even if one was left over from a fit that was not believed."""
    row = row_of(width(status=status, flags=("poor_fit",)))

    assert (row["value"], row["value_px"], row["u_value"], row["u_scale"]) == (None,) * 4
    assert (row["status"], row["flags"]) == (status, '["poor_fit"]')


def test_numpy_scalars_become_python_numbers():
    """SQLite would store them as bytes."""
    cd = replace(
        width(np.int64(2), np.float32(40)), u_value=np.float64(0.1), n_lines=np.int32(3),
        at_fraction=np.float32(0.5), center=(np.float32(3), np.int16(4)), reach_px=np.float32(2),
        line=(np.array([1, 2], np.float32), np.array([3, 4], np.float32)),
    )  # fmt: skip

    assert {type(value) for value in row_of(cd).values()} <= {str, int, float, type(None)}


def test_id_follows_from_what_was_measured():
    """Not from the value; side, level, quantity, instance and run each make another."""
    cd = width()
    others = [width(1), replace(cd, side="left"), replace(cd, quantity="max"),
              replace(cd, at_fraction=0.3), replace(cd, part="top")]  # fmt: skip

    assert row_of(replace(cd, value=3.0))["id"] == row_of(cd)["id"]
    ids = {row["id"] for row in measurement_rows("run", [cd, *others], SCALE)}
    ids |= {row["id"] for row in measurement_rows("other", [cd], SCALE)}
    assert len(ids) == 7
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_same_measurement_twice_is_refused():
    """One of the two would overwrite the other."""
    with pytest.raises(ValueError, match="gate_mcd of gate 0 was measured twice"):
        measurement_rows("run", [width(), width(value=41.0)], SCALE)


def test_half_a_line_is_none():
    """An end that lies nowhere cannot be drawn; points of an outline are left out."""
    row = row_of(width(line=((1.0, 2.0), (math.nan, 4.0)), geometry=(((1, 2), (math.nan, 4)),)))

    assert [row[name] for name in ("x0_px", "y0_px", "x1_px", "y1_px")] == [None] * 4
    assert row["geometry"] == "[[[2.0,1.0]]]"


def test_points_are_stored_x_first():
    """Row 150 of an image is y = 150."""
    row = row_of(width(0, 40.0))

    ends = [row[name] for name in ("x0_px", "y0_px", "x1_px", "y1_px", "cx_px", "cy_px")]
    assert ends == [80, 150, 120, 150, 100, 150]


def test_fragments_of_one_edge_are_all_kept():
    """Two pieces of the same side have ids of their own."""
    edge = MeasuredEdge("gate", 0, "top", "label", ((1.0, 2.0),))

    rows = edge_rows("run", [edge, replace(edge, points=((3.0, 4.0),))])

    assert len({row["id"] for row in rows}) == 2
    assert [row["points"] for row in rows] == ["[[2.0,1.0]]", "[[4.0,3.0]]"]


@pytest.mark.parametrize("calibration", [None, Calibration(0.3, 0.3, "manual")])
def test_rows_come_back_as_what_was_measured(calibration):
    """In pixels, to the last digit, with or without a scale."""
    measured = gates(40.0, 41.7)
    measurements = measurement_rows("run", measured.cds, calibration)

    again = to_measured(RUN, measurements, edge_rows("run", measured.edges))

    assert (again.edges, again.cds) == (measured.edges, measured.cds)


def test_a_note_flags_nothing_once_the_scale_is_known():
    """Why a better tier gave no edge leaves a value ok; so it is again without `uncalibrated`."""
    noted = width(flags=("low_cnr",))
    rows = measurement_rows("run", [noted], None)

    (again,) = to_measured(RUN, rows, []).cds

    assert (rows[0]["status"], again) == ("flagged", noted)


def test_json_holds_numbers_or_null():
    """Metadata of microscopes hold NumPy scalars, dates and NaN."""
    text = to_json({"b": np.float32(0.5), "a": [math.nan, np.arange(2)], "c": 1j})

    assert text == '{"a":[null,[0,1]],"b":0.5,"c":"1j"}'
