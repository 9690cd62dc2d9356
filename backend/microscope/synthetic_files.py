"""Synthetic images on disk, each with the files its microscope would have written.

A folder holds `images/` (8-bit PNG, for labelling), `masks/` (palette PNG, pixel value = class
index, `UNLABELED` on a data bar), `truth/` (JSON) and, for the microscopes that write TIFF,
`originals/` with their pixel size: an ImageJ TIFF, or a plain TIFF with a text file beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from backend.arrays import LabelMap
from backend.microscope import images
from backend.microscope.synthetic import SyntheticImage

COLORS = ((70, 90, 170), (230, 215, 140), (110, 190, 110), (190, 70, 60))
"""Red, green, blue of the first classes in a mask's palette."""


def save_image(image: SyntheticImage, folder: Path, name: str) -> None:
    """Write one synthetic image, its mask, its truth and its original under `folder`."""
    for part in ("images", "masks", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    display = display_image(image)
    Image.fromarray(display).save(folder / "images" / f"{name}.png")
    palette_image(image.label_map).save(folder / "masks" / f"{name}.png")
    truth = json.dumps(describe_truth(image), indent=1)
    (folder / "truth" / f"{name}.json").write_text(truth, encoding="utf-8")
    _save_original(image, folder / "originals", name)


def folder_materials(folder: Path) -> tuple[str, ...]:
    """Materials that all images of a folder share, class by class; none where modules differ.

    Raises:
        ValueError: The folder holds images that nobody drew.
    """
    names = sorted(path.stem for path in (folder / "images").glob("*.png"))
    paths = [folder / "truth" / f"{name}.json" for name in names]
    lost = [path.stem for path in paths if not path.exists()]
    if lost:
        raise ValueError(
            f"{folder} holds images of another origin, {lost[0]} for one: give another folder"
        )
    found = {tuple(json.loads(path.read_text(encoding="utf-8"))["materials"]) for path in paths}
    return found.pop() if len(found) == 1 else ()


def display_image(image: SyntheticImage) -> NDArray[np.uint8]:
    """The picture an annotator sees: (H, W) in 8 bits, stretched if the original has 16."""
    if image.image.dtype == np.uint8:
        return image.image.astype(np.uint8)
    low, high = np.percentile(image.image[: image.device_rows], [0.1, 99.9])
    stretched = (image.image - low) / max(high - low, 1)
    return np.rint(255 * np.clip(stretched, 0, 1)).astype(np.uint8)


def palette_image(label_map: LabelMap) -> Image.Image:
    """A mask as palette picture: its pixel values stay the class indices of `label_map` (H, W)."""
    return images.palette_image(label_map, COLORS)


def describe_truth(image: SyntheticImage) -> dict[str, object]:
    """Everything true about an image but its pixels, ready for JSON."""
    return {
        "materials": image.materials,
        "nm_per_px_x": image.nm_per_px_x,
        "nm_per_px_y": image.nm_per_px_y,
        "device_rows": image.device_rows,
        "truth": [asdict(row) for row in image.truth],
        "metadata": image.metadata,
    }


def _save_original(image: SyntheticImage, folder: Path, name: str) -> None:
    """Write what the microscope itself stores; one that knows only PNG keeps no pixel size."""
    flavour = image.metadata["equipment"]["files"]
    if flavour == "png":
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tif"
    if flavour == "imagej_tif":
        pixels_per_nm = (1 / image.nm_per_px_x, 1 / image.nm_per_px_y)
        unit = {"unit": "nm"}
        tifffile.imwrite(path, image.image, imagej=True, resolution=pixels_per_nm, metadata=unit)
        return
    tifffile.imwrite(path, image.image)
    sidecar = f"PixelSize={image.nm_per_px_x:.9g}\nPixelSizeY={image.nm_per_px_y:.9g}\nUnit=nm\n"
    sidecar += f"Gamma={image.metadata['exposure']['gamma']:.4g}\n"
    path.with_suffix(".txt").write_text(sidecar, encoding="utf-8")
