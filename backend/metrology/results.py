"""What measuring an image gives: CDs and edges in pixels, each with how it was found.

Lengths are in isotropic pixels (`Calibration.nm_per_px`), areas in their squares; nanometres come
in where rows for the database are made. Points are (row, column) of the image as it lies on disk,
pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from backend.metrology.recipe import Tier as Tier  # for others

Unit = Literal["px", "px^2", "deg", "ratio"]
Status = Literal["ok", "flagged", "missing", "failed"]
RunStatus = Literal["ok", "review", "failed"]
TIERS: tuple[Tier, ...] = ("gray", "prob", "label")
"""The best one first: what stands on several edges is as good as the last of theirs."""
LENGTH_POWERS: Mapping[Unit, int] = {"px": 1, "px^2": 2, "deg": 0, "ratio": 0}
IN_NM: Mapping[Unit, str] = {"px": "nm", "px^2": "nm^2", "deg": "deg", "ratio": "ratio"}
UNEVEN = "uneven_pitch"
"""Flag of a gap between neighbours, and of its image, in which a structure may be lost."""
REVIEWED = ("no_align", "anisotropic", "unexpected_count", "scale_conflict", UNEVEN)
"""Beginnings of the flags of a run that somebody has to look at before its CDs are used."""
NOTES = frozenset(
    {
        "ambiguous_edge", "clipped", "crowded", "low_cnr", "no_edge", "no_seed", "parts_differ",
        "poor_fit", "too_few_lines", "wrong_contrast",
    }
)  # fmt: skip
"""Why a better tier gave no edge: the value stands on the next one, whose error it states. An edge
that it gave too far away, `max_shift`, is something else: the label may be wrong by that much."""
Point: TypeAlias = tuple[float, float]  # (row, column)


@dataclass(frozen=True)
class EdgeQuality:
    """How a fitted edge looked; None where its tier has no such figure."""

    sigma_px: float | None = None  # blur
    cnr: float | None = None  # contrast to noise
    chi2_red: float | None = None


@dataclass(frozen=True)
class MeasuredCD:
    """One critical dimension of one instance."""

    measurement: str  # id in the recipe
    kind: str
    structure: str
    instance: int  # 0 first; of a pair its left one
    unit: Unit
    status: Status
    value: float | None = None  # None if missing or failed
    side: Literal["left", "right", ""] = ""
    part: str = ""  # base, top, sidewall
    quantity: str = ""  # mean, min, max, std, uniformity; major, minor; 3s, 3s_unbiased, floor; ...
    at_fraction: float | None = None
    value_label: float | None = None  # the same from the label tier
    u_value: float | None = None  # 1 sigma, without that of the scale
    n_lines: int | None = None
    std: float | None = None  # over the lines
    min: float | None = None
    max: float | None = None
    method: Tier | None = None  # the worse tier of its edges
    quality: EdgeQuality = EdgeQuality()
    line: tuple[Point, Point] | None = None  # what an overlay draws
    center: Point | None = None  # of the instance, to pair rows by position
    reach_px: float | None = None  # half the width of the instance
    geometry: tuple[tuple[Point, ...], ...] = ()  # more polylines to draw
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredEdge:
    """A line of points that measurements stand on."""

    structure: str
    instance: int
    side: str  # left, right, base, top
    method: Tier
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Measured:
    """All that was measured on one image."""

    status: RunStatus
    cds: tuple[MeasuredCD, ...]
    edges: tuple[MeasuredEdge, ...] = ()
    tilt_deg: float | None = None  # of the reference interface against the rows
    tilt_u_deg: float | None = None
    flags: tuple[str, ...] = ()


def unit_of_kind(kind: object) -> Unit:
    """What measurements of a kind in a recipe come in.

    Example:
        >>> unit_of_kind("area"), unit_of_kind("width")
        ('px^2', 'px')
    """
    return _UNITS.get(str(kind), "px")


_UNITS: Mapping[str, Unit] = {
    "area": "px^2", "sidewall_angle": "deg", "tilt": "deg", "ratio": "ratio",
}  # fmt: skip


def run_status(flags: Iterable[str], *, has_values: bool) -> RunStatus:
    """What the flags of a run and its values come to.

    Example:
        >>> run_status(["unknown_gamma"], has_values=True)
        'ok'
        >>> run_status(["unexpected_count:gate"], has_values=True)
        'review'
    """
    if not has_values:
        return "failed"
    return "review" if any(flag.startswith(REVIEWED) for flag in flags) else "ok"
