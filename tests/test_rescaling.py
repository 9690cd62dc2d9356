"""Another scale changes nanometres, and nothing that was measured."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from cd_runs import MODEL, SCALE, gate_recipe, gate_run, gates

from backend.metrology.database import open_database, write_run
from backend.metrology.records import RowError
from backend.metrology.rescaling import rescale
from backend.metrology.schema import NO_VIEWS, VIEWS
from backend.microscope.calibration import Calibration

NEW = Calibration(0.25, 0.25, "lattice", 0.002, detail="Si 111")
IN_NM = ("value", "value_label", "u_value", "std", "min", "max")  # and, with _px, in pixels
MADE = {"id", "run_id", "u_scale", *IN_NM}


@pytest.fixture
def database(tmp_path):
    """An empty CD database."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        yield database


def rows_of(database, run_id, table="measurements"):
    """What a run has left, in its order."""
    return list(database.table(table).rows_where("run_id = ?", [run_id], order_by="rowid"))


def test_lengths_follow_the_scale_and_areas_its_square(database):
    """From 0.2 to 0.25 nm; angles, pixels and places stay, and so does the old run."""
    old_id = write_run(database, gate_run(), gates(40.0, 41.0))
    before = rows_of(database, old_id)

    new_id = rescale(database, old_id, NEW)

    factors = {"nm": 1.25, "nm^2": 1.25**2, "deg": 1}
    for old, new in zip(before, rows_of(database, new_id), strict=True):
        for name in IN_NM:
            expected = old[name] and pytest.approx(old[name] * factors[old["unit"]], rel=1e-9)
            assert new[name] == expected
        same = old.keys() - MADE
        assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert rows_of(database, old_id) == before
    assert new_id != old_id


def test_rescaled_is_as_if_measured_with_that_scale(database, tmp_path):
    """Same ids, same rows, of all tables that hang on the run."""
    new_id = rescale(database, write_run(database, gate_run(), gates(40.0, 41.0)), NEW)
    with closing(open_database(tmp_path / "other.db")) as other:
        assert write_run(other, gate_run(calibration=NEW), gates(40.0, 41.0)) == new_id

        for table in ("measurements", "measurement_stats", "edges"):
            for one, two in zip(
                rows_of(database, new_id, table), rows_of(other, new_id, table), strict=True
            ):
                assert one == {
                    name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                    for name, value in two.items()
                }


def test_uncertainty_of_the_scale_is_the_new_one(database):
    """0.2 % of 10 nm, not 5 %."""
    new_id = rescale(database, write_run(database, gate_run(), gates(40.0)), NEW)

    row = rows_of(database, new_id)[0]
    assert (row["value"], row["u_scale"]) == (10, pytest.approx(0.02))


def test_a_model_stays_the_source(database):
    """And its image keeps what is known of it."""
    model = replace(MODEL, prior_sha256="c" * 64)
    errors = (RowError("gate_mcd", "", "", "", 1.5),)
    before = replace(gate_run(model=model), model_errors=errors)
    new_id = rescale(database, write_run(database, before, gates(40.0)), NEW)

    run = database.table("runs").get(new_id)
    assert (run["source"], run["model_id"]) == ("inference", model.id)
    assert new_id == replace(before, calibration=NEW).id
    assert database.table("images").get(run["image_id"])["lot"] == "L1"


def test_pixels_get_their_scale_afterwards(database):
    """With all they come with: as if measured with that scale."""
    new_id = rescale(database, write_run(database, gate_run(calibration=None), gates(40.0)), NEW)

    length, angle, _ = found = rows_of(database, new_id)
    assert (length["value"], length["u_value"], length["status"]) == (10, 0.025, "ok")
    assert (length["std"], length["min"], length["max"]) == (0.05, 9.75, 10.25)
    assert (angle["value"], angle["u_value"], angle["status"]) == (87, 0.1, "ok")
    assert write_run(database, gate_run(calibration=NEW), gates(40.0)) == new_id
    assert rows_of(database, new_id) == found


