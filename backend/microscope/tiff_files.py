"""TIFF files of all makers → the pages that hold original intensities, each with its tags.

Of a file with pages that carry a maker's scale, only those count: others are renderings of them.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from backend.errors import InvalidImageError
from backend.files import UNREADABLE
from backend.microscope import images
from backend.microscope.tiff_tags import MAKERS, PageTags

_BROKEN = (*UNREADABLE, struct.error, IndexError, AttributeError, tifffile.TiffFileError)
_MIN_IS_WHITE, _RGB, _PALETTE = 0, 2, 3
_REDUCED = 1  # bit of NewSubfileType: a thumbnail
_COLOR_MAP, _SUBFILE_TYPE = 320, 254
_GRAY_SHARE = 0.85  # of a palette: Zeiss gives every ninth level to what is drawn over the image
_LEVEL_SHIFT = 8  # palettes hold 16 bits for 8


@dataclass(frozen=True)
class TiffImage:
    """A page of a TIFF file that is an image."""

    name: str  # "" if the file has no other
    pixels: NDArray[Any]  # (H, W), as stored
    tags: PageTags
    kind: str
    is_color: bool


def read_tiff(path: Path) -> tuple[TiffImage, ...]:
    """Read the images of a TIFF file.

    Raises:
        InvalidImageError: It is damaged, holds none, or one that is a stack, too large or small.
    """
    try:
        with tifffile.TiffFile(path) as file:
            return tuple(_images(path, file))
    except InvalidImageError:
        raise
    except _BROKEN as error:
        raise InvalidImageError(f"it is no readable TIFF file ({type(error).__name__})") from None


def _images(path: Path, file: tifffile.TiffFile) -> Iterator[TiffImage]:
    imagej = file.imagej_metadata or {}
    if int(imagej.get("images", 1)) > 1:
        raise InvalidImageError(
            f"it is an ImageJ stack of {imagej['images']} images: save the one to measure alone"
        )
    pages = list(enumerate(_pages(file)))
    scaled = [(at, page) for at, page in pages if any(code in page.tags for code in MAKERS)]
    gray = [(at, page) for at, page in pages if page.samplesperpixel == 1]
    chosen = scaled or gray or pages
    for at, page in chosen:
        values = {tag.code: tag.value for tag in page.tags}
        tags = PageTags(_shape(page), values, imagej, reader_version=tifffile.__version__)
        kind = next((MAKERS[code] for code in MAKERS if code in values), "TIFF")
        yield TiffImage(
            name=f"page {at}" if len(chosen) > 1 else "",
            pixels=_pixels(path, page, at),
            tags=tags,
            kind="ImageJ TIFF" if imagej else kind,
            is_color=page.samplesperpixel > 1,
        )


def _pages(file: tifffile.TiffFile) -> Iterator[Any]:
    """The pages that are no thumbnails."""
    for page in file.pages:
        tags: Any = getattr(page, "tags", {})
        kind = tags.get(_SUBFILE_TYPE)
        if kind is None or not int(kind.value) & _REDUCED:
            yield page


def _shape(page: tifffile.TiffPage) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)


def _pixels(path: Path, page: tifffile.TiffPage, at: int) -> NDArray[Any]:
    """The gray values of a page, (H, W); bright is large."""
    images.check_size(*_shape(page))
    if page.photometric == _PALETTE and not _is_gray_ramp(page.tags[_COLOR_MAP].value):
        raise InvalidImageError("its colors are a palette, which is no gray scale: save it in gray")
    try:
        pixels: NDArray[Any] = page.asarray()
    except ValueError:  # a compression that tifffile knows with another package only
        pixels = _pixels_by_pillow(path, at)
    if page.samplesperpixel > 1:
        return images.luminance(np.moveaxis(pixels, 0, -1) if page.planarconfig == 2 else pixels)  # noqa: PLR2004 - planes
    if pixels.ndim != 2:  # noqa: PLR2004 - rows, columns
        raise InvalidImageError(f"it is a stack of shape {pixels.shape}: save one image alone")
    if page.photometric == _MIN_IS_WHITE and np.issubdtype(pixels.dtype, np.unsignedinteger):
        return np.asarray(np.iinfo(pixels.dtype).max - pixels)
    return pixels


def _pixels_by_pillow(path: Path, at: int) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tags; missing pixels are an error
        with Image.open(path, formats=("TIFF",)) as file:
            file.seek(at)
            return np.asarray(file)


def _is_gray_ramp(palette: NDArray[np.uint16]) -> bool:
    """Whether a palette (3, levels) shows its own indices as gray, but for a few drawing colors."""
    levels = np.arange(palette.shape[1]) << (_LEVEL_SHIFT if palette.max() > 255 else 0)  # noqa: PLR2004 - 8 bits
    is_gray = np.abs(palette.astype(np.int64) - levels).max(axis=0) <= 255  # noqa: PLR2004 - 257 i or 256 i
    return bool(is_gray.mean() >= _GRAY_SHARE)
