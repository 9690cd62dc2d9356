"""The command that evaluates, on small images."""

import csv
import sys

import pytest
from PIL import Image

from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image
from scripts.evaluate import main

SMALL = ["--quick", "--size", "96"]


@pytest.fixture
def folder(tmp_path):
    """One gate, as a folder of images and masks."""
    save_image(make_image("gate", "A", 7, (96, 96)), tmp_path / "set", "gate")
    return tmp_path / "set"


def test_everything_is_written_and_a_second_call_only_draws_it(tmp_path, folder, capsys):
    """Synthetic images and a folder, two methods, all figures, the table at the end."""
    command = [*SMALL, "--folder", str(folder), "--out", str(tmp_path / "out")]

    assert main(command) == 0
    table = (tmp_path / "out" / "turns.csv").read_text()
    shown = capsys.readouterr().out
    assert main(command) == 0

    rows = list(csv.DictReader(table.splitlines()))
    assert {row["data_set"] for row in rows} == {"gate A 96 px", "active A 96 px", "set"}
    assert len(rows) == 3 * 2 * 2
    assert all(0.3 < float(row["accuracy"]) <= 1 and float(row["cpu_s"]) > 0 for row in rows)
    assert "guide: a turn of right strokes cost" in shown
    assert (tmp_path / "out" / "turns.csv").read_text() == table
    assert capsys.readouterr().out == shown
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {"fig5_accuracy.png", "fig89_gate_A_96_px_guide.png", "fig89_set_forest.png"} <= pictures


def test_named_options_win_over_quick(tmp_path):
    """Only what is not named is made small."""
    options = ["--modules", "gate", "--methods", "forest", "--turns", "1", "--out", str(tmp_path)]

    assert main([*SMALL, *options]) == 0

    assert len((tmp_path / "turns.csv").read_text().splitlines()) == 1 + 1


def test_missing_folder_ends_in_one_sentence(tmp_path, capsys):
    """No traceback for a user's mistake."""
    command = ["--quick", "--modules", "--folder", str(tmp_path / "absent"), "--out", str(tmp_path)]

    assert main(command) == 2

    assert f"{tmp_path / 'absent'} holds no images" in capsys.readouterr().err


def test_mask_of_another_size_ends_in_one_sentence(tmp_path, folder, capsys):
    """It would be held against the wrong pixels."""
    Image.new("L", (96, 90)).save(folder / "masks" / "gate.png")
    command = ["--quick", "--modules", "--folder", str(folder), "--out", str(tmp_path / "out")]

    assert main(command) == 2

    assert "has shape (90, 96) (height, width)" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--images", "--seeds", "--turns", "--steps"])
def test_none_of_something_is_refused(tmp_path, option):
    """There is no mean of nothing."""
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), option, "0"])


def test_missing_extra_is_named(tmp_path, monkeypatch):
    """Before an hour of runs, not after."""
    monkeypatch.delitem(sys.modules, "backend.learning.evaluation_figures", raising=False)
    monkeypatch.setattr("backend.learning.evaluation_figures", None, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr("backend.learning.evaluation_figures")
    with pytest.raises(SystemExit, match=r"matplotlib is missing: .*evaluate\]"):
        main([*SMALL, "--out", str(tmp_path)])
