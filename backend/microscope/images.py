"""Image files and arrays of any depth → grey images from 0 to 1, or files that all can read."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from backend.arrays import UNLABELED, GrayImage, LabelMap
from backend.errors import InvalidImageError
from backend.files import UNREADABLE

MIN_SIDE_PX = 32
MAX_PIXELS = 20_000_000
"""A little more than a 4096 x 4096 camera; the guide's memory grows with it."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # loaders of others, EPS for one, run programs
_BROKEN = (*UNREADABLE, struct.error, IndexError, ArithmeticError, AttributeError)
"""What Pillow raises for files that are none."""
_MAX_16_BITS = 65_535
_STRETCH_PERCENT = (0.1, 99.9)
_GRAY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}
_ORIENTATION, _UPRIGHT = 0x0112, 1  # EXIF
_RGB_TO_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow


def image_id(file_sha256: str, dataset: str = "") -> str:
    """Name an image by the bytes of its file and its name among the images in it."""
    return hashlib.sha256(f"{file_sha256} {dataset}".encode()).hexdigest()[:16]


def pixels_sha256(image: NDArray[np.generic]) -> str:
    """Name an image by its gray values, whatever the compression of its file."""
    digest = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def decode_image(content: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.generic]:
    """Decode an image file of 8 or 16 bits or floats, grey or color.

    Args:
        content: The bytes of a PNG, JPEG, TIFF or BMP file.
        max_pixels: Larger images are refused.

    Returns:
        Gray values (H, W) in the file's own depth; color becomes luminance.

    Raises:
        InvalidImageError: Not an image, damaged, or outside the size limits.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            check_size(file.height, file.width, max_pixels)  # before any pixel is decompressed
            upright = ImageOps.exif_transpose(file)  # browsers, and so annotators, see it upright
            pixels = np.asarray(_drop_palette(upright))
    except InvalidImageError:
        raise
    except Image.DecompressionBombError as error:
        raise InvalidImageError(
            f"the image has more than {max_pixels} px in all: crop or downsample it"
        ) from error
    except _BROKEN as error:
        raise InvalidImageError(
            f"the {len(content)} bytes are no readable image ({type(error).__name__}): "
            "give a PNG, JPEG, TIFF or BMP file"
        ) from error
    return pixels if pixels.ndim == 2 else luminance(pixels)  # noqa: PLR2004 - rows, columns


def count_pixels(path: Path) -> int:
    """Count the pixels of an image file by its header, without decoding it; 0 if it is none.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as content:
        try:
            with Image.open(content, formats=_FORMATS) as file:
                return file.height * file.width
        except (*_BROKEN, Image.DecompressionBombError):  # decoding it will say more
            return 0


def gray_png(content: bytes) -> bytes:
    """Convert an image file to a grey PNG of 8 or 16 bits.

    A PNG in grey stays as it is, byte for byte. Color becomes luminance in 8 bits. Floats, and
    integers that do not fit into 16 bits, are stretched over 16 bits.

    Raises:
        InvalidImageError: Not an image, damaged, outside the size limits, or not finite.
    """
    pixels = decode_image(content)
    with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
        is_gray = file.mode in _GRAY_MODES
        is_upright = file.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
        if file.format == "PNG" and is_upright and file.mode in {"L", "I", "I;16"}:
            return content
    whole = _sixteen_bits(pixels) if is_gray else np.rint(pixels).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "PNG")
    return buffer.getvalue()


def to_gray(image: NDArray[np.generic], max_pixels: int = MAX_PIXELS) -> GrayImage:
    """Stretch an image of any depth to 0..1 between its 0.1 and 99.9 percentiles.

    (H, W) of bool, integers or floats -> (H, W) of float32. An image of one value becomes 0.

    Raises:
        InvalidImageError: Not two-dimensional, outside the size limits, or not finite.
    """
    if image.ndim != 2:  # noqa: PLR2004 - rows, columns
        raise InvalidImageError(f"the image has shape {image.shape}: give one channel, (H, W)")
    check_size(image.shape[0], image.shape[1], max_pixels)
    values = image.astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidImageError("the image holds NaN or infinite values: replace them first")
    low, high = (float(limit) for limit in np.percentile(values, _STRETCH_PERCENT))
    if high == low:
        low, high = float(values.min()), float(values.max())
    contrast = max(high - low, float(np.finfo(np.float32).tiny))
    return np.clip((values - low) / contrast, 0, 1)


def palette_image(label_map: LabelMap, colors: Sequence[tuple[int, int, int]]) -> Image.Image:
    """A mask as palette picture: its pixel values stay the class indices of `label_map` (H, W).

    Args:
        label_map: Class index per pixel, white where it is `UNLABELED`. Shape (H, W).
        colors: Red, green and blue of each class, 0 to 255.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(colors)] = colors
    palette[UNLABELED] = 255
    picture = Image.fromarray(label_map)
    picture.putpalette(palette.tobytes())
    return picture


def check_size(height_px: int, width_px: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image too small to hold a structure or too large for the guide.

    Raises:
        InvalidImageError: With the size found and the limits.
    """
    if min(height_px, width_px) < MIN_SIDE_PX:
        raise InvalidImageError(
            f"the image is {height_px} x {width_px} px: each side needs {MIN_SIDE_PX} px"
        )
    if height_px * width_px > max_pixels:
        raise InvalidImageError(
            f"the image is {height_px} x {width_px} px, more than {max_pixels} px in all: "
            "crop or downsample it"
        )


def _drop_palette(file: Image.Image) -> Image.Image:
    """Palette and exotic modes become RGB; depths that NumPy reads as gray values stay."""
    keep = _GRAY_MODES | {"RGB", "RGBA"}
    return file if file.mode in keep else file.convert("RGB")


def _sixteen_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8 | np.uint16]:
    """Gray values of any depth as integers of 8 or 16 bits. (H, W) -> (H, W)."""
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidImageError("the image holds NaN or infinite values: replace them first")
    low, high = float(values.min()), float(values.max())
    is_whole = np.issubdtype(pixels.dtype, np.integer)
    if not (is_whole and low >= 0 and high <= _MAX_16_BITS):
        values = (values - low) / max(high - low, float(np.finfo(np.float32).tiny)) * _MAX_16_BITS
    return np.rint(values).astype(np.uint16)


def luminance(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Color (H, W, 2..4) to gray values (H, W); an alpha channel is dropped."""
    if pixels.shape[2] == 2:  # noqa: PLR2004 - gray and alpha
        return pixels[..., 0]
    return (pixels[..., :3].astype(np.float32) @ _RGB_TO_LUMINANCE).astype(np.float32)
