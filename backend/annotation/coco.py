"""A dataset's masks in COCO format: one annotation for each material of each image.

`annotations.json` lies beside the manifest. File names are relative to it; the id of a category is
the class index + 1, since COCO takes 0 for the background. Needs the `export` extra.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from backend.annotation.dataset_files import IMAGES, MASKS, Dataset, share_as_folder
from backend.arrays import UNLABELED, LabelMap, Mask
from backend.errors import InvalidDatasetError
from backend.files import open_atomically

Json: TypeAlias = dict[str, Any]

ANNOTATIONS = "annotations.json"


def write_coco(dataset: Dataset) -> int:
    """Write the annotations of all images in the manifest; masks are read one at a time.

    Returns:
        The number of annotations.

    Raises:
        InvalidDatasetError: A mask of the manifest is missing.
        OSError: A file cannot be read or written.
    """
    path = dataset.folder / ANNOTATIONS
    images = []
    count = 0
    with open_atomically(path) as file:
        file.write(b'{"annotations": [')
        for image_id, entry in enumerate(dataset.entries, start=1):
            label_map = _read_mask(dataset, entry["name"])
            images.append(_image(image_id, entry, label_map.shape))
            for annotation in _annotations(image_id, label_map):
                count += 1
                text = json.dumps({"id": count, **annotation})
                file.write(f"{',' * (count > 1)}\n{text}".encode())
        rest = {"categories": _categories(dataset), "images": images, "info": _info(dataset)}
        file.write(f"\n], {json.dumps(rest, ensure_ascii=False)[1:]}\n".encode())
    share_as_folder(path)
    return count


def encode_coco(mask: Mask) -> Json:
    """Describe a mask as COCO does.

    Args:
        mask: True where the material is. Shape (H, W).

    Returns:
        `segmentation` (run-length encoding), `area` in pixels and `bbox`: x, y, width, height.

    Example:
        >>> encode_coco(np.array([[False, True, True]]))["bbox"]
        [1, 0, 2, 1]
    """
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    bbox = [int(value) for value in coco_mask.toBbox(rle)]
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}
    return {"segmentation": segmentation, "area": int(coco_mask.area(rle)), "bbox": bbox}


def _annotations(image_id: int, label_map: LabelMap) -> Iterator[Json]:
    for index in np.unique(label_map[label_map != UNLABELED]).tolist():
        shape = encode_coco(label_map == index)
        yield {"image_id": image_id, "category_id": index + 1, "iscrowd": 0, **shape}


def _image(image_id: int, entry: Json, shape: tuple[int, ...]) -> Json:
    height, width = shape
    file_name = f"{IMAGES}/{entry['name']}.png"
    return {"id": image_id, "file_name": file_name, "height": height, "width": width}


def _categories(dataset: Dataset) -> list[Json]:
    return [
        {"id": index + 1, "name": material, "supercategory": "material"}
        for index, material in enumerate(dataset.legend.materials)
    ]


def _info(dataset: Dataset) -> Json:
    newest = max((str(entry["exported_at"]) for entry in dataset.entries), default="")
    return {"description": "Finished ground truth of Label Studio", "date_created": newest}


def _read_mask(dataset: Dataset, name: str) -> LabelMap:
    path = dataset.path(MASKS, name)
    try:
        with Image.open(path) as file:
            return np.asarray(file)
    except FileNotFoundError:
        raise InvalidDatasetError(f"{path} is missing: export its project again") from None
