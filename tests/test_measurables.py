"""From what a user names to images with labels."""

import hashlib
import json

import pytest
from ground_truth_folder import MATERIALS, write_dataset

from backend.batch.measurables import (
    bare_measurables,
    dataset_measurables,
    masked_measurables,
)
from backend.batch.measuring import Setup, read_image
from backend.errors import InvalidDatasetError, InvalidImageError


def sha256(path):
    """Hash of a file, as the manifest has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def export(tmp_path):
    """A dataset of two images whose manifest tells all of the first."""
    folder = write_dataset(tmp_path / "set", count=2)
    entry = {
        "name": "image 0", "task": 12, "annotation": 30, "annotator": "7",
        "annotator_title": "Ann (7)", "equipment": "B", "pixel_size_nm": 0.21,
        "image_sha256": sha256(folder / "images" / "image 0.png"),
        "mask_sha256": sha256(folder / "masks" / "image 0.png"),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"images": [entry]}))
    return folder


def test_an_export_tells_whose_labels_they_are(export):
    """And which pixel size the task had; what the manifest lacks is not known."""
    first, second = dataset_measurables(export)
    assert (first.name, first.materials) == ("image 0", MATERIALS)
    assert (first.task, first.annotation, first.annotator) == (12, 30, "Ann (7)")
    assert first.instrument == "B"
    assert (first.scale.nm_per_px, first.scale.source) == (0.21, "manual")
    assert first.scale.detail == "pixel_size_nm of task 12"
    assert (second.task, second.annotation, second.scale) == (None, None, None)


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_changed_after_its_export_is_refused(export, part):
    """Its CDs would be told to be of an annotation that never was."""
    other = export / part / "image 1.png"
    (export / part / "image 0.png").write_bytes(other.read_bytes())
    with pytest.raises(InvalidDatasetError, match=rf"{part}/image 0\.png was changed after"):
        dataset_measurables(export)


def test_native_files_come_before_pictures(export, tmp_path):
    """Where the microscope's own file lies under the same name."""
    originals = tmp_path / "native"
    originals.mkdir()
    for name in ("image 0.png", "image 0.tif", "image 0.txt", "image 9.dm3"):
        (originals / name).touch()
    first, second = dataset_measurables(export, originals)
    assert (first.image, first.picture) == (
        originals / "image 0.tif",
        export / "images" / "image 0.png",
    )
    assert "native holds nothing of this image" in second.refusal
    with pytest.raises(InvalidImageError, match="holds nothing of this image"):
        read_image(second, Setup(None, tmp_path / "cds.db"))
    assert not any(one.refusal for one in (first, *dataset_measurables(export)))


def test_records_go_by_name_then_by_content(export, tmp_path):
    """A picture drawn anew has another hash, and still belongs to the same original."""
    records = tmp_path / "imported" / "records"
    records.mkdir(parents=True)
    (records / "a-1.json").write_text("{}")
    content = {"picture": {"sha256": sha256(export / "images" / "image 1.png")}}
    (records / "b-2.json").write_text(json.dumps(content))
    entry = {"name": "image 0", "import_record": "a-1"}
    (export / "manifest.json").write_text(json.dumps({"images": [entry]}))
    found = dataset_measurables(export, tmp_path / "imported")
    assert [one.record for one in found] == [records / "a-1.json", records / "b-2.json"]
    (records / "b-2.json").unlink()
    assert [bool(one.refusal) for one in dataset_measurables(export, records.parent)] == [
        False,
        True,
    ]


def test_a_folder_without_originals_is_refused(export, tmp_path):
    """Misspelled, or empty: the 8-bit pictures would be measured instead."""
    (tmp_path / "imported" / "records").mkdir(parents=True)
    for name in ("improted", "imported"):
        with pytest.raises(InvalidDatasetError, match=rf"{name} holds neither records/"):
            dataset_measurables(export, tmp_path / name)


@pytest.mark.parametrize("size", ["0.2", True, 0, -1, [0.2], float("nan")])
def test_a_pixel_size_is_a_number(export, size):
    """A manifest made by hand may say anything."""
    entry = {"name": "image 0", "pixel_size_nm": size}
    (export / "manifest.json").write_text(json.dumps({"images": [entry]}))
    with pytest.raises(InvalidDatasetError, match="pixel_size_nm of image 0 in manifest"):
        dataset_measurables(export)


def test_pixels_may_differ_in_width_and_height(export):
    """As the export of an imported image tells; one side alone is not enough."""
    sides = {"pixel_size_nm": None, "pixel_size_x_nm": 0.4, "pixel_size_y_nm": 0.2}
    for told in ({**sides, "pixel_size_y_nm": None}, sides):
        manifest = {"images": [{"name": "image 0", **told}]}
        (export / "manifest.json").write_text(json.dumps(manifest))
        if told is not sides:
            with pytest.raises(InvalidDatasetError, match="pixel_size_y_nm of image 0 in manif"):
                dataset_measurables(export)
    scale = dataset_measurables(export)[0].scale
    assert (scale.nm_per_px_x, scale.nm_per_px_y) == (0.4, 0.2)


def test_materials_must_be_known(export):
    """A class index alone means nothing."""
    (export / "legend.json").unlink()
    with pytest.raises(InvalidDatasetError, match=r"has no legend\.json"):
        dataset_measurables(export)


def test_masks_go_by_name(export):
    """With the legend beside their folder; one mask serves one image only."""
    found = masked_measurables([export / "images"], export / "masks")
    assert [one.mask.name for one in found] == ["image 0.png", "image 1.png"]
    with pytest.raises(InvalidDatasetError, match="one mask for 2 images"):
        masked_measurables([export / "images"], export / "masks" / "image 0.png")


def test_names_must_differ(export, tmp_path):
    """Rows of the report go by them."""
    (tmp_path / "image 0.tif").touch()
    with pytest.raises(InvalidDatasetError, match="several images are named image 0"):
        bare_measurables([export / "images", tmp_path / "image 0.tif"])
