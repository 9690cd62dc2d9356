"""What measuring needs of an image, whether it was imported before or is read from its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.microscope.calibration import Calibration
from backend.microscope.images import decode_image, image_id
from backend.microscope.import_record import LoadedImport
from backend.microscope.importers import ImportedImage
from backend.microscope.labeling_picture import draw_labeling_picture
from backend.microscope.reading import Acquisition


@dataclass(frozen=True)
class Intensities:
    """The gray values of an image, and what its file tells."""

    pixels: NDArray[Any] | None  # (H, W), as the microscope stored them; None: not to be used
    picture: NDArray[np.uint8]  # (H, W), what annotators and networks see
    no_gray: str  # why edges must not be fitted to the pixels
    flags: tuple[str, ...]
    scales: tuple[Calibration, ...]  # found in and beside the file
    databar_rows: int
    acquisition: Acquisition
    file_sha256: str
    dataset: str
    bit_depth: int

    @property
    def id(self) -> str:
        """Of the image, as the CD database knows it."""
        return image_id(self.file_sha256, self.dataset)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.picture.shape[0], self.picture.shape[1]


def of_file(image: ImportedImage) -> Intensities:
    """As read from the microscope's file."""
    return Intensities(
        None if image.no_gray else image.pixels,
        draw_labeling_picture(image.pixels, image.databar_rows).pixels,
        image.no_gray,
        image.flags,
        image.scale.found,
        image.databar_rows,
        image.acquisition,
        image.file_sha256,
        image.dataset,
        8 * image.pixels.dtype.itemsize,
    )


def of_import(loaded: LoadedImport, folder: Path) -> Intensities:
    """As kept by an earlier import into a folder.

    Raises:
        InvalidImageError: The picture cannot be read.
        OSError: It is missing.
    """
    record = loaded.record
    picture = decode_image((folder / record["picture"]["path"]).read_bytes())
    return Intensities(
        loaded.gray,
        picture.astype(np.uint8),
        loaded.no_gray,
        loaded.flags,
        tuple(Calibration(**scale) for scale in record["scales_found"]),
        loaded.databar_rows,
        Acquisition(**record["acquisition"]),
        record["file"]["sha256"],
        record["file"]["dataset"],
        8 * np.dtype(record["dtype"]).itemsize,
    )
