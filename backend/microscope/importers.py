"""An image file of a microscope → original intensities, pixel size and where it is known from.

What cannot be an image of lengths is refused with a sentence: spectra, diffraction patterns,
stacks, damaged files, pixels of implausible size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import InvalidImageError
from backend.microscope import images
from backend.microscope.calibration import Calibration
from backend.microscope.databar_finder import find_databar
from backend.microscope.reading import Acquisition, Reading, join
from backend.microscope.rosetta import KINDS, read_native
from backend.microscope.scale import Scale, choose_scale
from backend.microscope.sidecars import read_sidecars
from backend.microscope.tiff_files import read_tiff
from backend.microscope.tiff_tags import read_resolution, read_tags

ALL = "all"
"""Stands for all images of a file."""

_CLIPPED_SHARE = 0.005
_LINEAR = (None, 1)  # gammas: nobody speaks of one, or it changes nothing
_MAGIC = {
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"II+\0": "tif",
    b"MM\0+": "tif",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
}


@dataclass(frozen=True)
class ImportOptions:
    """What only the user can know of a file."""

    dataset: str = ""  # name of an image in a file of several, or `ALL`
    scale: Calibration | None = None
    use_resolution_tag: bool = False
    any_pixel_size: bool = False


@dataclass(frozen=True)
class ImportedImage:
    """One image of a file, with all that is known of it."""

    file_name: str
    file_sha256: str
    dataset: str  # name of the image in a file of several, else ""
    kind: str  # what wrote it
    pixels: NDArray[Any]  # (H, W), as stored
    scale: Scale
    acquisition: Acquisition
    databar_rows: int  # at the bottom
    no_gray: str = ""  # why edges must not be fitted to the intensities; "": they are linear
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for the same bytes and the same image in them: 16 hexadecimal digits."""
        return images.image_id(self.file_sha256, self.dataset)


@dataclass(frozen=True)
class Found:
    """An image as a reader hands it over."""

    dataset: str
    kind: str
    pixels: NDArray[Any]
    reading: Reading
    no_gray: str = ""
    flags: tuple[str, ...] = field(default=())


def import_file(path: Path, options: ImportOptions | None = None) -> tuple[ImportedImage, ...]:
    """Read the image of a file, or those the user chose.

    Args:
        path: TIFF, PNG, JPEG, BMP; with the extra `microscope` dm3, dm4, emd, ser, emi.
        options: What the user knows of it.

    Raises:
        InvalidImageError: It is refused; the sentence says why.
        OSError: It cannot be read.
    """
    options = options or ImportOptions()
    content = path.read_bytes()
    found = tuple(_reader(path, content)(path, options))
    chosen = _choose(found, options.dataset)
    digest = hashlib.sha256(content).hexdigest()
    return tuple(_complete(path, digest, one, options) for one in chosen)


def _reader(path: Path, content: bytes) -> Callable[[Path, ImportOptions], Iterator[Found]]:
    """By the first bytes: names lie."""
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")
    if kind:
        return _read_tiff if kind == "tif" else _read_picture
    if path.suffix.lower() in KINDS:
        return _read_native
    raise InvalidImageError(
        f"it is in no known format: give a TIFF, PNG, JPEG or BMP file, or {', '.join(KINDS)}"
    )


def _read_tiff(path: Path, options: ImportOptions) -> Iterator[Found]:
    for page in read_tiff(path):
        readings = [read_tags(page.tags)]
        if options.use_resolution_tag:
            readings.append(read_resolution(page.tags))
        reading = join([*readings, read_sidecars(path, page.tags.shape)])
        gamma = reading.acquisition.gamma
        is_linear = not page.is_color and gamma in _LINEAR
        yield Found(
            page.name, page.kind, page.pixels, reading, "" if is_linear else "unknown_gamma"
        )


def _read_picture(path: Path, _options: ImportOptions) -> Iterator[Found]:
    """Read a format of screens, whose gray values went through nobody knows what."""
    content = path.read_bytes()
    pixels = images.decode_image(content)
    kind = next(kind for magic, kind in _MAGIC.items() if content.startswith(magic))
    yield Found("", kind, pixels, read_sidecars(path, _shape(pixels)), "unknown_gamma")


def _read_native(path: Path, _options: ImportOptions) -> Iterator[Found]:
    for image in read_native(path):
        reading = join([image.reading, read_sidecars(path, _shape(image.pixels))])
        yield Found(image.name, image.kind, image.pixels, reading)


def _shape(pixels: NDArray[Any]) -> tuple[int, int]:
    rows, columns = pixels.shape
    return rows, columns


def _choose(found: tuple[Found, ...], dataset: str) -> tuple[Found, ...]:
    """The images that the user means."""
    names = ", ".join(one.dataset for one in found)
    if dataset == ALL or (len(found) == 1 and not dataset):
        return found
    if not dataset:
        raise InvalidImageError(
            f"it holds {len(found)} images ({names}): choose with --dataset NAME of "
            f"import_images.py, or take them with --dataset {ALL}"
        )
    chosen = tuple(one for one in found if one.dataset.lower() == dataset.lower())
    if not chosen and len(found) > 1:
        raise InvalidImageError(f"it holds no image {dataset!r}, but {names}")
    return chosen or found


def _complete(path: Path, digest: str, found: Found, options: ImportOptions) -> ImportedImage:
    pixels, reading = found.pixels, found.reading
    images.check_size(*pixels.shape)
    if not np.isfinite(pixels).all():
        raise InvalidImageError("it holds NaN or infinite values: replace them first")
    manual = (options.scale,) if options.scale else ()
    scale = choose_scale((*reading.scales, *manual), any_size=options.any_pixel_size)
    image = ImportedImage(
        file_name=path.name,
        file_sha256=digest,
        dataset=found.dataset,
        kind=found.kind,
        pixels=pixels,
        scale=scale,
        acquisition=reading.acquisition,
        databar_rows=reading.databar_rows or find_databar(pixels),
        no_gray=found.no_gray,
        notes=(*reading.notes, *_gamma_notes(reading.acquisition)),
    )
    return replace(image, flags=tuple(_flags(image)))


def _flags(image: ImportedImage) -> Iterator[str]:
    """What whoever measures the image has to know."""
    yield from image.scale.flags
    if image.no_gray:
        yield image.no_gray
    if image.acquisition.gamma not in _LINEAR:
        yield "recorded_gamma"
    if image.databar_rows:
        yield "databar"
    counted = image.pixels[: image.pixels.shape[0] - image.databar_rows]
    if _clipped_share(counted) > _CLIPPED_SHARE:
        yield "clipped"


def _gamma_notes(acquisition: Acquisition) -> Iterator[str]:
    """Why a gamma is not undone: no maker says which way it goes, nor what it was applied to.

    Undone the wrong way it would move an edge twice as far, and look right.
    """
    if acquisition.gamma not in _LINEAR:
        yield (
            f"it records a gamma of {acquisition.gamma:g}, but not how the gray values follow from "
            "it: no edge is fitted to them; store the image with a gamma of 1 to have that"
        )


def _clipped_share(pixels: NDArray[Any]) -> float:
    """Share of the pixels at the ends of their integer type; 0 for floats and wide integers."""
    if not np.issubdtype(pixels.dtype, np.unsignedinteger) or pixels.dtype.itemsize > 2:  # noqa: PLR2004 - bytes
        return 0.0
    ends = np.iinfo(pixels.dtype)
    at_black = pixels == ends.min if pixels.dtype.itemsize == 1 else np.zeros_like(pixels, bool)
    return float((at_black | (pixels == ends.max)).mean())
