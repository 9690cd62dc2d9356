"""What was imported is found again, unchanged, or the reason why not."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from backend.errors import InvalidImageError
from backend.microscope.calibration import Calibration
from backend.microscope.images import gray_png
from backend.microscope.import_record import (
    find_records,
    load_imported,
    prepare_import,
    record_name,
    save_import,
)
from backend.microscope.importers import ImportOptions, import_file

IMAGE = np.random.default_rng(0).normal(1000, 90, (40, 48)).astype(np.float32)
SCALE = Calibration(0.2, 0.21, "manual", rel_uncertainty=0.01, detail="certificate 7")


@pytest.fixture
def image(tmp_path):
    """An image whose user knows its pixel size."""
    path = tmp_path / "cut 1.tif"
    tifffile.imwrite(path, IMAGE)
    return import_file(path, ImportOptions(scale=SCALE))[0]


@pytest.fixture
def record(image, tmp_path):
    """Its record."""
    prepared = prepare_import(image)
    save_import(prepared, tmp_path / "imported")
    return prepared.record


@pytest.mark.parametrize("part", ["picture", "record"])
def test_measuring_finds_the_original(record, tmp_path, part):
    """By the picture or by the record: to the last bit, with its calibration."""
    folder = tmp_path / "imported"
    path = folder / (
        f"records/{record['name']}.json" if part == "record" else record["picture"]["path"]
    )
    loaded = load_imported(path)
    assert loaded.gray.dtype == np.float32
    assert (loaded.gray == IMAGE).all()
    assert loaded.calibration == SCALE
    assert (loaded.no_gray, loaded.flags) == ("", ("anisotropic",))


def test_a_picture_of_unknown_gamma_gives_no_intensities(tmp_path):
    """But the reason."""
    path = tmp_path / "a.png"
    Image.fromarray((20 + np.arange(1600) % 200).reshape(40, 40).astype(np.uint8)).save(path)
    prepared = prepare_import(import_file(path)[0])
    save_import(prepared, tmp_path)
    loaded = load_imported(tmp_path / prepared.record["picture"]["path"])
    assert (loaded.gray, loaded.no_gray, loaded.calibration) == (None, "unknown_gamma", None)


def test_the_hash_in_an_export_leads_to_the_record(record, tmp_path):
    """An export keeps the picture byte for byte."""
    folder = tmp_path / "imported"
    exported = gray_png((folder / record["picture"]["path"]).read_bytes())
    path = folder / "records" / f"{record['name']}.json"
    assert find_records(folder) == {
        hashlib.sha256(exported).hexdigest(): path,
        record["name"]: path,
    }
    path.write_text("damaged")
    assert find_records(folder) == {record["name"]: path}


def test_the_stretch_is_recorded(record, tmp_path):
    """Black and white of the picture, in intensities."""
    with Image.open(tmp_path / "imported" / record["picture"]["path"]) as picture:
        pixels = np.asarray(picture)
    low, high = record["stretch"]["low"], record["stretch"]["high"]
    expected = np.rint(255 * np.clip((IMAGE - low) / (high - low), 0, 1))
    assert np.abs(pixels - expected).max() <= 1


def test_importing_again_changes_nothing(image, record, tmp_path):
    """The same names, the same bytes."""
    folder = tmp_path / "imported"
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    again = prepare_import(image)
    save_import(again, folder)
    assert again.record == record
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_names_differ_where_files_do(image, tmp_path):
    """Two folders may hold a `cut 1.tif`; spaces do not survive."""
    other = tmp_path / "other" / "cut 1.tif"
    other.parent.mkdir()
    tifffile.imwrite(other, IMAGE + 1)
    names = {record_name(image), record_name(import_file(other)[0])}
    assert len(names) == 2
    assert all(name.startswith("cut_1-") for name in names)


@pytest.mark.parametrize("part", ["picture", "original"])
def test_a_changed_file_is_refused(record, tmp_path, part):
    """Edges of another image would look right."""
    path = tmp_path / "imported" / record[part]["path"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidImageError, match="changed"):
        load_imported(tmp_path / "imported" / "records" / f"{record['name']}.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"picture": 3})])
def test_a_damaged_record_is_refused(tmp_path, text):
    """With what to do."""
    path = tmp_path / "records" / "a.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InvalidImageError, match="damaged"):
        load_imported(path)


def test_what_was_never_imported_is_refused(tmp_path):
    """A picture without a record."""
    with pytest.raises(InvalidImageError, match="no record"):
        load_imported(tmp_path / "pictures" / "a.png")
