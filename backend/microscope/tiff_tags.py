"""Tags of a TIFF page, as its maker wrote them → pixel size and how the image was taken.

Pure: the tags come in already parsed. The plain resolution tag is no source here, since 72, 96 and
300 dpi mean nothing; `read_resolution` is for a user who asks for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lxml import etree  # type: ignore[import-untyped]  # lxml ships no types

from backend.microscope.reading import Acquisition, Axes, Reading, join, mode_of, read_axes
from backend.microscope.sidecars import parse_settings

FEI_SFEG, FEI_HELIOS, FEI_XML = 34680, 34682, 34683
ZEISS, OLYMPUS, TVIPS, TESCAN = 34118, 33560, 37706, 50431
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296

MAKERS = {
    FEI_HELIOS: "FEI/Thermo TIFF",
    FEI_SFEG: "FEI/Thermo TIFF",
    FEI_XML: "FEI/Thermo TIFF",
    ZEISS: "Zeiss TIFF",
    OLYMPUS: "Olympus SIS TIFF",
    TVIPS: "TVIPS TIFF",
    TESCAN: "Tescan TIFF",
}
Values: TypeAlias = Mapping[Any, Any]
Element: TypeAlias = Any  # of lxml

_UNITS_OF_RESOLUTION = {2: "inch", 3: "cm"}
_ZEISS_ROUNDING = 0.005  # of AP_HEIGHT against AP_WIDTH, which have four digits
_PRINTED = ("", "pixel", "pixels", "inch", "cm")  # what ImageJ calls an image nobody calibrated


@dataclass(frozen=True)
class PageTags:
    """The tags of one page."""

    shape: tuple[int, int]  # rows, columns
    values: Mapping[int, Any]  # by code
    imagej: Mapping[str, Any] = field(default_factory=dict)  # of the description, if ImageJ's
    reader: str = "tifffile"
    reader_version: str = ""


def read_tags(tags: PageTags) -> Reading:
    """All that the makers' tags of a page tell."""
    of_texts = {FEI_XML: _fei_xml, TESCAN: _tescan}
    of_settings = {
        FEI_HELIOS: _fei,
        FEI_SFEG: _fei,
        ZEISS: _zeiss,
        OLYMPUS: _olympus,
        TVIPS: _tvips,
    }
    values = tags.values
    told = [read(tags, values[code]) for code, read in of_texts.items() if code in values]
    for code, read in of_settings.items():
        if isinstance(values.get(code), Mapping):  # else it is damaged
            told.append(read(tags, values[code]))
    return join([*told, _imagej(tags)])


def read_resolution(tags: PageTags) -> Reading:
    """The scale of the plain resolution tag, which is one only if somebody knows so."""
    unit = _UNITS_OF_RESOLUTION.get(tags.values.get(RESOLUTION_UNIT, 0))
    sizes = [_one_over(tags.values.get(code)) for code in (X_RESOLUTION, Y_RESOLUTION)]
    if unit is None:
        return Reading(notes=("the resolution tag has no unit: it is not used",))
    return _axes(tags, (sizes[0], sizes[1]), unit, "resolution tag")


def _axes(tags: PageTags, sizes: tuple[float, float], unit: str, where: str) -> Reading:
    """A scale in `unit` for x and y."""
    axes = Axes(*sizes, unit, unit, where, tags.reader, tags.reader_version)
    return read_axes(axes, "metadata")


def _fei(tags: PageTags, sections: Values) -> Reading:
    """FEI and Thermo: metres in `[Scan] PixelWidth`, for `[Image] ResolutionX` columns."""
    told = Sections(sections)
    where = "FEI tag, [Scan] PixelWidth"
    rows, columns = tags.shape
    told_columns = told.number("Image", "ResolutionX")
    told_rows = told.number("Image", "ResolutionY")
    bar_rows = (
        rows - told_rows if 0 < told_rows < rows else told.number("PrivateFei", "DatabarHeight")
    )
    x = told.number("Scan", "PixelWidth")
    gamma = told.number("Image", "DigitalGamma")
    beam = told.text("Beam", "Beam") or "EBeam"
    acquisition = Acquisition(
        instrument=told.text("System", "SystemType"),
        detector=told.text("Detectors", "Name"),
        mode=mode_of(told.text("Detectors", "Mode")),
        voltage_kv=_kilovolts(told.number(beam, "HV")),
        acquired_at=told.text("PrivateFei", "TimeOfCreation")  # whose day comes first
        or f"{told.text('User', 'Date')} {told.text('User', 'Time')}".strip(),
        gamma=gamma if math.isfinite(gamma) else None,
    )
    around = Reading(
        acquisition=acquisition, databar_rows=int(bar_rows) if 0 < bar_rows < rows else 0
    )
    if math.isnan(x):
        return join([around, Reading(notes=("the FEI tag has no PixelWidth",))])
    if math.isfinite(told_columns) and told_columns != columns:
        note = f"the FEI tag speaks of {told_columns:g} columns and the image has {columns}"
        return join([around, Reading(notes=(f"{note}: its pixel size is not used",))])
    y = told.number("Scan", "PixelHeight")
    return join([around, _axes(tags, (x, x if math.isnan(y) else y), "m", where)])


