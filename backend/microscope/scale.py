"""Pixel sizes found for an image, from wherever → the one that counts, and what speaks against it.

Scales are compared relatively only: files hold them in metres, where 2.4e-11 is no zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.errors import InvalidImageError
from backend.microscope.calibration import Calibration

PLAUSIBLE_NM_PER_PX = (0.005, 50.0)
"""What a TEM image of a device can have; anything else is a slip of units until someone insists."""
CONFLICT = 0.01
"""Share by which two sources may differ."""
MAX_ANISOTROPY = 0.005

_PRECEDENCE = ("lattice", "pitch", "metadata", "sidecar", "manual", "scale_bar")
_NM_PER_UNIT = {
    "m": 1e9,
    "cm": 1e7,
    "inch": 2.54e7,
    "mm": 1e6,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "a": 0.1,
    "angstrom": 0.1,
    "pm": 1e-3,
}


@dataclass(frozen=True)
class Scale:
    """What is known of an image's pixel size."""

    calibration: Calibration | None  # the one that counts; None: nobody may speak of nm
    found: tuple[Calibration, ...] = ()  # all, the one that counts first
    flags: tuple[str, ...] = ()  # uncalibrated, scale_conflict, anisotropic
    note: str = ""  # whose it is, where that is not to be expected
    is_stated: bool = False  # a user says now that it is the image's


def nm_per_unit(unit: str) -> float:
    """How many nanometres a unit of length measures, however a microscope spells it.

    Raises:
        ValueError: It is none, as `1/nm`, `eV` or an empty text.

    Example:
        >>> [nm_per_unit(unit) for unit in ("nm", "n_m", "[n_m]", "µm", "Å", "m")]
        [1.0, 1.0, 1.0, 1000.0, 0.1, 1000000000.0]
    """
    plain = unit.strip().strip("[]").replace("_", "").replace("\\u00B5", "u").lower()
    for sign, letter in (("µ", "u"), ("μ", "u"), ("å", "a"), ("å", "a")):
        plain = plain.replace(sign, letter)
    if plain not in _NM_PER_UNIT:
        raise ValueError(f"{unit!r} is no unit of length")
    return _NM_PER_UNIT[plain]


def choose_scale(
    found: Iterable[Calibration],
    *,
    any_size: bool = False,
    stated: Calibration | None = None,
    settled: Sequence[Calibration] = (),
) -> Scale:
    """Choose among all scales found for an image.

    A lattice or a known pitch in the image comes first, then metadata, sidecar, what the user says,
    a scale bar; of the same kind the one named first.

    Args:
        found: One or more for each source.
        any_size: Accept pixels outside `PLAUSIBLE_NM_PER_PX`.
        stated: By a user who knows better; it counts before all that was found.
        settled: Of `found`, those that may differ from it without a conflict.

    Raises:
        InvalidImageError: All that was found is outside `PLAUSIBLE_NM_PER_PX`.
    """
    ordered = sorted(found, key=lambda scale: _PRECEDENCE.index(scale.source))
    if stated:
        ordered = [stated, *ordered]
    accepted = [s for s in ordered if any_size or s is stated or is_plausible(s)]
    if not ordered:
        return Scale(None, (), ("uncalibrated",))
    if not accepted:
        size, low, high = ordered[0].nm_per_px, *PLAUSIBLE_NM_PER_PX
        raise InvalidImageError(
            f"its pixel of {size:g} nm ({ordered[0].detail}) is outside {low:g} to {high:g} nm, "
            "where TEM images of devices lie: if it is right, import with --any-pixel-size"
        )
    chosen = accepted[0]
    others = [scale for scale in ordered if scale is not chosen]
    flags = []
    if any(_disagree(chosen, other) for other in others if other not in settled):
        flags.append("scale_conflict")
    if chosen.anisotropy > MAX_ANISOTROPY:
        flags.append("anisotropic")
    return Scale(chosen, (chosen, *others), tuple(flags))


def check_plausible(scale: Calibration) -> None:
    """Refuse a pixel size that a user tells.

    Raises:
        InvalidImageError: It is not plausible.
    """
    if not is_plausible(scale):
        low, high = PLAUSIBLE_NM_PER_PX
        raise InvalidImageError(
            f"a pixel of {scale.nm_per_px:g} nm is outside {low:g} to {high:g} nm, where "
            "TEM images of devices lie: give its size in nanometres"
        )


def is_plausible(scale: Calibration) -> bool:
    """Whether a TEM image of a device can have such pixels."""
    low, high = PLAUSIBLE_NM_PER_PX
    return all(low <= size <= high for size in (scale.nm_per_px_x, scale.nm_per_px_y))


def _disagree(one: Calibration, other: Calibration) -> bool:
    ratios = (one.nm_per_px_x / other.nm_per_px_x, one.nm_per_px_y / other.nm_per_px_y)
    return any(max(ratio, 1 / ratio) - 1 > CONFLICT for ratio in ratios)
