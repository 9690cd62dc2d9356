"""What files and users say of an image's scale → the one that counts.

What a user states is kept in the database, and stays until a user states another. A lattice, a
pitch and a correction count before what files say, and yield to another such only; any other scale
of a user counts where files say nothing, today as after any number of statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.metrology.records import calibration_id
from backend.microscope.calibration import Calibration, Source
from backend.microscope.scale import Scale, choose_scale

CORRECTED = "corrected_scale"
"""Flag of a run whose scale a user gave in place of the one that was measured with."""
OVERRULING: tuple[Source, ...] = ("lattice", "pitch")
"""Sources that are in the image itself, and so count before what its file says."""
CORRECTED_BY = "rescale_cds.py"
"""Who stores such scales. Whoever asked for one has seen those that the image had before."""


@dataclass(frozen=True)
class StatedScale:
    """The newest scale that a user stated for an image."""

    calibration: Calibration
    stated_at: str  # ISO 8601
    known: frozenset[str] = frozenset()  # ids of the scales the image had then

    @property
    def is_correction(self) -> bool:
        """Whether it was given in place of another."""
        return self.calibration.created_by == CORRECTED_BY

    @property
    def overrules_files(self) -> bool:
        """Whether it counts before what files say."""
        return self.is_correction or self.calibration.source in OVERRULING


@dataclass(frozen=True)
class Evidence:
    """What there is to say which scale an image has."""

    image_id: str
    found: Sequence[Calibration]  # in its file, beside it, with its labels
    told: Calibration | None = None  # by the user, now
    stated: StatedScale | None = None  # by a user, before
    any_size: bool = False  # of the pixels found


def weigh(evidence: Evidence) -> Scale:
    """Choose the scale of an image.

    A correction settles the conflict with the scales known before it; one that turned up later
    is a conflict again.

    Raises:
        InvalidImageError: All that was found is no plausible size of a pixel.
    """
    stated, told, found = evidence.stated, evidence.told, tuple(evidence.found)
    if stated is None or (told and _replaces(told, stated, evidence.image_id)):
        named = (told, *found) if told else found
        scale = choose_scale(named, any_size=evidence.any_size)
        counts = told is not None and scale.calibration is told
        return replace(scale, is_stated=counts, note="" if counts else _yielded(told, scale))
    if told and not _is_same(evidence.image_id, told, stated.calibration):
        found = (told, *found)
    if not stated.is_correction:
        scale = choose_scale((stated.calibration, *found), any_size=evidence.any_size)
        counts = scale.calibration is stated.calibration
        return replace(scale, note=_note(stated, found) if counts else _yielded(told, scale))
    settled = [s for s in found if calibration_id(evidence.image_id, s) in stated.known]
    scale = choose_scale(found, stated=stated.calibration, settled=settled)
    return replace(scale, flags=(*scale.flags, CORRECTED), note=_note(stated, found))


def _replaces(told: Calibration, stated: StatedScale, image_id: str) -> bool:
    """Whether a scale that a user tells now takes the place of the one stated before."""
    if _is_same(image_id, told, stated.calibration):
        return False
    return told.source in OVERRULING or not stated.overrules_files


def _yielded(told: Calibration | None, scale: Scale) -> str:
    """Say that a user's scale is not the one that counts, where that makes a difference."""
    used = scale.calibration
    if told is None or used is None or "scale_conflict" not in scale.flags:
        return ""
    return (
        f"a pixel measures {used.nm_per_px:.5g} nm ({used.source}), not the {told.nm_per_px:.5g} "
        f"nm ({told.source}) that you tell: a lattice, a pitch or rescale_cds.py overrules it"
    )


def _is_same(image_id: str, one: Calibration, other: Calibration) -> bool:
    return calibration_id(image_id, one) == calibration_id(image_id, other)


def _note(stated: StatedScale, found: Sequence[Calibration]) -> str:
    """Say whose scale it is, and what else there was."""
    scale = stated.calibration
    why = f"{scale.source}: {scale.detail}" if scale.detail else scale.source
    others = ", ".join(f"{other.nm_per_px:.5g} nm ({other.source})" for other in found)
    instead = f", not {others}" if others else ""
    day = stated.stated_at[: len("2026-01-31")]
    return f"a pixel measures {scale.nm_per_px:.5g} nm as stated on {day} ({why}){instead}"
