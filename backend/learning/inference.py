"""Segments images that nobody annotated with a shared model, tile by tile, file by file.

While the network works on an image, the next one is read and the last one is written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from backend.arrays import GrayImage, LabelMap
from backend.errors import InvalidImageError
from backend.files import write_atomically
from backend.learning import networks
from backend.learning.networks import SHARED_MARGIN_PX, SHARED_TILE_PX, SharedNetwork
from backend.learning.uncertainty import normalized_entropy
from backend.microscope.images import decode_image, palette_image, to_gray

RGB: TypeAlias = tuple[int, int, int]

MAX_PIXELS = 400_000_000
"""10 bytes are needed for each."""


@dataclass(frozen=True)
class Segmentation:
    """What a shared model believes of one image."""

    label_map: LabelMap  # (H, W)
    uncertainty: NDArray[np.uint8]  # (H, W), normalized entropy times 255


def segment(
    network: SharedNetwork, gray: GrayImage, probabilities: NDArray[np.float16] | None = None
) -> Segmentation:
    """Segment an image; memory does not grow with the number of classes.

    Args:
        network: (N, 1, H, W) -> (N, C, H, W).
        gray: From `to_gray`. Shape (H, W).
        probabilities: Filled with the probabilities where given, such as a file in memory. Shape
            (C, H, W).
    """
    device = next(network.parameters()).device
    label_map = np.empty(gray.shape, np.uint8)
    uncertainty = np.empty(gray.shape, np.uint8)
    image = networks.to_input(networks.pad_image(gray)).to(device)
    for tile, beliefs in networks.predict_tiles(network, image, SHARED_TILE_PX, SHARED_MARGIN_PX):
        place = tile.place[1:]
        part = label_map[place].shape  # without the padding
        believed = beliefs[:, : part[0], : part[1]]
        label_map[place] = believed.argmax(axis=0)
        uncertainty[place] = np.rint(normalized_entropy(believed) * 255)
        if probabilities is not None:
            probabilities[tile.place] = believed
    return Segmentation(label_map, uncertainty)


def segment_files(
    network: SharedNetwork,
    paths: Sequence[Path],
    folder: Path,
    colors: Sequence[str],
    *,
    keep: bool = False,
) -> Iterator[tuple[Path, str]]:
    """Segment image files into `folder`: NAME.labels.png, NAME.uncertainty.png.

    Args:
        network: (N, 1, H, W) -> (N, C, H, W).
        paths: The images; names without suffixes are unique.
        folder: Where to write; made if it does not exist.
        colors: "#rrggbb" for each class.
        keep: Also write NAME.probabilities.npy, (C, H, W) of float16.

    Yields:
        Each path when it is done, and why it failed, "" if it did not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rgb = [ImageColor.getrgb(color)[:3] for color in colors]
    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(_read, path) for path in paths[:1]]
        writing: list[tuple[Path, Future[None]]] = []
        for number, path in enumerate(paths):
            current = reading.pop()
            reading = [pool.submit(_read, later) for later in paths[number + 1 : number + 2]]
            stem = folder / path.stem
            try:
                gray = current.result()
                beliefs = _open_probabilities(stem, len(colors), gray) if keep else None
                segmentation = segment(network, gray, beliefs)
            except (InvalidImageError, OSError) as error:
                yield path, str(error)
                continue
            yield from _done(writing)
            writing = [(path, pool.submit(_write, segmentation, stem, rgb))]
        yield from _done(writing)


def _read(path: Path) -> GrayImage:
    return to_gray(decode_image(path.read_bytes(), MAX_PIXELS), MAX_PIXELS)


def _done(writing: Sequence[tuple[Path, Future[None]]]) -> Iterator[tuple[Path, str]]:
    for path, future in writing:
        error = future.exception()
        yield path, str(error) if error else ""


def _write(segmentation: Segmentation, stem: Path, colors: Sequence[RGB]) -> None:
    labels = palette_image(segmentation.label_map, colors)
    _write_png(labels, stem.with_name(f"{stem.name}.labels.png"))
    shown = Image.fromarray(segmentation.uncertainty)
    _write_png(shown, stem.with_name(f"{stem.name}.uncertainty.png"))


def _write_png(picture: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)  # a third larger, in a tenth of the time
    write_atomically(path, content.getvalue())


def _open_probabilities(stem: Path, classes: int, gray: GrayImage) -> NDArray[np.float16]:
    """Make the file of the probabilities, which may be larger than memory."""
    path = stem.with_name(f"{stem.name}.probabilities.npy")
    shape = (classes, *gray.shape)
    return np.lib.format.open_memmap(path, "w+", np.float16, shape)  # type: ignore[no-untyped-call] # NumPy's
