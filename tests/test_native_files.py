"""Real files of microscopes, with the pixel sizes that two independent readers agree on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from backend.errors import InvalidImageError
from backend.microscope.importers import ALL, ImportOptions, import_file
from backend.microscope.scale import PLAUSIBLE_NM_PER_PX

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "native"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the native files are not there")
FILES = json.loads((FOLDER / "native.json").read_text()) if FOLDER.exists() else []
IMAGES = [told for told in FILES if told["pixel_size_yx"]]
ANY = ImportOptions(dataset=ALL, any_pixel_size=True)
BARS = {"fei_helios_8bit.tif": 29, "zeiss_512.tif": 34}


def named(told):
    """The name of a file, as id of a test."""
    return told["file"]


@pytest.mark.parametrize("told", IMAGES, ids=named)
def test_pixel_size_shape_and_depth_are_right(told):
    """Of every image in the file, with the maker's metadata as source."""
    images = import_file(FOLDER / told["file"], ANY)
    assert len(images) == (1 if told["file"] == "olympus_sis.tif" else told["images"])
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
    """The Helios says DigitalGamma 1.6, and not how it is meant: it is told, and not undone."""
    (image,) = import_file(FOLDER / "fei_helios_8bit.tif", ANY)
    assert image.no_gray == "unknown_gamma"
    assert {"unknown_gamma", "recorded_gamma"} <= set(image.flags)
    assert any("a gamma of 1.6" in note for note in image.notes)
    assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("carbon_eels.dm3", "spectrum"),
        ("velox_ceta_diffraction.emd", "diffraction pattern.*1 / nm"),
        ("velox_4detectors.emd", r"4 images \(HAADF, DF2, BF, DF4\): choose with --dataset"),
    ],
)
def test_what_has_no_length_or_no_single_image_is_refused(name, why):
    """With the reason."""
    with pytest.raises(InvalidImageError, match=why):
        import_file(FOLDER / name, ImportOptions(any_pixel_size=True))


def test_a_detector_is_chosen_by_its_name():
    """And its name tells the mode."""
    options = ImportOptions(dataset="df4", any_pixel_size=True)
    (image,) = import_file(FOLDER / "velox_4detectors.emd", options)
    assert (image.dataset, image.acquisition.mode) == ("DF4", "DF")
    assert (image.acquisition.instrument, image.acquisition.voltage_kv) == ("Titan", 300)


def test_an_image_stored_as_x_y_is_turned_upright():
    """The scan runs along the rows, where neighbours are more alike than down the columns."""
    pixels = import_file(FOLDER / "ncem_acquisition.emd")[0].pixels.astype(float)
    along, down = (np.diff(pixels, axis=axis).std() for axis in (1, 0))
    assert along < down


@pytest.mark.parametrize(
    ("name", "instrument", "kilovolts"),
    [
        ("tem_search.emi", "Microscope TalosF200X", 200),
        ("stem_image.dm3", "FEI Titan", 200),
        ("ncem_acquisition.emd", "TEAM 0.5", 200),
    ],
)
def test_the_instrument_is_read(name, instrument, kilovolts):
    """Each maker writes it elsewhere."""
    told = import_file(FOLDER / name)[0].acquisition
    assert told.instrument.startswith(instrument)
    assert told.voltage_kv == kilovolts
