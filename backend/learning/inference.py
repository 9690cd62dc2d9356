"""Segments images that nobody annotated with a shared model, tile by tile, file by file.

Several images at once, on a core each; those larger than a tile one after the other.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor

from backend.arrays import GrayImage, LabelMap
from backend.errors import InvalidImageError
from backend.files import in_words, open_atomically, write_atomically
from backend.learning import networks
from backend.learning.networks import SHARED_MARGIN_PX, SHARED_TILE_PX, SharedNetwork
from backend.learning.uncertainty import normalized_entropy
from backend.microscope.image_files import LABELS, UNCERTAINTY
from backend.microscope.images import count_pixels, decode_image, palette_image, to_gray

RGB: TypeAlias = tuple[int, int, int]

MAX_PIXELS = 178_000_000
"""17 bytes are needed for each, 3 GB; Pillow takes no more for an image."""
_MOST_WORKERS = 8
"""Images in memory at once."""
_PIECE = 2**20


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
    one_large_image = Lock()

    def segment_file(path: Path) -> str:
        stem = folder / path.stem
        try:
            is_large = count_pixels(path) > SHARED_TILE_PX**2
            with one_large_image if is_large else nullcontext():  # before it is in memory
                gray = _read(path)
                with _probabilities_file(stem, (len(colors), *gray.shape), keep) as beliefs:
                    segmentation = segment(network, gray, beliefs)
                _write(segmentation, stem, rgb)
        except (InvalidImageError, OSError) as error:
            return in_words(error)
        return ""

    with _workers(len(paths)) as pool:
        yield from zip(paths, pool.map(segment_file, paths), strict=True)


@contextmanager
def _workers(images: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that take an image each and share the cores.

    Cores that share an image wait for each other at each layer, and some of them while it is read
    and written: 205 ms for an image of 1024 px on two cores, with a thread each 125 ms.
    """
    cores = torch.get_num_threads()
    workers = max(1, min(cores, images, _MOST_WORKERS))
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(cores // workers,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def _read(path: Path) -> GrayImage:
    return to_gray(decode_image(path.read_bytes(), MAX_PIXELS), MAX_PIXELS)


def _write(segmentation: Segmentation, stem: Path, colors: Sequence[RGB]) -> None:
    labels = palette_image(segmentation.label_map, colors)
    _write_png(labels, stem.with_name(f"{stem.name}{LABELS}"))
    shown = Image.fromarray(segmentation.uncertainty)
    _write_png(shown, stem.with_name(f"{stem.name}{UNCERTAINTY}"))


def _write_png(picture: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)  # a third larger, in a tenth of the time
    write_atomically(path, content.getvalue())


@contextmanager
def _probabilities_file(
    stem: Path, shape: tuple[int, ...], keep: bool
) -> Iterator[NDArray[np.float16] | None]:
    """The file of the probabilities as an array, which may be larger than memory; None: no file.

    It takes its place when all is in it.
    """
    if not keep:
        yield None
        return
    header = io.BytesIO()
    describe: dict[str, object] = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, describe)  # type: ignore[no-untyped-call] # NumPy's
    start = header.tell()
    with open_atomically(stem.with_name(f"{stem.name}.probabilities.npy")) as file:
        _take_room(file, start + 2 * math.prod(shape))
        file.write(header.getvalue())
        file.flush()
        beliefs = np.memmap(file, np.float16, "r+", start, shape)
        yield beliefs
        beliefs.flush()


def _take_room(file: IO[bytes], size: int) -> None:
    """Make a file so large, of zeros; later a full disk would not be an error but end the process.

    Raises:
        OSError: The disk has no room for it.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _PIECE):  # macOS
        file.write(bytes(min(_PIECE, size - start)))
    file.seek(0)
