"""A finished annotation to one class per pixel, without what the editor's bugs put into it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backend.annotation.label_config import SEG, UNCERTAIN, LabelConfig
from backend.annotation.scribbles import region_mask, weak_labels
from backend.annotation.tasks import BRUSH, Annotation, Region, SentRegion
from backend.arrays import UNLABELED, LabelMap
from backend.errors import InvalidTaskError

SCRIBBLED = "scribble"
"""Origin of the pixels that a scribble decided."""


@dataclass(frozen=True)
class GroundTruth:
    """What an annotator declared to be true."""

    label_map: LabelMap  # (H, W), UNLABELED where nothing was accepted or painted
    overlap_px: int  # pixels that were given to several materials
    pixels_by_origin: Mapping[str, int]  # "prediction", "prediction-changed", "manual", "scribble"
    notices: tuple[str, ...]  # sentences about what was ignored, restored or changed


def choose_finished(finished: Sequence[Annotation]) -> tuple[Annotation, str]:
    """Choose one of the finished annotations of a task, and say why it is this one.

    One flagged as ground truth comes before those that are only ticked, then the newest.

    Args:
        finished: At least one.
    """
    chosen = max(finished, key=lambda one: (one.ground_truth, one.moment, one.id or 0))
    flagged = sum(annotation.ground_truth for annotation in finished)
    if len(finished) == 1:
        return chosen, "the only finished one"
    if flagged == 1:
        return chosen, f"the one of {len(finished)} that is flagged as ground truth"
    if flagged:
        return chosen, f"the newest of {flagged} that are flagged as ground truth"
    return chosen, f"the newest of {len(finished)}"


def agreement(label_maps: Sequence[LabelMap]) -> float | None:
    """Share of pixels on which all label maps agree, of those that any of them labels.

    Args:
        label_maps: Of one image. Each of shape (H, W).

    Returns:
        0 to 1; None with fewer than two label maps, or when none labels a pixel.

    Example:
        >>> agreement([np.array([[0, 1, 1, 255]]), np.array([[0, 1, 255, 255]])])
        0.6666666666666666
    """
    if len(label_maps) < 2:  # noqa: PLR2004 - nothing to compare
        return None
    lowest, highest = np.min(label_maps, axis=0), np.max(label_maps, axis=0)
    labeled = lowest != UNLABELED
    if not labeled.any():
        return None
    return float(np.mean((lowest == highest)[labeled]))


def compose_label_map(
    annotation: Annotation,
    config: LabelConfig,
    sent: Mapping[str, SentRegion],
    shape: tuple[int, int],
    databar_rows: int = 0,
) -> GroundTruth:
    """Compose the accepted masks and the scribbles into one class per pixel.

    A later mask wins over an earlier one, and a scribble over every mask. An annotation with
    scribbles only has no ground truth: the label map stays empty.

    Args:
        annotation: What the annotator finished.
        config: Names the materials.
        sent: Regions we sent earlier, by id.
        shape: Height and width of the image, in pixels.
        databar_rows: At the bottom of it, which show letters: what lies on them is no material.

    Raises:
        InvalidTaskError: A mask is malformed, or was made on an image of another size; or the
            data bar takes up all of the image.
    """
    if databar_rows >= shape[0]:
        raise InvalidTaskError(
            f"databar_rows of the task is {databar_rows}, but its image has {shape[0]} rows: "
            "correct it in its data"
        )
    masks, notices = accepted_masks(annotation.regions, config, sent)
    scribbles, ignored = weak_labels(annotation.regions, config, sent)
    if not masks:
        scribbles = ()
        notices = (*notices, "no mask was accepted or painted: there is no ground truth in it")
    specimen = slice(shape[0] - databar_rows)
    label_map, overlap_px, pixels = _compose((*masks, *scribbles), config, shape, specimen)
    if overlap_px:
        ignored = (*ignored, f"{overlap_px} pixels were given to several materials: the last won")
    return GroundTruth(label_map, overlap_px, pixels, (*notices, *ignored))


def accepted_masks(
    regions: Sequence[Region], config: LabelConfig, sent: Mapping[str, SentRegion]
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Choose the masks an annotator accepted, edited or painted, with the labels that were meant.

    Args:
        regions: All regions of an annotation.
        config: Names the materials.
        sent: Regions we sent earlier, by id.

    Returns:
        The masks in order, and a sentence about each one that was ignored, restored or relabeled.
    """
    masks = [region for region in regions if region.control == SEG]
    restored = _auto_accept_victims(masks, sent)
    kept: list[Region] = []
    notices: list[str] = []
    for region in _without_twins(masks, sent, notices):
        reason = _why_no_mask(region, sent)
        meant = _with_meant_label(region, sent, restored, notices) if not reason else region
        if not reason and meant.label not in config.materials:
            reason = f"{meant.label!r} is no material of this project"
        if reason:
            notices.append(f"mask {region.id} is ignored: {reason}")
        else:
            kept.append(meant)
    return tuple(kept), tuple(notices)


