"""What a synthetic microscope leaves on disk can be read back, pixel size included."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.arrays import UNLABELED
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


def test_script_says_what_is_wrong(tmp_path, capsys):
    """A user's mistake is a sentence and exit code 1, not a traceback."""
    assert main([str(tmp_path), "--height", "10"]) == 1
    assert "at least 48 px" in capsys.readouterr().err
