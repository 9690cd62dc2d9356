"""A dataset on disk: images, masks, a legend of the classes and a manifest of where all came from.

    legend.json    materials in order of their class index, their colors, the value of no class
    manifest.json  an entry for each image: whose annotation, how it was made, the hashes
    images/NAME.png   grey, 8 or 16 bits
    masks/NAME.png    palette; the pixel value is the class index, 255 where it is unknown

Stopped at any moment, even by a kill, it can be used: an image is there only while its mask is
right. The manifest is written last; whoever writes again repairs it. One process at a time may.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PIL import ImageColor

from backend.arrays import LabelMap
from backend.errors import InvalidDatasetError
from backend.files import write_atomically
from backend.learning.dataset_legend import LEGEND as LEGEND  # for others
from backend.learning.dataset_legend import MANIFEST as MANIFEST
from backend.learning.dataset_legend import legend_json
from backend.microscope.images import palette_image

Json: TypeAlias = dict[str, Any]
Change: TypeAlias = Literal["added", "updated", "kept"]

IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class Legend:
    """What the class indices of the masks mean."""

    materials: tuple[str, ...]  # the index in here is the class
    colors: tuple[str, ...]  # "#rrggbb", one for each material


@dataclass(frozen=True)
class Provenance:
    """Where an image and its mask come from."""

    label_studio: str  # its address
    project: int
    task: int
    annotation: int
    updated_at: str  # when the annotation was last changed, as Label Studio says it
    annotator: str | None  # id or email address
    annotator_title: str  # name, email address and id, as Label Studio shows them
    chosen: str  # why this annotation
    other_annotations: tuple[int, ...]  # finished as well, and not used
    agreement: float | None  # share of pixels on which all finished annotations agree, 0 to 1
    materials: tuple[str, ...]  # those in the mask
    share_by_origin: dict[str, float]  # of all pixels, summing to 1
    overlap_px: int  # pixels that were given to several materials
    pixel_size_nm: float | None  # None also where width and height of a pixel differ
    equipment: str | None  # what took the image
    notices: tuple[str, ...]  # sentences about what was ignored, restored or changed
    import_record: str | None = None  # name of the record that has the original intensities
    original_sha256: str | None = None  # of those intensities on disk
    pixel_size_x_nm: float | None = None
    pixel_size_y_nm: float | None = None
    pixel_size_source: str | None = None  # how it is known

    @property
    def name(self) -> str:
        """Name of the files, without the extension."""
        return f"{_prefix(self.project)}{self.task}"


class Dataset:
    """The dataset below one folder."""

    def __init__(self, folder: Path, legend: Legend) -> None:
        """Read what is there; nothing is written before the first image.

        Raises:
            InvalidDatasetError: It is damaged, is no dataset, or has other materials.
            OSError: It cannot be read.
        """
        self.folder = folder
        self.legend = _kept_legend(folder) or legend
        if self.legend.materials != legend.materials:
            raise InvalidDatasetError(
                f"{folder} has the materials {', '.join(self.legend.materials)}, the project "
                f"{', '.join(legend.materials)}: export to another folder"
            )
        self._entries = _kept_entries(folder)

    @property
    def entries(self) -> tuple[Json, ...]:
        """The entries of the manifest, by name."""
        return tuple(self._entries[name] for name in sorted(self._entries))

    def entries_of(self, project: int) -> dict[int, Json]:
        """The entries of one project, by task id."""
        return {entry["task"]: entry for entry in self.entries if entry["project"] == project}

    def path(self, part: str, name: str) -> Path:
        """Where the image (`IMAGES`) or mask (`MASKS`) of an entry lies."""
        return self.folder / part / f"{name}.png"

    def put(self, provenance: Provenance, image: bytes, label_map: LabelMap) -> Change:
        """Write an image with its mask, unless they are there already.

        Args:
            provenance: What the manifest shall say of them.
            image: A grey PNG.
            label_map: Class index per pixel, or `UNLABELED`. Shape (H, W), that of the image.
        """
        mask = self._mask_png(label_map)
        entry = json.loads(json.dumps({"name": provenance.name, **asdict(provenance)}))
        entry |= {"image_sha256": _sha256(image), "mask_sha256": _sha256(mask)}
        before = self._entries.get(provenance.name, {})
        wrote = self._write_pair(provenance.name, image, mask)
        exported_at = before.get("exported_at")
        if not wrote and before == {**entry, "exported_at": exported_at}:
            return "kept"
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._entries[provenance.name] = {**entry, "exported_at": now}
        return "updated" if before else "added"

    def drop(self, entry: Json) -> None:
        """Take an entry out of the manifest; `sweep` deletes its files."""
        del self._entries[entry["name"]]

    def save(self) -> None:
        """Write the manifest."""
        if self._entries or (self.folder / MANIFEST).exists():
            self._write(MANIFEST, _to_json({"images": self.entries}))

    def sweep(self, project: int) -> None:
        """Delete the files of a project that the manifest does not name.

        They are left by entries that were dropped, and by a process that was killed.
        """
        for path in self._strays(project):
            path.unlink()

    def _mask_png(self, label_map: LabelMap) -> bytes:
        colors = [ImageColor.getrgb(color) for color in self.legend.colors]
        buffer = io.BytesIO()
        palette_image(label_map, [color[:3] for color in colors]).save(buffer, "PNG")
        return buffer.getvalue()

    def _write_pair(self, name: str, image: bytes, mask: bytes) -> bool:
        """Write what differs; tell whether anything did."""
        new_image = not _holds(self.path(IMAGES, name), image)
        new_mask = not _holds(self.path(MASKS, name), mask)
        if new_image and new_mask:  # else the old image would stand beside the new mask
            self.path(IMAGES, name).unlink(missing_ok=True)
        self._write(LEGEND, legend_json(self.legend.materials, self.legend.colors))
        self._write(f"{MASKS}/{name}.png", mask)
        self._write(f"{IMAGES}/{name}.png", image)
        return new_image or new_mask

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        if not _holds(path, content):
            write_atomically(path, content)
            share_as_folder(path)

    def _strays(self, project: int) -> Iterator[Path]:
        """Files that belong to no entry, images first: no image may stand without its mask."""
        ours = re.compile(rf"{_prefix(project)}\d+")
        for part in (IMAGES, MASKS):
            for path in sorted((self.folder / part).glob("*")):
                stray = ours.fullmatch(path.stem) and path.stem not in self._entries
                if (path.suffix == ".png" and stray) or path.suffix == ".part":
                    yield path


def share_as_folder(path: Path) -> None:
    """Let those read a file who may read its folder; it was made for its owner alone."""
    path.chmod(path.parent.stat().st_mode & 0o666)


def _prefix(project: int) -> str:
    return f"project-{project}-task-"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _to_json(fields: Json) -> bytes:
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


def _kept_legend(folder: Path) -> Legend | None:
    """Read the legend; None if there is no dataset yet."""
    path = folder / LEGEND
    if path.exists():
        fields = _read_json(path)
        try:
            materials = tuple(str(material) for material in fields["materials"])
            return Legend(materials, tuple(str(fields["colors"][name]) for name in materials))
        except (KeyError, TypeError):
            raise _damaged(path, "it lacks materials or colors") from None
    if any((folder / part).exists() for part in (IMAGES, MASKS, MANIFEST)):
        raise InvalidDatasetError(
            f"{folder} holds images but no {LEGEND}, so it is no dataset of an export: give "
            "another folder"
        )
    return None


def _kept_entries(folder: Path) -> dict[str, Json]:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        entries = {entry["name"]: entry for entry in _read_json(path)["images"]}
        _ = [(entry["project"], entry["task"], entry["annotation"]) for entry in entries.values()]
    except (KeyError, TypeError):
        raise _damaged(path, "an entry lacks its name, project, task or annotation") from None
    return entries


def _read_json(path: Path) -> Json:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(fields, dict):
        raise _damaged(path, f"it holds a {type(fields).__name__}")
    return fields


def _damaged(path: Path, why: str) -> InvalidDatasetError:
    return InvalidDatasetError(f"{path} is damaged ({why}): restore it, or export to a new folder")