def test_older_rows_are_rescaled_too(tmp_path):
    """Those in nm know their pixels; of those without a scale only the value was kept."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database:
        runs = [write_run(database, gate_run(number, scale), gates(40.0))
                for number, scale in enumerate((SCALE, None))]  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(NO_VIEWS)
        for name in ("value_label", "u_value", "std", "min", "max"):
            connection.execute(f"ALTER TABLE measurements DROP COLUMN {name}_px")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm005_pixels'")
        connection.executescript(VIEWS)
    with closing(open_database(path)) as database:
        known, unknown = (rows_of(database, rescale(database, run, NEW)) for run in runs)
    assert [row["u_value_px"] for row in known] == [pytest.approx(0.1), None, pytest.approx(0.1)]
    assert (known[0]["u_value"], known[0]["status"]) == (pytest.approx(0.025), "ok")
    assert (unknown[0]["value"], unknown[0]["u_value"], unknown[0]["status"]) == (
        10, None, "flagged",
    )  # fmt: skip
    assert unknown[0]["flags"] == '["no_uncertainty"]'
    assert unknown[1]["status"] == "ok"


def test_a_run_that_exists_is_not_replaced(database):
    """Back to the first scale: its own rows are the better ones."""
    first = write_run(database, gate_run(), gates(40.3, 41.7))
    before = rows_of(database, first)

    assert rescale(database, rescale(database, first, NEW), SCALE) == first

    assert rows_of(database, first) == before


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"structures": {"gate": {"materials": ["gate"], "min_area_nm2": 150.0}}}, "min_area_nm2"),
        ({"measurements": [{"id": "gate_mcd", "kind": "width", "of": "gate",
                            "at": {"offset_nm": 2.0}}]}, "offset_nm"),
    ],
)  # fmt: skip
def test_what_is_placed_by_nanometres_is_measured_again(database, changes, key):
    """2 nm above the base is another height under another scale."""
    run_id = write_run(database, gate_run(recipe=gate_recipe(**changes)), gates(40.0))

    command = r"measure_cds.py with --dataset, .* for images/gate_0.tif and recipe gate 1; it will"
    with pytest.raises(ValueError, match=f"places by {key}, .* again: {command}"):
        rescale(database, run_id, NEW)

    assert database.table("runs").count == 1


def test_pixels_of_another_shape_are_measured_again(database):
    """The sentence gives the two numbers that would do."""
    run_id = write_run(database, gate_run(), gates(40.0))

    with pytest.raises(ValueError, match=r"give 0\.3 and 0\.3 nm"):
        rescale(database, run_id, Calibration(0.2, 0.45, "manual"))


def test_oblong_pixels_may_grow_in_proportion(database):
    """What counts is the shape, not that it is a square."""
    old = replace(SCALE, nm_per_px_x=0.2, nm_per_px_y=0.202)
    run_id = write_run(database, gate_run(calibration=old), gates(40.0))

    new_id = rescale(database, run_id, Calibration(0.4, 0.404, "manual"))

    (before, *_), (after, *_) = rows_of(database, run_id), rows_of(database, new_id)
    assert after["value"] == pytest.approx(2 * before["value"], rel=1e-9)


def run_of(database, run_id):
    """Status and flags of a run."""
    row = database.table("runs").get(run_id)
    return row["status"], json.loads(row["flags"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("review", "scale_conflict"), ("ok", "corrected_scale")),
        (("review", "scale_conflict", "no_align"), ("review", "no_align", "corrected_scale")),
        (("review", "unexpected_count:gate"), ("review", "unexpected_count:gate",
                                               "corrected_scale")),
        (("ok", "unknown_gamma"), ("ok", "unknown_gamma", "corrected_scale")),
        (("failed", "scale_conflict"), ("failed", "corrected_scale")),
    ],
)  # fmt: skip
def test_who_corrects_a_scale_has_looked_at_it(database, before, after):
    """What was under review for its scale is ok then, and no other review is ended by it."""
    measured = replace(gates(40.0), status=before[0], flags=before[1:])
    new_id = rescale(database, write_run(database, gate_run(), measured), NEW)
    assert run_of(database, new_id) == (after[0], list(after[1:]))
    assert run_of(database, rescale(database, new_id, NEW)) == (after[0], list(after[1:]))


def test_a_scale_confirmed_is_no_conflict(database):
    """The run was measured with the lattice against the file; the same scale again settles it."""
    told = replace(gates(40.0), status="review", flags=("scale_conflict",))
    run_id = write_run(database, gate_run(calibration=NEW), told)
    before = rows_of(database, run_id)
    assert rescale(database, run_id, NEW) == run_id
    assert run_of(database, run_id) == ("ok", ["corrected_scale"])
    assert rows_of(database, run_id) == before


def test_what_got_a_scale_is_not_uncalibrated(database):
    """Neither the run nor its rows."""
    without = replace(gates(40.0), flags=("uncalibrated",))
    new_id = rescale(database, write_run(database, gate_run(calibration=None), without), NEW)
    assert run_of(database, new_id) == ("ok", ["corrected_scale"])
    assert not any("uncalibrated" in row["flags"] for row in rows_of(database, new_id))


def test_unknown_run_is_told(database):
    """By its id."""
    with pytest.raises(KeyError, match="there is no run abc"):
        rescale(database, "abc", NEW)
