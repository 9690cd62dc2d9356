"""Accuracy against the number of finished images: a table and a plot, from a small run."""

import csv

import pytest
from ground_truth_folder import training_image

from backend.learning import learning_curve
from backend.learning.segmentation_data import TrainingData
from backend.learning.segmentation_training import Settings
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image
from scripts.learning_curve import main

SMALL = ["--size", "128", "--steps", "3", "--test", "1"]


def test_table_and_plot_are_written(tmp_path):
    """A row for each count, in the order asked for."""
    assert main(["--out", str(tmp_path), *SMALL, "--counts", "1", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "learning_curve.csv").read_text().splitlines()))
    assert [row["images"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["seconds"]) > 0 for row in rows)
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_one_device_is_trained_on(monkeypatch):
    """For several, Lightning would run the whole program anew on each."""
    asked = []

    def train(_job, _settings, hardware):
        asked.append(hardware)
        raise ValueError("that is all")

    monkeypatch.setattr(learning_curve, "train", train)
    data = TrainingData(("Si", "Oxide", "Metal"), (training_image(0),))
    with pytest.raises(ValueError, match="that is all"):
        next(learning_curve.learning_curve(data, data.images, [1], Settings(steps=1)))
    assert [hardware.devices for hardware in asked] == [1]


@pytest.mark.parametrize("options", [["--counts", "5"]])
def test_too_few_images_are_a_mistake(tmp_path, options, capsys):
    """Told before anything is trained."""
    assert main(["--out", str(tmp_path), *SMALL, "--counts", "1", "1"]) == 0
    folder = ["--folder", str(tmp_path / "none")]
    assert main(["--out", str(tmp_path), *SMALL, *folder, *options]) == 2
    assert "holds no images" in capsys.readouterr().err


def test_a_folder_of_fewer_images_than_are_tested_is_a_mistake(tmp_path, capsys):
    """Else the model was measured on what it had learned from."""
    save_image(make_image("gate", "A", 0, (96, 96)), tmp_path / "set", "one")
    command = ["--out", str(tmp_path), *SMALL, "--folder", str(tmp_path / "set"), "--counts", "1"]
    for test in ("0", "1", "2"):
        assert main([*command, "--test", test]) == 2
        assert f"--test {test} of 1 images: at least one" in capsys.readouterr().err


def test_folder_that_is_a_file_is_a_sentence_without_a_number(tmp_path, capsys):
    """As all scripts tell what the system refused."""
    taken = tmp_path / "taken"
    taken.touch()
    assert main(["--out", str(taken)]) == 2
    assert capsys.readouterr().err == f"{taken}: File exists\n"
