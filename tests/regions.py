"""Regions and Label Studio results for tests, as short as a test can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from backend.annotation.label_config import LabelConfig
from backend.annotation.rle import encode_mask
from backend.annotation.tasks import Annotation, Region, Touch

CONFIG = LabelConfig(("Si", "Oxide", "Nitride", "Metal"))


def request_body(name: str) -> Any:
    """Read a request that Label Studio sent."""
    return json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text())


def stroke(points, *, width_px=1.0, erases=False) -> Touch:
    """Press the mouse along points of (row, column)."""
    return Touch(erases, np.array(points, dtype=np.float64).reshape(-1, 2), width_px)


def scribble(label="Si", *, points=((0, 0),), **changes) -> Region:
    """Paint a scribble by hand."""
    given = {"control": "scribble", "origin": "manual", "touches": (stroke(points),)}
    return Region(**{"id": "s1", "kind": "brushlabels", "label": label} | given | changes)


def mask_of(pixels: str) -> np.ndarray:
    """Draw a mask: rows of "." and "#", separated by blanks."""
    return np.array([[pixel == "#" for pixel in row] for row in pixels.split()])


def seg(label="Si", pixels="##.. ##..", **changes) -> Region:
    """Paint a mask of the guide that the annotator accepted."""
    mask = mask_of(pixels)
    given = {"control": "seg", "origin": "prediction", "rle": tuple(encode_mask(mask))}
    return Region(
        **{"id": "m1", "kind": "brushlabels", "label": label, "shape": mask.shape} | given | changes
    )


def annotation(*regions: Region, **changes) -> Annotation:
    """Submit regions."""
    given = {"id": 1, "user": "1", "updated_at": "2026-11-22T08:32:27Z", "regions": regions}
    return Annotation(**given | changes)
