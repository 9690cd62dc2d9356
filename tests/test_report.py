"""A folder for a meeting: what was measured, what is outside, and how far a model is off."""

import csv
import html
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cd_runs import MODEL, gate_run, gates, lost, width

from backend.metrology.database import open_database, write_run
from backend.metrology.report import ReportOptions, write_report
from backend.metrology.results import Measured
from scripts.report_cds import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report on three images, also measured by a model; a gate is too wide, one is lost."""
    path = tmp_path_factory.mktemp("report") / "cds.db"
    with closing(open_database(path)) as database:
        for number, width_px in enumerate((40.0, 41.0, 45.0)):
            measured = gates(width_px, 40.0)
            measured = replace(measured, cds=(*measured.cds, lost(2)))
            name = f"<b>{number}</b>.tif"
            write_run(database, gate_run(number, name=name), measured)
            write_run(database, gate_run(number, name=name, model=MODEL), gates(width_px + 1))
        options = ReportOptions(overlays=True, baseline=2)
        return write_report(database, path, path.parent / "out", options).parent


@pytest.fixture
def page(folder):
    """Its page."""
    return (folder / "index.html").read_text("utf-8")


def test_page_shows_counts_and_violations(page):
    """9 nm is above 8.5; the lost gate is not passed over; names are no markup."""
    assert "<td>gate_mcd</td><td></td><td></td><td>3</td><td>6</td><td>0</td><td>3</td>" in page
    assert "<td>9.0</td>" in page
    assert "<td>high</td>" in page
    assert "<td>not measured</td>" in page
    assert html.escape("<b>0</b>.tif") in page
    assert "<b>" not in page


def test_bias_of_the_model_is_told(folder):
    """0.2 nm and 1 px over three images, one gate of each found only by the annotator."""
    with (folder / "label_vs_model.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {(row["measurement"], row["unit"]): row for row in csv.DictReader(file)}
    names = ("pairs", "images", "only_label", "only_model", "bias", "three_sigma")
    assert [rows["gate_mcd", "nm"][name] for name in names] == ["3", "3", "3", "0", "0.2", "0.0"]
    assert rows["gate_mcd", "px"]["bias"] == "1.0"


def test_all_that_the_page_shows_is_there(folder, page):
    """Each figure and each overlay is a file beside it."""
    shown = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert all((folder / name).stat().st_size > 1000 for name in shown)
    assert len([name for name in shown if name.startswith("overlays/")]) == 6
    assert len([name for name in shown if "agreement" in name]) == 3
    assert len([name for name in shown if "series" in name]) == 6


def test_empty_database_gives_a_page(tmp_path):
    """That says there is nothing."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        page = write_report(database, tmp_path / "cds.db", tmp_path / "out")

    assert page.read_text("utf-8").count("<p>Nothing.</p>") == 5


def test_script_writes_the_report_and_tells_how_to_browse(tmp_path, capsys):
    """The page, and the command for Datasette with a copy and its metadata."""
    path, out = tmp_path / "cds.db", tmp_path / "r"
    with closing(open_database(path)) as database:
        write_run(database, gate_run(), Measured("ok", (width(),)))

    assert main(["--database", str(path), "--out", str(out), "--browse"]) == 0

    page, command = capsys.readouterr().out.splitlines()
    assert Path(page).exists()
    copy, metadata = command.split()[2], command.split()[4]
    assert Path(copy).exists()
    assert Path(metadata).exists()


def test_script_tells_of_a_missing_database(tmp_path, capsys):
    """One sentence, and nothing is made."""
    arguments = ["--database", str(tmp_path / "no.db"), "--out", str(tmp_path / "r")]

    assert main(arguments) == 2

    assert "there is no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
