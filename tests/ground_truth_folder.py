"""Writes small datasets as an export would, and gives their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from backend.learning.segmentation_data import TrainingImage

MATERIALS = ("Si", "Oxide", "Metal")


def stripes(seed, side=80):
    """A noisy image of three layers, dark to bright from the top down; image and label map."""
    random = np.random.default_rng(seed)
    first, second = np.sort(random.integers(20, side - 20, 2)) + np.array([-8, 8])
    rows = np.arange(side)[:, None]
    label_map = ((rows >= first).astype(np.uint8) + (rows >= second)) * np.ones((1, side), np.uint8)
    image = 40 + 80 * label_map.astype(float) + random.normal(0, 8, label_map.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label_map


def training_image(seed, equipment="unknown", side=80):
    """The same, as it is trained on."""
    image, label_map = stripes(seed, side)
    gray = (image / 255).astype(np.float16)
    hashes = f"hash {seed}", f"picture {seed}"
    return TrainingImage(f"image {seed}", equipment, gray, label_map, *hashes)


def write_dataset(folder: Path, count=3, equipment=()):
    """Write images, masks, legend and, if equipment is named, a manifest."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        image, label_map = stripes(seed)
        Image.fromarray(image).save(folder / "images" / f"image {seed}.png")
        Image.fromarray(label_map).save(folder / "masks" / f"image {seed}.png")
    legend = {"materials": MATERIALS, "colors": {"Si": "#ff0000"}, "ignore_index": 255}
    (folder / "legend.json").write_text(json.dumps(legend))
    if equipment:
        entries = [
            {"name": f"image {seed}", "equipment": name} for seed, name in enumerate(equipment)
        ]
        (folder / "manifest.json").write_text(json.dumps({"images": entries}))
    return folder
