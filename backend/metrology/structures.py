"""Label map → instances of a recipe's structures: which pixels belong to which gate.

Pixels only decide what belongs together; where edges lie is a matter of `contours`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import UNLABELED, LabelMap
from backend.metrology.contours import Points, pixels_of
from backend.metrology.frame import Frame
from backend.metrology.recipe import StructureRule
from backend.metrology.results import Point

Mask = NDArray[np.bool_]  # (H, W)

_MARGIN_PX = 8  # around a mask: soft edges go on beyond it
_ENDS = 0.15  # of the rows at either end, where corners are rounded
_FOOT = 1.5  # times that, how far from a piece its own pixels reach
_BRIDGE = 0.1  # of the height above a cut: no bridge of two instances is that thick


@dataclass(frozen=True)
class Instance:
    """One connected piece of a structure."""

    structure: str
    index: int  # 0 first
    mask: Mask  # its pixels with a margin around, holes closed
    corner: tuple[int, int]  # row and column of the mask's first pixel in the image
    center: Point  # (row, column)
    reach_px: float  # half its width, in columns
    area_px: float  # pixels; only to compare with the least area asked for
    cut_v: float | None = None  # level it was cut at
    is_below_cut: bool = False  # the cut is its top, not its base
    flags: tuple[str, ...] = ()

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the mask lies in the image."""
        row, column = self.corner
        return slice(row, row + self.mask.shape[0]), slice(column, column + self.mask.shape[1])


def in_order(rules: Mapping[str, StructureRule]) -> list[str]:
    """Names of the structures, each after the one whose level cuts it.

    Raises:
        ValueError: Structures cut each other in a circle.
    """
    needs = {name: {rule.cut.level_of} if rule.cut else set() for name, rule in rules.items()}
    try:
        return [name for name in TopologicalSorter(needs).static_order() if name in rules]
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ValueError(f"structures cut each other in a circle: {circle}") from None


@dataclass(frozen=True)
class Region:
    """The part of an image that is measured."""

    label_map: LabelMap  # (H, W), cut to the region
    corner: tuple[int, int]  # of the region in the image
    frame: Frame

    def levels(self) -> NDArray[np.float64]:
        """Height v of every pixel centre. (H, W)."""
        row, column = self.corner
        three = np.array([[row, column], [row + 1, column], [row, column + 1]], dtype=float)
        first, down, right = self.frame.to_uv(three)[:, 1]
        height, width = self.label_map.shape
        return (
            first + np.arange(height)[:, None] * (down - first) + np.arange(width) * (right - first)
        )


def find_instances(
    region: Region,
    name: str,
    rule: StructureRule,
    classes: list[int],
    cut_v: float | None = None,
    *,
    min_area_px: float = 0.0,
) -> tuple[list[Instance], int]:
    """Connected pieces of a structure's materials, in its order.

    Args:
        region: Labels and frame.
        name: Of the structure.
        rule: How it is delimited and ordered.
        classes: Indices of its materials.
        cut_v: Level of the cut, where the rule has one.
        min_area_px: Smaller pieces are dropped.

    Returns:
        The pieces, and how many more were left out at the border, as the rule wants it.
    """
    material = _filled(pixels_of(region.label_map, classes))
    if cut_v is None or rule.cut is None:
        pieces, count = ndi.label(material)
    else:
        pieces, count = _cut(material, region.levels(), cut_v, above=rule.cut.keep == "above")
    is_below = cut_v is not None and rule.cut is not None and rule.cut.keep == "below"
    found, at_border = [], 0
    for number, window in enumerate(ndi.find_objects(pieces, count), start=1):
        if window is None:
            continue
        instance = _instance(region, pieces, number, window)
        instance = replace(instance, structure=name, cut_v=cut_v, is_below_cut=is_below)
        if instance.area_px < max(min_area_px, 1):
            continue
        if "border" in instance.flags and rule.border == "exclude":
            at_border += 1
            continue
        found.append(instance)
    return _numbered(found, rule, region.frame), at_border


def _filled(material: Mask) -> Mask:
    """Close holes: what cannot be reached from the border. Quicker than by morphology."""
    background, _ = ndi.label(~material)
    rims = (background[0], background[-1], background[:, 0], background[:, -1])
    open_ = np.zeros(background.max() + 1, dtype=bool)
    open_[np.unique(np.concatenate(rims))] = True
    return material | ~open_[background]


