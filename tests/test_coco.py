"""Masks in COCO format, as the library's own reader understands them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from label_studio_stand_in import HALVES, png, two_halves
from pycocotools.coco import COCO
from test_dataset_files import LEGEND, provenance

from backend.annotation.coco import encode_coco, write_coco
from backend.annotation.dataset_files import Dataset
from backend.errors import InvalidDatasetError

# raised in the reader's compiled part under NumPy 2, which still has a way around
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def dataset(tmp_path):
    """Two images, one with unlabeled pixels."""
    dataset = Dataset(tmp_path / "set", LEGEND)
    partly = np.where(np.arange(64) < 16, 255, HALVES).astype(np.uint8)
    dataset.put(provenance(3), png(two_halves()), HALVES)
    dataset.put(provenance(4), png(two_halves()[:48]), partly[:48])
    dataset.save()
    return dataset


def test_reader_finds_the_masks(dataset):
    """One for each material and image, with its area and box; 255 belongs to none."""
    assert write_coco(dataset) == 4

    coco = COCO(dataset.folder / "annotations.json")
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["Si", "Oxide"]
    assert [one["file_name"] for one in coco.loadImgs(coco.getImgIds())] == [
        "images/project-1-task-3.png",
        "images/project-1-task-4.png",
    ]
    (oxide,) = coco.loadAnns(coco.getAnnIds(imgIds=[2], catIds=coco.getCatIds(["Oxide"])))
    assert (oxide["area"], oxide["bbox"]) == (48 * 16, [16, 32, 48, 16])
    truth = np.zeros((48, 64), np.uint8)
    truth[32:, 16:] = 1
    assert (coco.annToMask(oxide) == truth).all()


def test_all_masks_together_are_the_label_map(dataset):
    """Category 1 is class 0."""
    write_coco(dataset)

    coco = COCO(dataset.folder / "annotations.json")
    label_map = np.full(HALVES.shape, 255, np.uint8)
    for one in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        label_map[coco.annToMask(one) > 0] = one["category_id"] - 1
    assert (label_map == HALVES).all()


def test_file_stays_the_same_when_the_dataset_does(dataset):
    """No date of its own in it."""
    write_coco(dataset)
    first = (dataset.folder / "annotations.json").read_bytes()
    write_coco(dataset)

    assert (dataset.folder / "annotations.json").read_bytes() == first


def test_empty_dataset_is_valid_json(tmp_path):
    """Without a comma too many."""
    assert write_coco(Dataset(tmp_path, LEGEND)) == 0
    assert json.loads((tmp_path / "annotations.json").read_text())["annotations"] == []


def test_missing_mask_leaves_the_old_file(dataset):
    """Half of the annotations would be taken for all."""
    write_coco(dataset)
    before = (dataset.folder / "annotations.json").read_bytes()
    (dataset.folder / "masks" / "project-1-task-4.png").unlink()

    with pytest.raises(InvalidDatasetError, match=r"task-4\.png is missing: export its project"):
        write_coco(dataset)
    assert (dataset.folder / "annotations.json").read_bytes() == before


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_area_and_box_fit_the_mask(mask):
    """Any mask."""
    described = encode_coco(mask)
    x, y, width, height = described["bbox"]

    assert described["area"] == mask.sum()
    assert mask[y : y + height, x : x + width].sum() == mask.sum()
    assert (width > 0) == mask.any()
