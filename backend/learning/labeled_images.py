"""Images whose true classes are known: drawn by our generator, or read from a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.arrays import MAX_CLASSES, UNLABELED, LabelMap
from backend.errors import InvalidImageError
from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName
from backend.microscope.images import decode_image
from backend.microscope.synthetic import make_image


@dataclass(frozen=True)
class LabeledImage:
    """An image and the class of each of its pixels."""

    data_set: str  # what it is one of, e.g. "gate A 512 px"
    name: str
    image: NDArray[np.generic]  # (H, W), of any depth
    truth: LabelMap  # (H, W), UNLABELED where it is unknown

    @property
    def classes(self) -> int:
        """How many classes there are, up to the last one seen."""
        return int(self.truth[self.truth != UNLABELED].max()) + 1


def synthetic_images(
    modules: Sequence[Module], equipment: Sequence[EquipmentName], count: int, side_px: int
) -> Iterator[LabeledImage]:
    """Draw so many images of each kind, without their data bars; the same ones each time."""
    for module, microscope, seed in product(modules, equipment, range(count)):
        drawn = make_image(module, microscope, seed, (side_px, side_px)).without_databar()
        data_set = f"{module} {microscope} {side_px} px"
        yield LabeledImage(data_set, f"seed {seed}", drawn.image, drawn.label_map)


def folder_images(folder: Path, count: int) -> Iterator[LabeledImage]:
    """Read the first images of `folder`/images with their masks of the same name in /masks.

    A mask is a grey or palette PNG whose pixel values are the class indices, 255 where unknown.

    Raises:
        InvalidImageError: A folder, image or mask is missing or does not fit; it is named.
    """
    files = sorted((folder / "images").glob("*.png"))
    if not files:
        raise InvalidImageError(
            f"{folder} holds no images: put them into {folder / 'images'}, as PNG, and their masks "
            f"into {folder / 'masks'}"
        )
    for file in files[:count]:
        try:
            image = decode_image(file.read_bytes())
        except InvalidImageError as error:
            raise InvalidImageError(f"{file}: {error}") from None
        yield LabeledImage(folder.name, file.stem, image, _read_mask(folder, file, image.shape))


def _read_mask(folder: Path, image: Path, shape: tuple[int, ...]) -> LabelMap:
    """Read the mask that belongs to an image of this shape, and check it."""
    path = folder / "masks" / image.name
    try:
        with Image.open(path) as file:
            mask = np.asarray(file)
    except OSError:
        raise InvalidImageError(f"{image} has no mask that can be read at {path}") from None
    if mask.ndim != 2 or mask.dtype != np.uint8:  # noqa: PLR2004 - rows, columns
        raise InvalidImageError(
            f"the mask {path} has shape {mask.shape} of {mask.dtype}: give one class index per "
            "pixel, as a grey or palette PNG of 8 bits"
        )
    if mask.shape != shape:
        raise InvalidImageError(
            f"the mask {path} has shape {mask.shape} (height, width), its image {shape}: "
            "they must be equal"
        )
    classes = np.unique(mask[mask != UNLABELED])
    if len(classes) < 2 or classes[-1] >= MAX_CLASSES:  # noqa: PLR2004 - nothing to tell apart
        raise InvalidImageError(
            f"the mask {path} holds the classes {classes.tolist()}: give 2 or more, from 0 to "
            f"{MAX_CLASSES - 1}, and {UNLABELED} where the class is unknown"
        )
    return mask