def _cut(
    material: Mask, levels: NDArray[np.float64], cut_v: float, *, above: bool
) -> tuple[NDArray[np.int32], int]:
    """Label what lies on one side of a level, undisturbed by bridges along it.

    The level runs through the rough bottoms of the very trenches that part the pieces, and where
    a bottom lies beyond it a thin bridge is left. So pieces are found a little further in, and
    the pixels next to the cut join the nearest piece; the bridges between them are dropped.
    """
    beyond = (levels - cut_v) * (1 if above else -1)
    kept = material & (beyond > 0)
    if not kept.any():
        return np.zeros(material.shape, dtype=np.int32), 0
    margin = _BRIDGE * float(np.percentile(beyond[kept], 99))
    seeds, count = ndi.label(kept & (beyond > margin))
    if count == 0:
        return seeds, 0
    undecided = np.flatnonzero((kept & (seeds == 0)).any(axis=1))
    if not len(undecided):
        return seeds, count
    rows = slice(
        max(undecided[0] - 2, 0), undecided[-1] + 3
    )  # only they are undecided; seeds begin right beside
    distance, nearest = ndi.distance_transform_edt(seeds[rows] == 0, return_indices=True)
    pieces = seeds.copy()
    near = kept[rows] & (distance < _FOOT * margin)
    pieces[rows] = np.where(near, seeds[rows][tuple(nearest)], 0)
    return pieces, count


def _instance(
    region: Region, pieces: NDArray[np.int32], number: int, window: tuple[slice, slice]
) -> Instance:
    margin = _MARGIN_PX
    height, width = pieces.shape
    rows, columns = window
    wide = (
        slice(max(rows.start - margin, 0), min(rows.stop + margin, height)),
        slice(max(columns.start - margin, 0), min(columns.stop + margin, width)),
    )
    mask = pieces[wide] == number
    at_border = (
        rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
    )
    near = ndi.binary_dilation(mask)  # holes too: they count as material
    unknown = bool((region.label_map[wide][near] == UNLABELED).any())
    row, column = (float(x.mean()) for x in np.nonzero(mask))
    corner = (wide[0].start + region.corner[0], wide[1].start + region.corner[1])
    flags = ("border",) * at_border + ("unlabeled",) * unknown
    center = (row + corner[0], column + corner[1])
    reach = (columns.stop - columns.start) / 2
    return Instance("", 0, mask, corner, center, reach, float(mask.sum()), flags=flags)


def mid_line(instance: Instance) -> Points:
    """Middles of an instance's rows, without its rounded ends; (row, column). (N, 2)."""
    rows = np.flatnonzero(instance.mask.any(axis=1))
    margin = int(len(rows) * _ENDS)
    rows = rows[margin : len(rows) - margin]
    mask = instance.mask[rows]
    first, last = mask.argmax(axis=1), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return np.stack([rows, (first + last) / 2], axis=-1) + np.array(instance.corner)


def _numbered(found: list[Instance], rule: StructureRule, frame: Frame) -> list[Instance]:
    def place(instance: Instance) -> float:
        u, v = frame.to_uv(np.array(instance.center)).tolist()
        return u if rule.order == "left_to_right" else -v

    return [replace(one, index=index) for index, one in enumerate(sorted(found, key=place))]


def piece_of(instance: Instance, label_map: LabelMap, material: int) -> Instance:
    """The largest piece of one material within an instance."""
    pieces, count = ndi.label((label_map[instance.window] == material) & instance.mask)
    if count == 0:
        return replace(instance, mask=np.zeros_like(instance.mask), cut_v=None, is_below_cut=False)
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return replace(instance, mask=pieces == largest, cut_v=None, is_below_cut=False)


def field_of(instance: Instance, field: Points) -> Points:
    """A field cut to an instance's window, positive nowhere but in that instance.

    field: (H, W) of the whole image -> (h, w) of the window.
    """
    cut = field[instance.window].astype(float)
    return np.where(instance.mask, np.maximum(cut, _LEAST), np.minimum(cut, -_LEAST))


_LEAST = 1e-6
"""Holes are closed and neighbours shut out by the mask, whatever the field says there."""
