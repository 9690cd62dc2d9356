"""What a user names, a dataset, masks or bare images → images to measure, each with its labels.

Nothing is read here but names, legends and manifests: `measuring` reads the rest, image by image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from backend.annotation.dataset_files import IMAGES, LEGEND, MANIFEST, MASKS
from backend.errors import InvalidDatasetError
from backend.learning.dataset_legend import read_json_object, read_manifest, read_materials
from backend.metrology.records import ModelRecord
from backend.microscope.calibration import Calibration
from backend.microscope.image_files import by_stem, image_files
from backend.microscope.import_record import PICTURES, RECORDS, find_records

TRUTH, ORIGINALS = "truth", "originals"


@dataclass(frozen=True)
class Measurable:
    """An image to measure, and where its labels are."""

    name: str
    image: Path  # the microscope's own file if it is at hand, else the picture that was labeled
    record: Path | None = None  # of its import, which kept the microscope's intensities
    materials: tuple[str, ...] = ()  # in the order of the classes
    mask: Path | None = None  # class index per pixel
    probabilities: Path | None = None  # of a model: (C, H, W), a NumPy file
    model: ModelRecord | None = None
    is_trained_on: bool = False  # by that model
    scale: Calibration | None = None  # told from outside the image's file
    picture: Path | None = None  # what was labeled, where that is another file
    task: int | None = None
    annotation: int | None = None
    annotator: str | None = None
    instrument: str | None = None
    refusal: str = ""  # why it must not be measured


def dataset_measurables(folder: Path, originals: Path | None = None) -> list[Measurable]:
    """All images of a dataset: of an export, of `make_synthetic.py`, or made by hand.

    Args:
        folder: With images/, masks/ and legend.json, or with truth/ that names the materials.
        originals: The folder images were imported to, or where the microscope's own files lie
            under the names of the images; an image that is not found there is not measured. By
            default originals/ of the folder, and the picture where nothing is found.

    Raises:
        InvalidDatasetError: There is no image or no original, a material's name is not known, or a
            file is not as the manifest says.
    """
    pictures = sorted((folder / IMAGES).glob("*.png"))
    if not pictures:
        raise InvalidDatasetError(f"{folder} holds no {IMAGES}/*.png: give the folder of an export")
    materials = read_materials(folder / LEGEND)
    entries = read_manifest(folder / MANIFEST)
    records = find_records(originals) if originals else {}
    native = {} if records else by_stem(originals or folder / ORIGINALS)
    if originals and not (records or native):
        raise InvalidDatasetError(
            f"{originals} holds neither {RECORDS}/ of an import nor images: give the folder that "
            "images were imported to, or that of the microscope's files"
        )
    found = []
    for picture in pictures:
        mask, entry = folder / MASKS / picture.name, entries.get(picture.stem, {})
        digest = _checked_hash(picture, entry.get("image_sha256"))
        _checked_hash(mask, entry.get("mask_sha256"))
        record = records.get(str(entry.get("import_record"))) or records.get(digest)
        is_lost = originals and not record and picture.stem not in native
        found.append(
            Measurable(
                record.stem if record else picture.stem,
                native.get(picture.stem, picture),
                record,
                materials or _true_materials(folder, picture.stem),
                mask,
                scale=_told_scale(entry),
                picture=picture,
                task=entry.get("task"),
                annotation=entry.get("annotation"),
                annotator=entry.get("annotator_title") or entry.get("annotator"),
                instrument=entry.get("equipment"),
                refusal=f"{originals} holds nothing of this image" if is_lost else "",
            )
        )
    return found


def masked_measurables(images: Sequence[Path], masks: Path) -> list[Measurable]:
    """Images with masks of the same names, or one image with one mask.

    Args:
        images: Files, or folders of them.
        masks: A folder of PNG with legend.json in it or beside it; or a single mask.

    Raises:
        InvalidDatasetError: A mask or the legend is missing, or a model made the masks.
    """
    paths = image_files(images)
    is_folder = masks.is_dir()
    if not is_folder and len(paths) != 1:
        raise InvalidDatasetError(f"one mask for {len(paths)} images: give a folder of masks")
    folder = masks if is_folder else masks.parent
    legend = next((p for p in (folder / LEGEND, folder.parent / LEGEND) if p.exists()), None)
    if legend is None:
        raise InvalidDatasetError(
            f"{folder} has no {LEGEND} that names the materials of the masks: give the masks of an "
            f'export, or write {{"materials": ["Si", ...]}} in the order of their class indices'
        )
    if "model" in read_json_object(legend):
        raise InvalidDatasetError(
            f"a model made the masks in {folder}: measure them with --registry, so that they are "
            "not taken for an annotator's"
        )
    materials = read_materials(legend)
    return [
        replace(
            _bare(path),
            materials=materials,
            mask=masks / f"{path.stem}.png" if is_folder else masks,
        )
        for path in paths
    ]


def bare_measurables(images: Sequence[Path]) -> list[Measurable]:
    """Images that a model has to segment.

    Raises:
        InvalidDatasetError: There is none, or two have the same name.
    """
    return [_bare(path) for path in image_files(images)]


def _bare(path: Path) -> Measurable:
    """An image by itself; one that was imported is the picture of another file."""
    record = _record_of(path)
    return Measurable(path.stem, path, record, picture=path if record else None)


def _record_of(picture: Path) -> Path | None:
    """The record of an import that made this picture."""
    record = picture.parent.parent / RECORDS / f"{picture.stem}.json"
    return record if picture.parent.name == PICTURES and record.is_file() else None


def _checked_hash(path: Path, expected: Any) -> str:  # noqa: ANN401
    """Hash of a file; refuse one that is not what the manifest tells of."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    if expected and digest and digest != expected:
        raise InvalidDatasetError(
            f"{path} was changed after its export: export again, so that it is known whose labels "
            "are measured"
        )
    return digest


def _true_materials(folder: Path, name: str) -> tuple[str, ...]:
    path = folder / TRUTH / f"{name}.json"
    if not path.exists():
        raise InvalidDatasetError(f"{folder} has no {LEGEND}, which names the materials")
    return tuple(str(material) for material in read_json_object(path)["materials"])


def _told_scale(entry: dict[str, Any]) -> Calibration | None:
    """The pixel size that the task's data in Label Studio had."""
    square = entry.get("pixel_size_nm")
    names = ("pixel_size_x_nm", "pixel_size_y_nm") if square is None else ("pixel_size_nm",) * 2
    sides: list[Any] = [entry.get(name) for name in names]
    if sides == [None, None]:
        return None
    for name, side in zip(names, sides, strict=True):
        if isinstance(side, bool) or not isinstance(side, int | float) or not 0 < side < inf:
            raise InvalidDatasetError(
                f"{name} of {entry['name']} in {MANIFEST} is {side!r}: give a positive number, "
                "without quotes"
            )
    detail = f"pixel_size_nm of task {entry.get('task')}"
    x_nm, y_nm = sides
    raw = repr(x_nm) if x_nm == y_nm else f"{x_nm!r} x {y_nm!r}"
    return Calibration(x_nm, y_nm, "manual", detail=detail, raw=raw)
