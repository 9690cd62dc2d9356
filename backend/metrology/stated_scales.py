"""What files and users say of an image's scale → the one that counts.

What a user states is kept in the database. It stays the image's scale, whatever its file says,
until a user states another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.metrology.records import calibration_id
from backend.microscope.calibration import Calibration
from backend.microscope.scale import Scale, choose_scale

CORRECTED = "corrected_scale"
"""Flag of a run whose scale a user gave in place of the one that was measured with."""
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


@dataclass(frozen=True)
class Evidence:
    """What there is to say which scale an image has."""

    image_id: str
    found: Sequence[Calibration]  # in its file, beside it, with its labels
    told: Calibration | None = None  # by the user, now
    stated: StatedScale | None = None  # by a user, before
    any_size: bool = False  # of the pixels found


def weigh(evidence: Evidence) -> Scale:
    """Choose the scale of an image: what a user stated last, else the best source.

    A correction settles the conflict with the scales known before it; one that turned up later
    is a conflict again.

    Raises:
        InvalidImageError: All that was found is no plausible size of a pixel.
    """
    stated, told, found = evidence.stated, evidence.told, evidence.found
    if stated is None:
        named = (told, *found) if told else found
        scale = choose_scale(named, any_size=evidence.any_size)
        return replace(scale, is_stated=told is not None and scale.calibration is told)
    if told and not _is_same(evidence.image_id, told, stated.calibration):
        return replace(choose_scale(found, stated=told), is_stated=True)
    seen = stated.known if stated.is_correction else frozenset()
    settled = [scale for scale in found if calibration_id(evidence.image_id, scale) in seen]
    scale = choose_scale(found, stated=stated.calibration, settled=settled)
    flags = (*scale.flags, CORRECTED) if stated.is_correction else scale.flags
    return replace(scale, flags=flags, note=_note(stated, found))


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
