"""What makers write into TIFF tags, as tifffile parses it: sizes, and traps."""

from __future__ import annotations

import pytest

from backend.microscope.tiff_tags import (
    FEI_HELIOS,
    FEI_XML,
    OLYMPUS,
    RESOLUTION_UNIT,
    TESCAN,
    TVIPS,
    X_RESOLUTION,
    Y_RESOLUTION,
    ZEISS,
    PageTags,
    read_resolution,
    read_tags,
)

SHAPE = (884, 1024)
XML = """<?xml version="1.0"?><Metadata xmlns:n="http://x"><Core/>
<Instrument><InstrumentModel>Titan</InstrumentModel></Instrument>
<Optics><AccelerationVoltage>300000</AccelerationVoltage></Optics>
<BinaryResult><Detector>HAADF</Detector><PixelSize><X unit="m" unitPrefixPower="1">2.1E-10</X>
<Y unit="m" unitPrefixPower="1">2.2E-10</Y></PixelSize></BinaryResult></Metadata>"""
EPU = """<MicroscopeImage xmlns="http://a" xmlns:b="http://b"><SpatialScale><pixelSize>
<x><b:numericValue>2.1E-10</b:numericValue><b:unit><b:code>m</b:code></b:unit></x>
<y><b:numericValue>2.2E-10</b:numericValue><b:unit><b:code>m</b:code></b:unit></y>
</pixelSize></SpatialScale></MicroscopeImage>"""


def read(code, value, shape=SHAPE, **imagej):
    """Read a page with one maker's tag."""
    return read_tags(PageTags(shape, {code: value}, imagej))


def fei(**image):
    """The sections of an FEI tag."""
    return {"Scan": {"PixelWidth": 2e-10, "PixelHeight": 2.1e-10}, "Image": image,
            "Beam": {"Beam": "EBeam"}, "EBeam": {"HV": 30000},
            "Detectors": {"Name": "STEM 4", "Mode": "HAADF"}}  # fmt: skip


def sizes(reading):
    """The one scale of a reading, x and y."""
    (scale,) = reading.scales
    return scale.nm_per_px_x, scale.nm_per_px_y


def test_fei_means_metres():
    """With what else its sections tell."""
    reading = read(FEI_HELIOS, fei(ResolutionX=1024, ResolutionY=884, DigitalGamma=1))
    assert sizes(reading) == pytest.approx((0.2, 0.21))
    told = reading.acquisition
    assert (told.mode, told.voltage_kv, told.gamma) == ("HAADF", 30, 1)
    assert reading.databar_rows == 0


def test_fei_tells_the_time_of_creation_where_its_date_is_anyones_guess():
    """01/02/2024 could be either; of the two only this one has the day first for certain."""
    dates = {"Date": "01/02/2024", "Time": "05:06:40 PM"}
    assert read(FEI_HELIOS, fei() | {"User": dates}).acquisition.acquired_at.startswith("01/02")
    created = {"PrivateFei": {"TimeOfCreation": "02.01.2024 17:06:40"}}
    told = read(FEI_HELIOS, fei() | {"User": dates} | created).acquisition
    assert told.acquired_at == "02.01.2024 17:06:40"


def test_rows_that_fei_did_not_scan_are_the_data_bar():
    """884 rows were scanned."""
    assert read(FEI_HELIOS, fei(ResolutionY=884), (943, 1024)).databar_rows == 59


def test_an_fei_image_of_another_width_has_no_scale():
    """Somebody resized or cropped it, and the tag stayed."""
    reading = read(FEI_HELIOS, fei(ResolutionX=2048))
    assert reading.scales == ()
    assert "2048 columns and the image has 1024" in reading.notes[0]


@pytest.mark.parametrize("scan", [{}, {"PixelWidth": ""}, {"PixelWidth": 1, "PixelHeight": 1}])
def test_an_fei_tag_without_a_size_gives_none(scan):
    """Not 1 m, as other readers make of it."""
    reading = read(FEI_HELIOS, {"Scan": scan})
    assert (reading.scales, len(reading.notes)) == ((), 1)


@pytest.mark.parametrize("text", [XML, XML.encode() + b"\0", EPU])
def test_xml_of_fei_is_read(text):
    """Of Titan and of EPU, in any namespace."""
    assert sizes(read(FEI_XML, text)) == pytest.approx((0.21, 0.22))


def test_xml_of_fei_tells_the_rest():
    """Instrument, detector, high tension."""
    told = read(FEI_XML, XML).acquisition
    assert (told.instrument, told.mode, told.voltage_kv) == ("Titan", "HAADF", 300)