def _auto_accept_victims(masks: Sequence[Region], sent: Mapping[str, SentRegion]) -> set[str]:
    """Find the regions of ours that Label Studio relabeled by itself.

    With Auto-Accept on it gives every accepted region, even a box, the label that is active.
    A person relabels one region at a time, so several of one answer with one wrong label are
    taken for that bug.
    """
    changed = defaultdict(set)
    for region in masks:
        ours = sent.get(region.id)
        if ours and (region.control, region.label) != (ours.control, ours.label):
            changed[ours.answer, region.label].add(region.id)
    return {id_ for ids in changed.values() if len(ids) > 1 for id_ in ids}


def _without_twins(
    masks: Sequence[Region], sent: Mapping[str, SentRegion], notices: list[str]
) -> list[Region]:
    """Keep one mask of an id: accepting with an active label can attach a second label to it."""
    labels = defaultdict(set)
    for region in masks:
        labels[region.id].add(region.label)
    kept = []
    seen = set()
    for region in masks:
        ours = sent.get(region.id)
        is_extra = ours and region.label != ours.label and ours.label in labels[region.id]
        if is_extra or region.id in seen:
            notices.append(f"mask {region.id} has a second label {region.label!r}: it is ignored")
            continue
        seen.add(region.id)
        kept.append(region)
    return kept


def _why_no_mask(region: Region, sent: Mapping[str, SentRegion]) -> str | None:
    ours = sent.get(region.id)
    if ours and ours.control == UNCERTAIN:
        return "it is a box of ours around an uncertain spot"
    if region.kind != BRUSH or not region.is_painted:
        return "nothing is painted in it"
    return None


def _with_meant_label(
    region: Region, sent: Mapping[str, SentRegion], restored: set[str], notices: list[str]
) -> Region:
    """Restore a label that Label Studio changed; report one that the annotator changed."""
    ours = sent.get(region.id)
    if ours is None or region.label == ours.label:
        return region
    if region.id in restored:
        notices.append(
            f"mask {region.id} came back as {region.label!r} and is {ours.label!r} again: "
            "Auto-Accept relabels what it accepts, switch it off"
        )
        return replace(region, label=ours.label)
    notices.append(f"mask {region.id} was relabeled from {ours.label!r} to {region.label!r}")
    return region


def _compose(
    regions: Sequence[Region], config: LabelConfig, shape: tuple[int, int], rows: slice
) -> tuple[LabelMap, int, dict[str, int]]:
    """Paint regions in order on some rows; count contested pixels, and those of each origin."""
    label_map = np.full(shape, UNLABELED, dtype=np.uint8)
    contested = np.zeros(shape, dtype=np.bool_)
    decided_by = np.full(shape, -1, dtype=np.int32)
    for position, region in enumerate(regions):
        mask = np.zeros(shape, dtype=np.bool_)
        mask[rows] = region_mask(region, shape)[rows]
        index = config.materials.index(region.label or "")
        contested |= mask & (label_map != UNLABELED) & (label_map != index)
        label_map[mask] = index
        decided_by[mask] = position
    counts = np.bincount(decided_by[decided_by >= 0], minlength=len(regions))
    pixels: Counter[str] = Counter()
    for region, count in zip(regions, counts.tolist(), strict=True):
        pixels[region.origin if region.control == SEG else SCRIBBLED] += count
    return label_map, int(np.count_nonzero(contested)), dict(pixels)
