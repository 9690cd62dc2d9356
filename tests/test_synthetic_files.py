"""What a synthetic microscope leaves on disk can be read back, pixel size included."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.arrays import UNLABELED
from backend.batch.measurables import dataset_measurables, masked_measurables
from backend.learning.segmentation_data import read_training_data
from backend.microscope.synthetic import make_image
from backend.microscope.synthetic_files import save_image
from scripts.make_synthetic import main

SMALL = (128, 128)


def read_mask(path):
    """Class indices of a palette PNG."""
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One image of each microscope, as saved."""
    folder = tmp_path_factory.mktemp("synthetic")
    for name in ("A", "B", "C"):
        save_image(make_image("gate", name, 0, SMALL), folder, name)
    return folder


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_mask_keeps_class_indices(folder, name):
    """The palette colours a mask without changing its values."""
    expected = make_image("gate", name, 0, SMALL).label_map

    assert (read_mask(folder / "masks" / f"{name}.png") == expected).all()


def test_mask_keeps_the_databar_unlabeled(folder):
    """255 survives the palette."""
    assert (read_mask(folder / "masks" / "B.png")[-1] == UNLABELED).all()


def test_imagej_tiff_carries_unit_and_pixel_size(folder):
    """Tool A: resolution in pixels per nm, unit in the ImageJ description, 16 bits unchanged."""
    image = make_image("gate", "A", 0, SMALL)
    with tifffile.TiffFile(folder / "originals" / "A.tif") as file:
        pixels, nm = file.pages[0].tags["XResolution"].value
        assert file.imagej_metadata["unit"] == "nm"
        assert nm / pixels == pytest.approx(image.nm_per_px_x, rel=1e-6)
        assert (file.asarray() == image.image).all()


def test_sidecar_carries_the_pixel_size(folder):
    """Tool B: a plain TIFF with a text file beside it."""
    lines = (folder / "originals" / "B.txt").read_text().splitlines()
    sizes = dict(line.split("=") for line in lines)

    assert float(sizes["PixelSize"]) == make_image("gate", "B", 0, SMALL).nm_per_px_x


def test_png_only_tool_leaves_no_original(folder):
    """Tool C: the pixel size is known to the truth alone."""
    truth = json.loads((folder / "truth" / "C.json").read_text())

    assert not (folder / "originals" / "C.tif").exists()
    assert truth["nm_per_px_x"] in truth["metadata"]["equipment"]["nm_per_px"]


def test_script_writes_the_images_asked_for(tmp_path, capsys):
    """Module, microscope, count and size are the caller's."""
    options = "--module gate --equipment B --count 2 --height 96 --width 128 --crop"

    assert main([str(tmp_path), *options.split()]) == 0

    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == ["gate_B_0000.png", "gate_B_0001.png"]
    assert UNLABELED not in read_mask(tmp_path / "masks" / names[0])
    assert "2 images" in capsys.readouterr().out


def test_a_folder_can_be_learned_from_and_measured(tmp_path, capsys):
    """The legend names the materials of one module: models and recipes know them by name."""
    options = "--module gate --equipment A --count 2 --height 128 --width 128"

    assert main([str(tmp_path), *options.split()]) == 0

    materials = ("Si", "Oxide", "Nitride", "Metal")
    assert "legend.json: Si, Oxide, Nitride, Metal" in capsys.readouterr().out
    assert read_training_data(tmp_path).materials == materials
    found = dataset_measurables(tmp_path)
    assert {one.materials for one in found} == {materials}
    assert [one.image.name for one in found] == ["gate_A_0000.tif", "gate_A_0001.tif"]
    masked = masked_measurables([tmp_path / "images"], tmp_path / "masks")
    assert {one.materials for one in masked} == {materials}


def test_two_modules_in_a_folder_have_no_legend(tmp_path, capsys):
    """Class 1 is oxide in one and liner in the other; each image still has its own names."""
    size = ["--equipment", "C", "--count", "1", "--height", "128", "--width", "128"]
    assert main([str(tmp_path), "--module", "gate", *size]) == 0
    assert (tmp_path / "legend.json").exists()

    assert main([str(tmp_path), "--module", "active", *size]) == 0

    assert "no legend.json" in capsys.readouterr().out
    assert not (tmp_path / "legend.json").exists()
    active, gate = dataset_measurables(tmp_path)
    assert (active.materials[1], gate.materials[1]) == ("Liner", "Oxide")


def test_images_of_others_get_no_legend_of_ours(tmp_path, capsys):
    """Their classes mean something else; nothing is written beside them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "task-3.png").touch()
    (tmp_path / "legend.json").write_text("{}")

    assert main([str(tmp_path), "--count", "1"]) == 2

    assert "images of another origin, task-3 for one" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "legend.json"]


def test_script_says_what_is_wrong(tmp_path, capsys):
    """A user's mistake is a sentence and exit code 1, not a traceback."""
    assert main([str(tmp_path), "--height", "10"]) == 2
    assert "at least 48 px" in capsys.readouterr().err