def _fei_xml(tags: PageTags, value: object) -> Reading:
    """Titan, and newer Helios and Velox exports: XML with `<PixelSize><X unit="m">`."""
    where = f"FEI tag {FEI_XML}, PixelSize"
    root = _parse_xml(value)
    found = None if root is None else _find(root, "PixelSize")
    if root is None or found is None:
        return Reading(notes=(f"FEI tag {FEI_XML} holds no PixelSize",))
    x, y = (_find(found, axis) for axis in ("X", "Y"))
    x_size, x_unit = _xml_length(x)
    y_size, y_unit = _xml_length(x if y is None else y)
    axes = Axes(x_size, y_size, x_unit, y_unit, where, tags.reader, tags.reader_version)
    volts = _find(root, "AccelerationVoltage")
    acquisition = Acquisition(
        instrument=_xml_text(_find(root, "InstrumentModel")),
        detector=_xml_text(_find(root, "Detector")),
        mode=mode_of(_xml_text(_find(root, "Detector"))),
        voltage_kv=_kilovolts(_number(_xml_text(volts))),
        acquired_at=_xml_text(_find(root, "AcquisitionDatetime")),
    )
    return join([Reading(acquisition=acquisition), read_axes(axes, "metadata")])


def _zeiss(tags: PageTags, told: Values) -> Reading:
    """Zeiss: what `AP_PIXEL_SIZE` says may hold for another store size, so the width decides."""
    rows, columns = tags.shape
    acquisition = Acquisition(
        instrument=_zeiss_text(told, "dp_sem") or _zeiss_text(told, "sv_instrument_id"),
        detector=_zeiss_text(told, "dp_detector_channel"),
        mode=mode_of(_zeiss_text(told, "dp_detector_channel")),
        voltage_kv=_zeiss_length(told, "ap_actualkv")[0] if "ap_actualkv" in told else None,
        acquired_at=f"{_zeiss_text(told, 'ap_date')} {_zeiss_text(told, 'ap_time')}".strip(),
    )
    sources = [Reading(acquisition=acquisition)]
    if "ap_image_pixel_size" in told:
        size, unit = _zeiss_length(told, "ap_image_pixel_size")
        sources.append(_axes(tags, (size, size), unit, "Zeiss AP_IMAGE_PIXEL_SIZE"))
    if "ap_width" in told:
        width, unit = _zeiss_length(told, "ap_width")
        height = _zeiss_length(told, "ap_height")[0] if "ap_height" in told else math.nan
        x, y = width / columns, height / rows
        if abs(y / x - 1) > _ZEISS_ROUNDING:
            note = "Zeiss AP_WIDTH and AP_HEIGHT do not fit the rows and columns: it was cropped"
            sources.append(Reading(notes=(note,)))
        else:
            sources.append(_axes(tags, (x, x), unit, f"Zeiss AP_WIDTH / {columns} columns"))
    if len(sources) == 1:
        note = "the Zeiss tag has no AP_WIDTH, and AP_PIXEL_SIZE may be that of another store size"
        sources.append(Reading(notes=(note,)))
    return join(sources)


def _olympus(tags: PageTags, told: Values) -> Reading:
    """Olympus Soft Imaging Solutions: metres."""
    sizes = (_number(told.get("pixelsizex")), _number(told.get("pixelsizey")))
    around = Reading(
        acquisition=Acquisition(
            instrument=str(told.get("cameraname") or tags.values.get(272, "")).strip(),
            acquired_at=str(told.get("datetime") or ""),
        )
    )
    return join([around, _axes(tags, sizes, "m", "Olympus SIS tag")])


