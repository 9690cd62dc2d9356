"""Tables for engineers: rounded, readable, and no pixel among nanometres."""

import csv
from contextlib import closing
from dataclasses import replace

import pytest
from cd_runs import MODEL, gate_run, gates, lost, width

from backend.metrology.database import open_database, write_run
from backend.metrology.results import Measured
from backend.metrology.tables import long_table, wide_table, write_tables


@pytest.fixture
def database(tmp_path):
    """An empty CD database."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        yield database


def test_long_table_has_a_row_for_each_cd(database):
    """8.0246 nm read 8.02, 87.46 degrees 87.5; small uncertainties keep a digit more."""
    write_run(database, gate_run(), gates(40.123))
    rows = {row["measurement"]: row for row in long_table(database)}

    assert {name: row["value"] for name, row in rows.items()} == {
        "gate_mcd": 8.02, "gate_swa": 87.0, "gate_area": 80.0,
    }  # fmt: skip
    assert (rows["gate_mcd"]["u_value"], rows["gate_mcd"]["value_px"]) == (0.02, 40.123)
    assert (rows["gate_mcd"]["image"], rows["gate_mcd"]["recipe"]) == ("gate_0.tif", "gate")


def test_wide_table_has_a_row_for_each_image(database):
    """Columns are measurement, instance and side; what an image lacks is empty."""
    write_run(database, gate_run(0), gates(40.0, 41.0))
    write_run(database, gate_run(1), Measured("review", (width(0, 45.0), lost(1))))
    write_run(database, gate_run(1, model=MODEL), gates(44.0))

    names = ("image", "source", "gate_mcd.0 (nm)", "gate_mcd.1 (nm)", "gate_swa.1.left (deg)")
    assert [tuple(row[name] for name in names) for row in wide_table(database)] == [
        ("gate_0.tif", "ground_truth", 8.0, 8.2, 87.0),
        ("gate_1.tif", "ground_truth", 9.0, None, None),
        ("gate_1.tif", "inference", 8.8, None, None),
    ]


def test_pixels_have_columns_of_their_own(database):
    """40 px in a column of nanometres would look like a wide gate."""
    write_run(database, gate_run(0), gates(40.0))
    write_run(database, gate_run(1, calibration=None), gates(40.0))

    found = [(row["gate_mcd.0 (nm)"], row["gate_mcd.0 (px)"]) for row in wide_table(database)]
    assert found == [(8.0, None), (None, 40.0)]


def test_quantities_have_columns_of_their_own(database):
    """The thinnest place of a film is not its mean."""
    cds = [
        replace(width(0, value), quantity=name) for name, value in (("mean", 40.0), ("min", 30.0))
    ]
    write_run(database, gate_run(), Measured("ok", tuple(cds)))

    (row,) = wide_table(database)
    assert (row["gate_mcd.0 (nm)"], row["gate_mcd.min.0 (nm)"]) == (8.0, 6.0)


def test_files_can_be_read_again(database, tmp_path):
    """As CSV, also names that hold commas and umlauts."""
    write_run(database, gate_run(name='Gräte, "2".tif'), gates(40.0))

    long, wide = write_tables(database, tmp_path / "out")

    for path, count in ((long, 3), (wide, 1)):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["image"] for row in rows] == ['Gräte, "2".tif'] * count


def test_empty_database_gives_empty_tables(database):
    """And no error."""
    assert long_table(database) == wide_table(database) == []
