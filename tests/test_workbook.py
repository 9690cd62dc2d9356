"""An Excel file holds what the database does, as numbers and texts."""

import json
from contextlib import closing

import pytest
from cd_runs import MODEL, gate_run, gates
from openpyxl import load_workbook

from backend.metrology import workbook
from backend.metrology.database import open_database, write_run
from backend.metrology.workbook import write_workbook
from scripts.report_cds import main


@pytest.fixture
def database(tmp_path):
    """A database of two images, one of them measured with a model, too."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        write_run(database, gate_run(0, name="=1+1"), gates(40.0, 41.0))
        write_run(database, gate_run(1), gates(45.0))
        write_run(database, gate_run(1, model=MODEL), gates(44.0))
        yield database


def sheets(path):
    """Rows of each sheet by its name, as dicts."""
    found = {}
    for sheet in load_workbook(path):
        head, *rows = sheet.iter_rows(values_only=True)
        found[sheet.title] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def test_each_sheet_has_its_rows(database, tmp_path):
    """Numbers stay numbers; scale, status and recipe are at hand."""
    found = sheets(write_workbook(database, tmp_path / "cds.xlsx"))
    assert {name: len(rows) for name, rows in found.items()} == {
        "images": 3, "CDs": 12, "statistics": 9, "runs": 3, "recipes": 1,
    }  # fmt: skip
    assert found["images"][0]["gate_mcd.1 (nm)"] == 8.2
    (mean,) = [row["mean"] for row in found["statistics"]
               if (row["image"], row["measurement"]) == ("=1+1", "gate_mcd")]  # fmt: skip
    assert mean == pytest.approx(8.1)
    run = found["runs"][-1]
    assert (run["nm_per_px_x"], run["calibration_note"]) == (0.2, "stage micrometer")
    assert (run["status"], run["model"]) == ("ok", "segmentation")
    assert json.loads(found["recipes"][0]["definition"])["name"] == "gate"


def test_no_name_is_computed(database, tmp_path):
    """A text that begins with = is no formula."""
    path = write_workbook(database, tmp_path / "cds.xlsx")
    cell = load_workbook(path)["images"]["A2"]
    assert (cell.value, cell.data_type) == ("=1+1", "s")


def test_what_does_not_fit_a_sheet_is_refused(database, tmp_path, monkeypatch):
    """With a sentence, and without a file."""
    monkeypatch.setattr(workbook, "MAX_ROWS", 12)
    with pytest.raises(ValueError, match=r"12 rows of .* do not fit a sheet of Excel"):
        write_workbook(database, tmp_path / "cds.xlsx")
    assert not (tmp_path / "cds.xlsx").exists()


def test_an_empty_database_gives_empty_sheets(tmp_path):
    """Nothing measured is no error."""
    with closing(open_database(tmp_path / "none.db")) as database:
        book = load_workbook(write_workbook(database, tmp_path / "none.xlsx"))
    assert book.sheetnames == ["images", "CDs", "statistics", "runs", "recipes"]


@pytest.mark.usefixtures("database")
def test_the_report_brings_it(tmp_path):
    """On demand."""
    given = ["--database", str(tmp_path / "cds.db"), "--out", str(tmp_path / "report")]
    assert main(given) == 0
    assert not (tmp_path / "report" / "cds.xlsx").exists()
    assert main([*given, "--xlsx"]) == 0
    assert len(sheets(tmp_path / "report" / "cds.xlsx")["CDs"]) == 12
