"""Real files of microscopes, with the pixel sizes that two independent readers agree on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.errors import InvalidImageError
from backend.microscope.importers import ALL, ImportOptions, import_file
from backend.microscope.scale import PLAUSIBLE_NM_PER_PX

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "native"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the native files are not there")
FILES = json.loads((FOLDER / "native.json").read_text()) if FOLDER.exists() else []
KNOWN = [told for told in FILES if told["file"].endswith(".tif")]
IMAGES = [told for told in KNOWN if told["pixel_size_yx"]]
ANY = ImportOptions(dataset=ALL, any_pixel_size=True)
BARS = {"fei_helios_8bit.tif": 29, "zeiss_512.tif": 34}


def named(told):
    """The name of a file, as id of a test."""
    return told["file"]


@pytest.mark.parametrize("told", IMAGES, ids=named)
def test_pixel_size_shape_and_depth_are_right(told):
    """Of every image in the file, with the maker's metadata as source."""
    images = import_file(FOLDER / told["file"], ANY)
    for image in images:
        scale = image.scale.calibration
        sizes = (scale.nm_per_px_y, scale.nm_per_px_x)
        assert sizes == pytest.approx(told["pixel_size_yx"], rel=1e-4)
        assert scale.source == "metadata"
        assert image.pixels.shape == tuple(told["shape_yx"])
        assert image.pixels.dtype == told["dtype"]
        assert image.databar_rows == BARS.get(told["file"], 0)


@pytest.mark.parametrize("told", IMAGES, ids=named)
def test_implausible_pixels_are_refused(told):
    """Above 50 nm, until someone insists; the others come in as they are."""
    low, high = PLAUSIBLE_NM_PER_PX
    options = ImportOptions(dataset=ALL)
    if all(low <= size <= high for size in told["pixel_size_yx"]):
        assert import_file(FOLDER / told["file"], options)
    else:
        with pytest.raises(InvalidImageError, match="--any-pixel-size"):
            import_file(FOLDER / told["file"], options)


def test_a_recorded_gamma_keeps_the_gray_values_from_being_measured():
    """The Helios says DigitalGamma 1.6."""
    (image,) = import_file(FOLDER / "fei_helios_8bit.tif", ANY)
    assert image.no_gray == "unknown_gamma"
