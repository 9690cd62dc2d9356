"""An imported image on disk: the picture for labelling, the original intensities, a record of both.

    pictures/NAME.png    8 bits, what annotators and networks see
    originals/NAME.npy   the intensities as the microscope stored them
    records/NAME.json    where all came from, the pixel size, the hashes: written last

NAME ends in the image's id, so the same file imported again is written over itself, whatever it is
called by then: the name of its first import stays.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import InvalidImageError
from backend.files import write_atomically
from backend.microscope.calibration import Calibration
from backend.microscope.importers import ImportedImage
from backend.microscope.labeling_picture import LabelingPicture, draw_labeling_picture

Json: TypeAlias = dict[str, Any]

PICTURES, ORIGINALS, RECORDS = "pictures", "originals", "records"

_SHORT_ID = 8  # characters of an id in a name
_LONGEST_STEM = 60


@dataclass(frozen=True)
class PreparedImport:
    """All that an import will write."""

    record: Json
    files: dict[str, bytes]  # by their paths in the folder of imports

    @property
    def picture(self) -> bytes:
        """The PNG to annotate."""
        return self.files[self.record["picture"]["path"]]


@dataclass(frozen=True)
class LoadedImport:
    """What measuring needs of an imported image."""

    name: str
    calibration: Calibration | None
    gray: NDArray[Any] | None  # (H, W), original intensities; None if edges must not be fitted
    no_gray: str  # why there are none: unknown_gamma
    databar_rows: int  # at the bottom, not to be measured
    flags: tuple[str, ...]
    record: Json


def record_name(image: ImportedImage) -> str:
    """The name of an image's files, without the extension."""
    parts = (Path(image.file_name).stem, image.dataset)
    stem = "-".join(re.sub(r"[^\w.+-]+", "_", part) for part in parts if part)
    return f"{stem[:_LONGEST_STEM]}-{image.id[:_SHORT_ID]}"


def prepare_import(image: ImportedImage) -> PreparedImport:
    """Make picture, original and record of an image; nothing is written yet."""
    name = record_name(image)
    picture = draw_labeling_picture(image.pixels, image.databar_rows)
    files = {
        "picture": (f"{PICTURES}/{name}.png", _png(picture.pixels)),
        "original": (f"{ORIGINALS}/{name}.npy", _npy(image.pixels)),
    }
    record = {"name": name, "id": image.id, **_describe(image), "stretch": _stretch(picture)}
    for part, (path, content) in files.items():
        record[part] = {"path": path, "sha256": _sha256(content)}
    return PreparedImport(record, dict(files.values()))


def save_import(prepared: PreparedImport, folder: Path) -> None:
    """Write picture, original and record of an image.

    Args:
        prepared: What to write. If the image was imported before, from a file of another name, it
            takes the name that it had then.
        folder: Where images are imported to.

    Raises:
        OSError: The folder cannot be written.
    """
    _take_first_name(prepared, folder)
    for path, content in prepared.files.items():
        _write(folder / path, content)
    record = prepared.record
    _write(_record_path(folder, record["name"]), (json.dumps(record, indent=1) + "\n").encode())


def load_imported(path: Path) -> LoadedImport:
    """Read an imported image back.

    Args:
        path: Its record or its picture.

    Raises:
        InvalidImageError: It was not imported, or a file is missing or was changed since.
        OSError: A file cannot be read.
    """
    is_record = path.suffix == ".json"
    record_path = path if is_record else _record_path(path.parent.parent, path.stem)
    if not record_path.is_file():
        raise InvalidImageError(f"{path} has no record {record_path}: import it again")
    try:
        record: Json = json.loads(record_path.read_text(encoding="utf-8"))
        return _load(record, record_path.parent.parent)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidImageError):
            raise
        raise InvalidImageError(
            f"{record_path} is damaged ({type(error).__name__}): import it again"
        ) from None


def find_records(folder: Path) -> dict[str, Path]:
    """All records by their names, and by the SHA-256 of their pictures: an export has both.

    Args:
        folder: Where images were imported to.
    """
    found = {}
    for path in sorted((folder / RECORDS).glob("*.json")):
        found[path.stem] = path
        try:
            picture = json.loads(path.read_text(encoding="utf-8"))["picture"]
            found[str(picture["sha256"])] = path
        except (KeyError, TypeError, ValueError):
            continue  # damaged: whoever measures its image is told
    return found


def earlier_scales(image: ImportedImage, folder: Path) -> tuple[Calibration, ...]:
    """The scales that were found when an image was imported before; none from a damaged record."""
    try:
        found = _first_record(image.id, folder)["scales_found"]
        return tuple(Calibration(**scale) for scale in found)
    except (KeyError, TypeError, ValueError):
        return ()


def _first_record(image_id: str, folder: Path) -> Json:
    """What was recorded of an image, under whatever name; {} if nothing that can be read was."""
    for path in sorted((folder / RECORDS).glob(f"*-{image_id[:_SHORT_ID]}.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["id"] == image_id and record["name"] == path.stem and record["file"]["name"]:
                return dict(record)
        except (OSError, KeyError, TypeError, ValueError):
            continue  # damaged: it is written anew
    return {}


def _take_first_name(prepared: PreparedImport, folder: Path) -> None:
    """Call an import what it was called at first, so that no image is there twice."""
    record = prepared.record
    first = _first_record(record["id"], folder)
    if not first:
        return
    name, record["name"] = record["name"], first["name"]
    record["file"]["name"] = first["file"]["name"]
    for part in ("picture", "original"):
        path = record[part]["path"]
        record[part]["path"] = path.replace(name, first["name"])
        prepared.files[record[part]["path"]] = prepared.files.pop(path)


def _load(record: Json, folder: Path) -> LoadedImport:
    for part in ("picture", "original"):
        file = folder / record[part]["path"]
        if not file.is_file() or _sha256(file.read_bytes()) != record[part]["sha256"]:
            raise InvalidImageError(f"{file} is missing or was changed: import it again")
    content = (folder / record["original"]["path"]).read_bytes()
    told = record["calibration"]
    return LoadedImport(
        name=record["name"],
        calibration=Calibration(**told) if told else None,
        gray=None if record["no_gray"] else np.load(io.BytesIO(content), allow_pickle=False),
        no_gray=record["no_gray"],
        databar_rows=record["databar_rows"],
        flags=tuple(record["flags"]),
        record=record,
    )


def _describe(image: ImportedImage) -> Json:
    """What is known of an image, ready for JSON."""
    chosen = image.scale.calibration
    return {
        "file": {"name": image.file_name, "sha256": image.file_sha256, "dataset": image.dataset},
        "kind": image.kind,
        "height_px": image.pixels.shape[0],
        "width_px": image.pixels.shape[1],
        "dtype": str(image.pixels.dtype),
        "calibration": asdict(chosen) if chosen else None,
        "scales_found": [asdict(scale) for scale in image.scale.found],
        "acquisition": asdict(image.acquisition),
        "databar_rows": image.databar_rows,
        "no_gray": image.no_gray,
        "flags": list(image.flags),
        "notes": list(image.notes),
    }


def _stretch(picture: LabelingPicture) -> Json:
    return {"low": picture.low, "high": picture.high, "gamma": 1.0}


def _record_path(folder: Path, name: str) -> Path:
    return folder / RECORDS / f"{name}.json"


def _write(path: Path, content: bytes) -> None:
    """Write what differs, for all who may read the folder."""
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)
        path.chmod(path.parent.stat().st_mode & 0o666)  # else for its owner alone


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    return buffer.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
