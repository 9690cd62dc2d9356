"""The script that segments new images with the shared model."""

import json

import numpy as np
import pytest
from PIL import Image

from backend.learning import networks
from backend.learning.registry import Registry
from scripts import predict_images
from tests.test_registry import CARD


@pytest.fixture
def registry(tmp_path):
    """One version, published."""
    registry = Registry(tmp_path / "models")
    registry.publish(registry.add(networks.SharedNetwork(2, "random"), CARD).version)
    return registry


@pytest.fixture
def folder(tmp_path):
    """Two images, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.tif"):
        Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def run(tmp_path, *arguments):
    """Run the script."""
    models, out = str(tmp_path / "models"), str(tmp_path / "out")
    return predict_images.main(["--registry", models, "--out", out, *map(str, arguments)])


@pytest.mark.usefixtures("registry")
def test_folder_is_segmented(tmp_path, folder, capsys):
    """The legend names classes and model."""
    assert run(tmp_path, folder) == 0
    assert "2 of 2 images segmented by model v0001" in capsys.readouterr().out
    legend = json.loads((tmp_path / "out" / "legend.json").read_text())
    assert (legend["materials"], legend["model"]) == (["Si", "Oxide"], "v0001")
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == ["a.labels.png", "a.uncertainty.png", "b.labels.png", "b.uncertainty.png"]


@pytest.mark.usefixtures("registry")
def test_image_that_cannot_be_read_is_named(tmp_path, folder, capsys):
    """The others are segmented."""
    assert run(tmp_path, folder, folder / "notes.txt", folder / "none.png") == 1
    captured = capsys.readouterr()
    assert "2 of 4 images" in captured.out
    assert "notes.txt: " in captured.err
    assert "none.png: " in captured.err


@pytest.mark.usefixtures("registry")
def test_a_second_run_segments_the_same_images(tmp_path, folder):
    """Though the results lie beside them."""
    for _ in range(2):
        assert run(tmp_path, folder, "--out", folder) == 0
    results = [path.name for path in folder.glob("*.png") if path.name != "a.png"]
    assert sorted(results) == [
        f"{name}.{kind}.png" for name in "ab" for kind in ("labels", "uncertainty")
    ]


@pytest.mark.usefixtures("registry")
def test_a_folder_that_cannot_be_made_is_told(tmp_path, folder, capsys):
    """In a sentence; a legend that has no place as well."""
    assert run(tmp_path, folder, "--out", folder / "notes.txt" / "out") == 1
    told = capsys.readouterr().err
    assert "notes.txt/out cannot be written: " in told
    assert "Traceback" not in told
    (tmp_path / "out" / "legend.json").mkdir(parents=True)
    assert run(tmp_path, folder) == 1
    assert "out cannot be written: " in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_two_images_of_one_name_are_refused(tmp_path, folder, capsys):
    """One would replace the other."""
    assert run(tmp_path, folder, folder / "a.png") == 2
    assert "several images are named a" in capsys.readouterr().err


def test_without_a_model_nothing_is_written(tmp_path, folder, capsys):
    """Or without an image."""
    assert run(tmp_path, folder) == 2
    assert "no model is published" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(tmp_path, empty) == 2
    assert "there is no image" in capsys.readouterr().err
    assert run(tmp_path, folder, "--version", "3") == 2
    assert "no version v0003" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
