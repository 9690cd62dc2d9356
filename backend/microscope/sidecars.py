"""Text files that lie beside an image → its pixel size and how it was taken.

Known are `.txt` of Hitachi (INI, nm), of JEOL (`$$SM_MICRON_BAR`) and of anybody who writes
`PixelSize=0.21 nm`; `.hdr` of Tescan (INI, metres); `.json` with `pixel_size_nm` and the like.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from backend.microscope.reading import Acquisition, Axes, Reading, join, read_axes

_MAX_BYTES = 1_000_000  # a text file of another purpose may lie there
_NUMBER_AND_UNIT = re.compile(
    r"\s*([-+]?\d*\.?\d+(?:e[-+]?\d+)?)\s*([^\d.,].*?)?\s*", re.IGNORECASE
)
_KEYS = ("pixelsize", "pixelsizenm", "nmperpx", "nmperpixel")
_UNITS = ("pixelsizeunit", "pixelsizeunits", "unit", "units")


def read_sidecars(image: Path, shape: tuple[int, int]) -> Reading:
    """Read what lies beside an image file.

    Args:
        image: The image file itself.
        shape: Its rows and columns; a sidecar that speaks of others is not believed.
    """
    beside = [image.with_suffix(ending) for ending in (".txt", ".json", ".hdr")]
    beside += [Path(f"{image}{ending}") for ending in (".txt", ".json")]
    beside.append(image.with_name(f"{image.stem}-{image.suffix[1:]}.hdr"))
    found = [path for path in dict.fromkeys(beside) if path != image and path.is_file()]
    return join(_read(path, shape) for path in found)


def parse_settings(text: str) -> dict[str, str]:
    r"""The settings of an INI or `$KEY value` text; keys in lower case, letters and digits only.

    Example:
        >>> parse_settings("[Main]\nPixelSize = 0.2 nm\n$CM_MAG 30000")
        {'pixelsize': '0.2 nm', 'cmmag': '30000'}
    """
    settings: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip("\x00 \t").partition("=")
        if not separator and key.startswith("$"):
            key, _, value = key.partition(" ")
        if not separator and not key.startswith("$"):
            key, _, value = key.partition(":")
        if value.strip():
            settings.setdefault(_plain(key), value.strip())
    return settings


def _read(path: Path, shape: tuple[int, int]) -> Reading:
    if path.stat().st_size > _MAX_BYTES:
        return Reading()
    text = _decode(path.read_bytes())
    settings = _flat_json(text) if path.suffix == ".json" else parse_settings(text)
    told = _told_size(settings)
    if told and told[1] != shape[1]:
        return Reading(
            notes=(
                f"{path.name} speaks of {told[1]} columns and the image has {shape[1]}: it was "
                "resized or cropped, so the pixel size there is not used",
            )
        )
    bar_rows = shape[0] - told[0] if told and shape[0] > told[0] else 0
    is_metric = path.suffix == ".hdr"
    is_hitachi = "[SemImageFile]" in text or "[TemImageFile]" in text
    default = "m" if is_metric else "nm" if is_hitachi else ""
    scale = _scale(settings, path.name, default)
    return join([scale, Reading(acquisition=_acquisition(settings), databar_rows=bar_rows)])


def _scale(settings: Mapping[str, str], where: str, default_unit: str) -> Reading:
    """The pixel size that settings hold; `default_unit` where they name none."""
    if "smmicronbar" in settings and "smmicronmarker" in settings:
        return _jeol(settings, where)
    told_unit = next((settings[key] for key in _UNITS if key in settings), default_unit)
    for key in _KEYS:
        x = settings.get(f"{key}x", settings.get(key))
        if x is not None:
            unit = told_unit if key == "pixelsize" else "nm"
            return _two_lengths(x, settings.get(f"{key}y", x), unit, where)
    return Reading()


def _two_lengths(x: str, y: str, unit: str, where: str) -> Reading:
    (size_x, unit_x), (size_y, unit_y) = _length(x), _length(y)
    if not (unit_x or unit):
        return Reading(notes=(f"{where} gives a pixel size of {x} without a unit: it is not used",))
    raw = x if x == y else f"x {x}, y {y}"
    axes = Axes(size_x, size_y, unit_x or unit, unit_y or unit, where, raw=f"{raw} {unit}".strip())
    return read_axes(axes, "sidecar")


def _jeol(settings: Mapping[str, str], where: str) -> Reading:
    """The scale of JEOL: a bar of so many pixels is so long."""
    bar, marker = settings["smmicronbar"], settings["smmicronmarker"]
    length, unit = _length(marker)
    bar_px = _length(bar)[0]
    size = length / bar_px if bar_px else math.nan
    return read_axes(Axes(size, size, unit, unit, where, raw=f"{bar} px are {marker}"), "sidecar")


def _length(text: str) -> tuple[float, str]:
    """A number and the unit behind it; not a number where there is none."""
    part = _NUMBER_AND_UNIT.fullmatch(text)
    return (float(part[1]), part[2] or "") if part else (math.nan, "")


def _told_size(settings: Mapping[str, str]) -> tuple[int, int] | None:
    """Rows and columns of the image itself, where Hitachi or JEOL say them."""
    text = settings.get("datasize", settings.get("cmfullsize", ""))
    size = re.fullmatch(r"(\d+)\s*[x ]\s*(\d+)", text)
    return (int(size[2]), int(size[1])) if size else None


def _acquisition(settings: Mapping[str, str]) -> Acquisition:
    date = settings.get("date", settings.get("cmdate", ""))
    time = settings.get("time", settings.get("cmtime", ""))
    return Acquisition(
        instrument=settings.get("instructname", settings.get("cminstrument", "")),
        detector=settings.get("signalname", settings.get("detector", "")),
        voltage_kv=_kilovolts(settings),
        acquired_at=f"{date} {time}".strip(),
        gamma=_number(settings.get("gamma", "")),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _kilovolts(settings: Mapping[str, str]) -> float | None:
    for key, usual in (("acceleratingvoltage", "v"), ("cmaccelvolt", "kv"), ("hv", "v")):
        volts, unit = _length(settings.get(key, ""))
        if math.isfinite(volts):
            return volts if (unit.lower() or usual) == "kv" else volts / 1000
    return None


def _flat_json(text: str) -> dict[str, str]:
    """The plain values of a JSON object; those of its inner objects mean other things."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    values = content.items() if isinstance(content, dict) else ()
    return {
        _plain(key): str(value) for key, value in values if isinstance(value, (str, int, float))
    }


def _decode(content: bytes) -> str:
    """Text of the encodings that microscopes write."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())