@pytest.mark.parametrize("text", ["", "<a>", "no xml", b"\xff\xfe", 7, EPU.replace(">m<", ">1/m<")])
def test_other_xml_gives_no_scale(text):
    """Damaged, of another purpose, or of a diffraction pattern."""
    assert read(FEI_XML, text).scales == ()


def test_the_width_of_zeiss_decides():
    """`AP_PIXEL_SIZE` is that of the screen, 1024 columns, though 512 were stored."""
    told = {"ap_pixel_size": ("Pixel Size", 5.825, "nm"), "ap_width": ("Width", 5.965, "µm"),
            "ap_height": ("Height", 4.474, "µm")}  # fmt: skip
    assert sizes(read(ZEISS, told, (384, 512))) == pytest.approx((11.65, 11.65), rel=1e-4)


def test_zeiss_without_a_width_has_no_scale():
    """One of two numbers would be a guess."""
    reading = read(ZEISS, {"ap_pixel_size": ("Pixel Size", 5.825, "nm")}, (384, 512))
    assert (reading.scales, len(reading.notes)) == ((), 1)


def test_a_cropped_zeiss_image_has_no_scale():
    """Its width is not that of its columns."""
    told = {"ap_width": ("Width", 5.965, "µm"), "ap_height": ("Height", 4.474, "µm")}
    assert read(ZEISS, told, (200, 512)).scales == ()


def test_the_size_of_the_stored_pixel_of_zeiss_is_a_source():
    """Newer microscopes write it; the width stays as cross-check."""
    told = {"ap_image_pixel_size": ("Image Pixel Size", 0.3, "nm"),
            "ap_width": ("Width", 307.2, "nm"), "ap_height": ("Height", 265.2, "nm")}  # fmt: skip
    first, second = read(ZEISS, told).scales
    assert (first.nm_per_px, second.nm_per_px) == pytest.approx((0.3, 0.3))


def test_olympus_means_metres():
    """2.39e-11 is no zero."""
    told = {"pixelsizex": 2.392791775876109e-11, "pixelsizey": 2.392791775876109e-11}
    assert sizes(read(OLYMPUS, told))[0] == pytest.approx(0.02392791775876)


def test_tvips_means_nanometres():
    """In imaging modes; another might be diffraction."""
    told = {"PixelSizeX": 1.42, "PixelSizeY": 1.43, "TemHighTension": 200000.0, "TemMode": 0}
    assert sizes(read(TVIPS, told)) == (1.42, 1.43)
    assert read(TVIPS, {**told, "TemMode": 4}).scales == ()


def test_tescan_means_metres():
    """An INI text in its tag."""
    text = b"[MAIN]\r\nDevice=MIRA\r\nPixelSizeX=2e-10\r\nPixelSizeY=2e-10\r\nHV=30000.0\r\n"
    reading = read(TESCAN, text)
    assert sizes(reading) == pytest.approx((0.2, 0.2))
    assert (reading.acquisition.instrument, reading.acquisition.voltage_kv) == ("MIRA", 30)


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 0.25), ("\\u00B5m", 250), ("micron", 250), ("Å", 0.025)]
)
def test_imagej_counts_pixels_in_its_unit(unit, nm):
    """4 pixels a nm are 0.25 nm a pixel."""
    tags = PageTags(SHAPE, {X_RESOLUTION: (4, 1), Y_RESOLUTION: (8, 2)}, {"unit": unit})
    assert sizes(read_tags(tags)) == pytest.approx((nm, nm))


@pytest.mark.parametrize("unit", ["", "pixel", "inch", "cm"])
def test_what_imagej_took_from_the_printer_is_no_scale(unit):
    """72 pixels an inch is how it opens any TIFF."""
    tags = PageTags(SHAPE, {X_RESOLUTION: (72, 1), Y_RESOLUTION: (72, 1)}, {"unit": unit})
    assert read_tags(tags).scales == ()


def test_the_resolution_tag_is_read_on_request_only():
    """7,038,270 pixels a cm are 1.42 nm; by themselves they say nothing."""
    values = {X_RESOLUTION: (7038270, 1), Y_RESOLUTION: (7038270, 1), RESOLUTION_UNIT: 3}
    assert read_tags(PageTags(SHAPE, values)).scales == ()
    assert sizes(read_resolution(PageTags(SHAPE, values)))[0] == pytest.approx(1.420803, rel=1e-6)


@pytest.mark.parametrize("values", [{}, {RESOLUTION_UNIT: 1, X_RESOLUTION: (4, 1)},
                                    {RESOLUTION_UNIT: 3, X_RESOLUTION: (0, 1)}])  # fmt: skip
def test_a_resolution_without_unit_or_number_is_none(values):
    """Nothing is divided by 0."""
    assert read_resolution(PageTags(SHAPE, values)).scales == ()
