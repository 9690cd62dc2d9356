"""What a file tells of its image beside the pixels, whoever wrote it: scales and circumstances."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Literal

from backend.microscope.calibration import Calibration, Source
from backend.microscope.scale import nm_per_unit

Mode = Literal["TEM", "BF", "DF", "HAADF", "unknown"]


@dataclass(frozen=True)
class Acquisition:
    """How an image was taken, as far as its file says."""

    instrument: str = ""
    detector: str = ""
    mode: Mode = "unknown"
    voltage_kv: float | None = None
    acquired_at: str = ""  # as written
    gamma: float | None = None  # of the intensities, if recorded; 1 is linear


@dataclass(frozen=True)
class Reading:
    """What one source, a maker's tag or a sidecar, tells of an image."""

    scales: tuple[Calibration, ...] = ()
    notes: tuple[str, ...] = ()  # sentences: why what looked like a scale is none
    acquisition: Acquisition = Acquisition()
    databar_rows: int = 0  # rows below the image itself


@dataclass(frozen=True)
class Axes:
    """The size of a pixel as a file puts it: two numbers, each with its unit."""

    x: float
    y: float
    unit_x: str
    unit_y: str
    where: str  # which tag, which file
    reader: str = ""
    reader_version: str = ""
    raw: str = field(default="")  # to the letter; "": made of the numbers


def scale_of(axes: Axes, source: Source) -> Calibration:
    """Turn what a file says into a calibration.

    Raises:
        ValueError: It is none: no unit of length, not positive, or 1 by 1 as of an uncalibrated
            camera.
    """
    if axes.x == axes.y == 1 and source == "metadata":
        raise ValueError("it is exactly 1, as where nobody calibrated")
    return Calibration(
        nm_per_px_x=axes.x * nm_per_unit(axes.unit_x),
        nm_per_px_y=axes.y * nm_per_unit(axes.unit_y),
        source=source,
        detail=axes.where,
        raw=axes.raw or f"x {axes.x!r} {axes.unit_x}, y {axes.y!r} {axes.unit_y}",
        reader=axes.reader,
        reader_version=axes.reader_version,
    )


def read_axes(axes: Axes, source: Source) -> Reading:
    """A reading of one scale, or of a note why it is none."""
    try:
        return Reading(scales=(scale_of(axes, source),))
    except ValueError as error:
        return Reading(notes=(f"{axes.where} gives no pixel size: {error}",))


def mode_of(text: str) -> Mode:
    """The imaging mode that a detector's or a mode's name tells.

    Example:
        >>> [mode_of(name) for name in ("HAADF", "DF4", "BF-S", "BM-Ceta", "STEM")]
        ['HAADF', 'DF', 'BF', 'unknown', 'unknown']
    """
    name = text.strip().upper()
    if name.startswith("HAADF"):
        return "HAADF"
    if name.startswith("DF"):
        return "DF"
    if name.startswith("BF"):
        return "BF"
    return "TEM" if name == "TEM" else "unknown"


def join(readings: Iterable[Reading]) -> Reading:
    """All that several sources tell; of what only one can be right, the first word counts."""
    told = tuple(readings)
    first = {}
    for name in (one.name for one in fields(Acquisition)):
        default = getattr(Acquisition(), name)
        values = (getattr(one.acquisition, name) for one in told)
        first[name] = next((value for value in values if value != default), default)
    return Reading(
        scales=tuple(scale for one in told for scale in one.scales),
        notes=tuple(note for one in told for note in one.notes),
        acquisition=Acquisition(**first),
        databar_rows=next((one.databar_rows for one in told if one.databar_rows), 0),
    )
