"""What the guide believes, as Label Studio's results: a mask for each material, then the spots."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
from scipy import ndimage
from skimage.measure import label as connected_components

from backend.annotation.label_config import IMAGE, SEG, UNCERTAIN, UNCERTAIN_LABEL, LabelConfig
from backend.annotation.rle import encode_mask
from backend.annotation.tasks import BRUSH, Json, SentRegion
from backend.arrays import UNLABELED, LabelMap
from backend.learning.spots import Spot

RECTANGLE = "rectanglelabels"
MIN_ISLAND_PX = 12
"""Smaller islands are not displayed: speckle makes Label Studio's editor slow."""


def to_results(
    label_map: LabelMap,
    spots: Sequence[Spot],
    config: LabelConfig,
    *,
    scores: Sequence[float] = (),
    notes: Sequence[str] = (),
) -> list[Json]:
    """Write a prediction as Label Studio's results.

    Args:
        label_map: Class per pixel; `UNLABELED` pixels belong to no mask. Shape (H, W).
        spots: Where to scribble next, most uncertain first.
        config: Names the materials.
        scores: Mean confidence by class, which its mask shows; none are shown without.
        notes: Sentences that the annotator should read, written at the first box, or at the first
            mask if there is no box.

    Returns:
        One painted region for each material present, exclusive and smoothed for display, then one
        box for each spot. Every region has a fresh id: a repeated one can crash the editor.
    """
    shown = smooth_for_display(label_map)
    masks = [
        _mask_result(shown, index, config.materials[index], scores)
        for index in np.unique(shown[shown != UNLABELED]).tolist()
    ]
    boxes = [_box_result(spot, rank, label_map.shape) for rank, spot in enumerate(spots, start=1)]
    if notes:
        for result in (boxes or masks)[:1]:
            texts = result.setdefault("meta", {}).setdefault("text", [])
            texts.extend(notes)
    return masks + boxes


def sent_regions(results: Sequence[Json], answer: str | None = None) -> tuple[SentRegion, ...]:
    """List what must be remembered of an answer.

    Args:
        results: From `to_results`.
        answer: Name shared by the regions of this answer; a fresh one if left out.
    """
    name = answer or uuid4().hex
    return tuple(
        SentRegion(
            id=result["id"],
            control=result["from_name"],
            label=result["value"][result["type"]][0],
            answer=name,
        )
        for result in results
    )


def smooth_for_display(label_map: LabelMap, min_island_px: int = MIN_ISLAND_PX) -> LabelMap:
    """Remove speckle: a majority vote of 3 x 3 pixels, then islands go to their nearest neighbor.

    Lines of 2 px or more survive the vote. For display only: train and measure on `label_map`.

    Args:
        label_map: Class per pixel, or `UNLABELED`. Shape (H, W).
        min_island_px: Smaller connected areas are dissolved.

    Returns:
        Still one class per pixel. Shape (H, W).
    """
    voted = _majority(label_map)
    # background=256: no class, so that class 0 has components as well
    components = connected_components(voted.astype(np.int32), background=256, connectivity=1)
    islands = np.bincount(components.ravel())[components] < min_island_px
    if not islands.any() or islands.all():
        return voted
    nearest = ndimage.distance_transform_edt(islands, return_distances=False, return_indices=True)
    return voted[tuple(nearest)]


def _majority(label_map: LabelMap) -> LabelMap:
    """Vote among each pixel and its eight neighbors; with a tie the pixel stays what it is."""
    winner = label_map.copy()
    most_votes = np.zeros(label_map.shape, dtype=np.uint8)
    for index in np.unique(label_map):
        own = (label_map == index).astype(np.uint8)
        rows = ndimage.correlate1d(own, [1, 1, 1], axis=0, mode="nearest")
        votes = 2 * ndimage.correlate1d(rows, [1, 1, 1], axis=1, mode="nearest") + own
        better = votes > most_votes
        winner[better] = index
        most_votes[better] = votes[better]
    return winner


def _mask_result(shown: LabelMap, index: int, material: str, scores: Sequence[float]) -> Json:
    value = {"format": "rle", "rle": encode_mask(shown == index), "brushlabels": [material]}
    result = _result(SEG, BRUSH, value, shown.shape)
    if scores:
        result["score"] = round(scores[index], 4)
    return result


def _box_result(spot: Spot, rank: int, shape: Sequence[int]) -> Json:
    height, width = shape
    value = {
        "x": spot.column / width * 100,
        "y": spot.row / height * 100,
        "width": spot.width / width * 100,
        "height": spot.height / height * 100,
        "rotation": 0,
        "rectanglelabels": [UNCERTAIN_LABEL],
    }
    result = _result(UNCERTAIN, RECTANGLE, value, shape)
    return result | {
        "score": round(spot.score, 4),
        "meta": {"text": [f"rank {rank}: {spot.reason}"]},
    }


def _result(control: str, kind: str, value: Json, shape: Sequence[int]) -> Json:
    height, width = shape
    return {
        "id": uuid4().hex,
        "from_name": control,
        "to_name": IMAGE,
        "type": kind,
        "origin": "prediction",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
