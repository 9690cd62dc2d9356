"""Accuracy against the number of finished images: a table and a plot, from a small run."""

import csv

import pytest

from scripts.learning_curve import main

SMALL = ["--size", "128", "--steps", "3", "--test", "1"]


def test_table_and_plot_are_written(tmp_path):
    """A row for each count, in the order asked for."""
    assert main(["--out", str(tmp_path), *SMALL, "--counts", "1", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "learning_curve.csv").read_text().splitlines()))
    assert [row["images"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["seconds"]) > 0 for row in rows)
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("options", [["--counts", "5"]])
def test_too_few_images_are_a_mistake(tmp_path, options, capsys):
    """Told before anything is trained."""
    assert main(["--out", str(tmp_path), *SMALL, "--counts", "1", "1"]) == 0
    folder = ["--folder", str(tmp_path / "none")]
    assert main(["--out", str(tmp_path), *SMALL, *folder, *options]) == 2
    assert "holds no images" in capsys.readouterr().err