def _tvips(tags: PageTags, told: Values) -> Reading:
    """TVIPS: nanometres, in imaging modes."""
    around = Reading(
        acquisition=Acquisition(
            instrument=str(told.get("TemType") or "").strip(),
            detector=str(told.get("CameraType") or "").strip(),
            mode="TEM",
            voltage_kv=_kilovolts(_number(told.get("TemHighTension"))),
        )
    )
    if told.get("TemMode", 0) != 0:
        note = f"the TVIPS tag has mode {told['TemMode']}, which may be diffraction"
        return join([around, Reading(notes=(f"{note}: its pixel size is not used",))])
    sizes = (_number(told.get("PixelSizeX")), _number(told.get("PixelSizeY")))
    return join([around, _axes(tags, sizes, "nm", "TVIPS tag, PixelSizeX")])


def _tescan(tags: PageTags, value: object) -> Reading:
    """Tescan: an INI text with metres."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    told = parse_settings(text)
    sizes = (_number(told.get("pixelsizex")), _number(told.get("pixelsizey")))
    acquisition = Acquisition(
        instrument=told.get("device", ""),
        detector=told.get("detector", ""),
        voltage_kv=_kilovolts(_number(told.get("hv"))),
        acquired_at=f"{told.get('date', '')} {told.get('time', '')}".strip(),
    )
    around = Reading(acquisition=acquisition)
    return join([around, _axes(tags, sizes, "m", "Tescan tag, PixelSizeX")])


def _imagej(tags: PageTags) -> Reading:
    """ImageJ: the unit is in its description, and the resolution counts pixels in it."""
    unit = str(tags.imagej.get("unit", ""))
    if unit.lower() in _PRINTED:
        return Reading()
    sizes = [_one_over(tags.values.get(code)) for code in (X_RESOLUTION, Y_RESOLUTION)]
    units = (unit, str(tags.imagej.get("yunit") or unit))
    axes = Axes(sizes[0], sizes[1], *units, "ImageJ description", tags.reader, tags.reader_version)
    return read_axes(axes, "metadata")


@dataclass(frozen=True)
class Sections:
    """Settings in sections, as the FEI tag holds them; missing ones are empty or not a number."""

    values: Values

    def text(self, section: str, key: str) -> str:
        """A setting as text."""
        inner = self.values.get(section)
        return str(inner.get(key, "")).strip() if isinstance(inner, Mapping) else ""

    def number(self, section: str, key: str) -> float:
        """A setting as number."""
        return _number(self.text(section, key))


def _number(value: object) -> float:
    """A number as a tag holds it; not a number where there is none."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _kilovolts(volts: float) -> float | None:
    return volts / 1000 if math.isfinite(volts) and volts > 0 else None


def _one_over(value: object) -> float:
    """The length of a pixel, from a resolution of pixels a unit; not a number if it is none."""
    counts, length = value if isinstance(value, tuple) else (0, 1)
    return length / counts if counts else math.nan


def _zeiss_text(told: Values, key: str) -> str:
    value = told.get(key)
    return str(value[1]).strip() if isinstance(value, tuple) and len(value) > 1 else ""


def _zeiss_length(told: Values, key: str) -> tuple[float, str]:
    """A value and its unit, from `(label, value, unit)`."""
    value = told[key]
    if not isinstance(value, tuple) or len(value) < 3:  # noqa: PLR2004 - label, value, unit
        return math.nan, ""
    return _number(value[1]), str(value[2])


def _parse_xml(value: object) -> Element | None:
    text = value.encode() if isinstance(value, str) else value
    if not isinstance(text, bytes) or not text.strip(b"\x00 \r\n"):
        return None
    secure = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    root: Any = etree.fromstring(text.rstrip(b"\x00 \r\n"), secure)
    return root


def _find(root: Element, name: str) -> Element | None:
    """The first element of this name, in whatever namespace and case."""
    wanted = name.lower()
    for element in root.iter():
        tag = re.sub(r"^\{.*\}", "", str(element.tag)).lower()
        if tag == wanted and element is not root:
            return element
    return None


def _xml_text(element: Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _xml_length(element: Element | None) -> tuple[float, str]:
    """A length in XML: its text and attribute `unit`, or two elements inside it."""
    if element is None:
        return math.nan, ""
    inside, unit = _find(element, "numericValue"), element.get("unit", "")
    if inside is not None:
        unit_inside = _find(element, "unit")
        last = "" if unit_inside is None else "".join(unit_inside.itertext()).strip()
        return _number(_xml_text(inside)), last
    return _number(_xml_text(element)), unit
