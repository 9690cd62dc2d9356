"""Outlines of an instance → its body: walls and faces as labels or probabilities show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from backend.arrays import LabelMap
from backend.metrology.bodies import (
    FLANK,
    OTHER_BASE,
    Body,
    EdgeName,
    Level,
    UnmeasurableError,
    sampled,
)
from backend.metrology.contours import Field, Points, outlines, segments_of
from backend.metrology.curves import MIN_SHARE, Curve
from backend.metrology.frame import Frame
from backend.metrology.seed_errors import (
    LEAST_ERROR,
    LOCKED,
    label_error,
    probability_error,
)
from backend.metrology.structures import Instance, field_of

_BELOW_PX = 1.0  # how far under a base its neighbour is looked for


@dataclass(frozen=True)
class Seeding:
    """What bodies are made from, and how well it is known."""

    frame: Frame
    tier: Literal["label", "prob"]
    u_place_px: float
    label_map: LabelMap  # (H, W), of the image
    is_draw: bool = False  # how well edges are known does not count


def seed_body(seeding: Seeding, instance: Instance, field: Field, under: list[int] | None) -> Body:
    """The body of an instance; its levels are first guesses, see `bodies.settled`.

    Args:
        seeding: Frame and tier.
        instance: Which pixels are its own.
        field: Zero on the outlines of its materials. Shape (H, W), of the image.
        under: Classes that its base touches; None: any.
    """
    outline = _outline(seeding, instance, field_of(instance, field))
    curves = {
        name: _with_error(seeding, field, curve, name) for name, curve in _curves(outline).items()
    }
    if under is not None:
        curves["base"] = _touching(curves["base"], seeding, under)
    lowest = float(outline[:, 1].min()) if instance.cut_v is None else instance.cut_v
    return Body(
        instance,
        seeding.frame,
        (outline,),
        curves,
        {name: (curve,) for name, curve in curves.items()},
        Level(lowest, method=seeding.tier),
        Level(float(outline[:, 1].max()), method=seeding.tier),
    )


def _outline(seeding: Seeding, instance: Instance, window: Field) -> Points:
    lines = outlines(window, instance.corner)
    if not lines:
        raise UnmeasurableError("no_outline")
    return max((seeding.frame.to_uv(line) for line in lines), key=polygon_area)


def polygon_area(outline: Points) -> float:
    """Area of a closed polygon (N, 2).

    Example:
        >>> polygon_area(np.array([[0.0, 0], [3, 0], [3, 2], [0, 2], [0, 0]]))
        6.0
    """
    x, y = (outline - outline[0]).T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2


def _curves(outline: Points) -> dict[EdgeName, Curve]:
    segments = segments_of([outline])
    v, left, right = sampled(segments, "v")
    u, base, top = sampled(segments, "u")
    return {
        "left": Curve(v, left, "label", LEAST_ERROR),
        "right": Curve(v, right, "label", LEAST_ERROR),
        "base": Curve(u, base, "label", LEAST_ERROR),
        "top": Curve(u, top, "label", LEAST_ERROR),
    }


def _with_error(seeding: Seeding, field: Field, curve: Curve, name: EdgeName) -> Curve:
    """Tell how well an edge is known."""
    if seeding.is_draw:
        return curve

    def pixels(shift: float) -> Points:
        points = np.stack([curve.across + shift, curve.along], axis=-1)
        return seeding.frame.to_px(points[:, ::-1] if name in ("base", "top") else points)

    if seeding.tier == "prob":
        inward = 1.0 if name in ("left", "base") else -1.0
        doubt = probability_error(field, curve.along, pixels(inward), pixels(-inward))
        return replace(curve, method="prob", error=doubt)
    low, high = (float(np.quantile(curve.along, share)) for share in FLANK)
    error = label_error(pixels(0), curve.along, (low, high), seeding.u_place_px)
    return replace(curve, error=error, flags=(LOCKED,) * error.is_locked(low, high))


def _touching(base: Curve, seeding: Seeding, under: Iterable[int]) -> Curve:
    """A base without the places where something else than `under` lies beneath it.

    Where it hardly touches `under`, as above a film that a model lost, its lower edge is taken as
    it is, and flagged.
    """
    points = np.stack([base.along, base.across - _BELOW_PX], axis=-1)
    known = np.isfinite(base.across)
    pixels = np.rint(seeding.frame.to_px(np.where(known[:, None], points, 0.0))).astype(int)
    rows, columns = (
        np.clip(axis, 0, size - 1)
        for axis, size in zip(pixels.T, seeding.label_map.shape, strict=True)
    )
    touches = np.isin(seeding.label_map[rows, columns], list(under)) & known
    central = known & (
        np.abs(base.along - base.along[known].mean()) <= np.ptp(base.along[known]) / 6
    )
    if touches[central].mean() < MIN_SHARE:
        return replace(base, flags=(*base.flags, OTHER_BASE))
    return replace(base, across=np.where(touches, base.across, np.nan))
