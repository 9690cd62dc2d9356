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
from backend.learning.dataset_legend import LEGEND, read_materials
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
    legend: tuple[str, ...] = ()  # names of the classes, in their order; (): nobody named them

    @property
    def classes(self) -> int:
        """How many classes there are, up to the last one seen."""
        return int(self.truth[self.truth != UNLABELED].max()) + 1

    @property
    def materials(self) -> tuple[str, ...]:
        """The names of these classes; "class 0" and so on where there is no legend."""
        names = self.legend or tuple(f"class {number}" for number in range(self.classes))
        return names[: self.classes]


def synthetic_images(
    modules: Sequence[Module], equipment: Sequence[EquipmentName], count: int, side_px: int
) -> Iterator[LabeledImage]:
    """Draw so many images of each kind, without their data bars; the same ones each time."""
    for module, microscope, seed in product(modules, equipment, range(count)):
        drawn = make_image(module, microscope, seed, (side_px, side_px)).without_databar()
        data_set = f"{module} {microscope} {side_px} px"
        yield LabeledImage(data_set, f"seed {seed}", drawn.image, drawn.label_map, drawn.materials)


def folder_images(
    folder: Path, count: int | None = None, classes: int | None = None
) -> Iterator[LabeledImage]:
    """Read the images of `folder`/images with their masks of the same name in /masks.

    A legend.json in the folder names the classes.

    A mask is a grey or palette PNG whose pixel values are the class indices, 255 where unknown.

    Args:
        folder: As above.
        count: Only so many, the first by name; all if None.
        classes: How many classes there are. A mask may then hold one only, since the others tell
            what is to be told apart.

    Raises:
        InvalidImageError: A folder, image or mask is missing or does not fit; it is named.
        InvalidDatasetError: The legend is damaged.
    """
    files = sorted((folder / "images").glob("*.png"))
    if not files:
        raise InvalidImageError(
            f"{folder} holds no images: put them into {folder / 'images'}, as PNG, and their masks "
            f"into {folder / 'masks'}"
        )
    legend = read_materials(folder / LEGEND)
    limit = classes or len(legend) or MAX_CLASSES
    for file in files[:count]:
        try:
            image = decode_image(file.read_bytes())
        except InvalidImageError as error:
            raise InvalidImageError(f"{file}: {error}") from None
        mask = read_mask(folder / "masks" / file.name, file, image.shape)
        _check_classes(folder / "masks" / file.name, mask, 1 if classes else 2, limit)
        yield LabeledImage(folder.name, file.stem, image, mask, legend)


def read_mask(path: Path, image: Path, shape: tuple[int, ...]) -> LabelMap:
    """Read a mask of an image of this shape.

    Raises:
        InvalidImageError: There is none, or it is not of the same pixels.
    """
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
    return mask


def _check_classes(path: Path, mask: LabelMap, least: int, limit: int) -> None:
    """Refuse a mask without classes, or with ones that do not exist."""
    found = np.unique(mask[mask != UNLABELED])
    if len(found) < least or found[-1] >= limit:
        raise InvalidImageError(
            f"the mask {path} holds the classes {found.tolist()}: give {least} or more, from 0 to "
            f"{limit - 1}, and {UNLABELED} where the class is unknown"
        )
