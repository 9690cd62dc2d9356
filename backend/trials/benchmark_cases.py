"""What the benchmarks work on: synthetic gates, and the strokes an annotator paints on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from backend.annotation.label_config import ASK, ASK_LABEL, IMAGE, SCRIBBLE
from backend.annotation.predictions import RECTANGLE
from backend.annotation.rle import encode_mask
from backend.annotation.scribbles import stroke_mask
from backend.annotation.tasks import BRUSH, Json, Touch
from backend.arrays import UNLABELED, LabelMap
from backend.microscope.synthetic import make_image

STROKE_REACH_PX, STROKE_WIDTH_PX = 60, 8


@dataclass(frozen=True)
class Case:
    """A synthetic image and what an annotator paints on it."""

    image: NDArray[np.generic]  # (H, W)
    materials: tuple[str, ...]
    scribbles: tuple[LabelMap, LabelMap]  # at the first and at the second turn, each (H, W)


def make_case(size_px: int, seed: int = 1) -> Case:
    """Draw a gate of this height and width, and the strokes of two turns."""
    drawn = make_image("gate", "A", seed=seed, shape=(size_px, size_px))
    truth = drawn.label_map
    return Case(drawn.image, drawn.materials, (paint(truth, strokes=1), paint(truth, strokes=2)))


def paint(truth: LabelMap, strokes: int) -> LabelMap:
    """Paint horizontal strokes into each material, where it is widest. (H, W) -> (H, W)."""
    scribbles = np.full_like(truth, UNLABELED)
    shape = (truth.shape[0], truth.shape[1])
    for label in np.unique(truth[truth != UNLABELED]):
        free = truth == label
        for _ in range(strokes):
            depth = distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(depth.argmax(), depth.shape)
            left, right = column - STROKE_REACH_PX, column + STROKE_REACH_PX
            ends = np.array([[row, left], [row, right]], np.float64)
            stroke = stroke_mask(Touch(False, ends, STROKE_WIDTH_PX), shape)
            scribbles[stroke & (truth == label)] = label
            free &= ~stroke_mask(Touch(False, ends, 2 * STROKE_REACH_PX), shape)
    return scribbles


def brush_results(case: Case, turn: int) -> list[Json]:
    """Write the strokes of turn 0 or 1 as an annotation of Label Studio holds them."""
    scribbles = case.scribbles[turn]
    results = []
    for index, material in enumerate(case.materials):
        value = {"rle": encode_mask(scribbles == index), "brushlabels": [material]}
        results.append(_manual(f"stroke{index}", SCRIBBLE, BRUSH, value, scribbles))
    return results


def prompt_result(case: Case) -> Json:
    """Write the box that asks the guide, as a draft of Label Studio holds it."""
    value = {"x": 1, "y": 1, "width": 5, "height": 5, RECTANGLE: [ASK_LABEL]}
    return _manual("prompt", ASK, RECTANGLE, value, case.scribbles[0])


def noisy_masks(size_px: int) -> list[NDArray[np.bool_]]:
    """Four bands with every fiftieth pixel wrong: the most that a poor answer can cost."""
    random = np.random.default_rng(0)
    bands = np.repeat(np.arange(size_px) * 4 // size_px, size_px).reshape(size_px, size_px)
    wrong = random.random(bands.shape) < 1 / 50
    bands[wrong] = random.integers(0, 4, np.count_nonzero(wrong))
    return [bands == index for index in range(4)]


def _manual(region: str, control: str, kind: str, value: Json, drawn_on: LabelMap) -> Json:
    height, width = drawn_on.shape
    return {
        "id": region,
        "from_name": control,
        "to_name": IMAGE,
        "type": kind,
        "origin": "manual",
        "original_width": width,
        "original_height": height,
        "value": value,
    }
