"""Images for the demo: files or synthetic ones go in; PNG or JPEG with a name come out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import InvalidImageError
from backend.microscope.image_files import PICTURE_SUFFIXES
from backend.microscope.images import decode_image, to_gray
from backend.microscope.synthetic import make_image

_SHOWN_BY_BROWSERS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how PNG and JPEG files begin
SYNTHETIC_SEEDS = range(1, 7)


@dataclass(frozen=True)
class DemoImage:
    """One image to import."""

    name: str  # with its extension
    content: bytes  # PNG or JPEG


def read_images(paths: Sequence[Path]) -> tuple[DemoImage, ...]:
    """Read image files and folders of them; what a browser cannot show becomes 8-bit PNG.

    Raises:
        InvalidImageError: A file is missing, no image, or outside the size limits, or a folder
            holds no image; it is named.
    """
    return tuple(_read_image(file) for path in paths for file in _files(path))


def synthetic_images() -> tuple[tuple[str, ...], tuple[DemoImage, ...]]:
    """Draw gates of six devices, 512 px wide; return the materials and the images."""
    drawn = [make_image("gate", "A", seed) for seed in SYNTHETIC_SEEDS]
    images = [
        DemoImage(f"gate-{seed}.png", as_png(synthetic.image))
        for seed, synthetic in zip(SYNTHETIC_SEEDS, drawn, strict=True)
    ]
    return drawn[0].materials, tuple(images)


def _files(path: Path) -> list[Path]:
    """The image files of a folder, by name; a file stands for itself."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise InvalidImageError(f"the folder {path} holds no image: {', '.join(PICTURE_SUFFIXES)}")
    return files


def _read_image(path: Path) -> DemoImage:
    try:
        content = path.read_bytes()
        shown = as_png(decode_image(content))  # as the backend will: what it refuses is refused
    except OSError as error:
        raise InvalidImageError(
            f"the image {path} cannot be read: {error.strerror or error}"
        ) from None
    except InvalidImageError as error:
        raise InvalidImageError(f"{path}: {error}") from None
    if content.startswith(_SHOWN_BY_BROWSERS):
        return DemoImage(path.name, content)
    return DemoImage(f"{path.stem}.png", shown)


def as_png(image: NDArray[np.generic]) -> bytes:
    """Write an image of any depth as the guide sees it, in 8 bits. (H, W)."""
    file = io.BytesIO()
    Image.fromarray((to_gray(image) * 255).round().astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()
