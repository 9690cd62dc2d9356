"""Text files beside an image, as several makers write them."""

from __future__ import annotations

import json

import pytest

from backend.microscope.sidecars import parse_settings, read_sidecars

SHAPE = (960, 1280)
HITACHI = """[SemImageFile]\r
InstructName=S-4800\r
SignalName=TE\r
ImageName=cut.tif\r
DataSize=1280x960\r
PixelSize=0.4960938\r
AcceleratingVoltage=30000 Volt\r
Date=01/02/2024\r
Time=10:11:12\r
"""
JEOL = """$CM_FORMAT JEOL_SEM
$CM_INSTRUMENT JEM-2100
$CM_ACCEL_VOLT 200.0
$CM_FULL_SIZE 1280 960
$$SM_MICRON_BAR 213
$$SM_MICRON_MARKER 100nm
"""


def read(folder, name, text, shape=SHAPE, encoding="utf-8"):
    """Read what a sidecar of this name tells of `cut.tif`."""
    (folder / name).write_text(text, encoding=encoding)
    return read_sidecars(folder / "cut.tif", shape)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_hitachi_means_nanometres(tmp_path, encoding):
    """Its files do not say so; some are UTF-16."""
    reading = read(tmp_path, "cut.txt", HITACHI, encoding=encoding)
    (scale,) = reading.scales
    assert (scale.nm_per_px, scale.source, scale.detail) == (0.4960938, "sidecar", "cut.txt")
    assert reading.acquisition.voltage_kv == 30
    assert reading.acquisition.instrument == "S-4800"


def test_jeol_gives_a_bar(tmp_path):
    """213 px are 100 nm."""
    reading = read(tmp_path, "cut.txt", JEOL)
    assert reading.scales[0].nm_per_px == pytest.approx(100 / 213)
    assert reading.scales[0].raw == "213 px are 100nm"
    assert (reading.acquisition.instrument, reading.acquisition.voltage_kv) == ("JEM-2100", 200)


def test_a_recorded_gamma_is_read(tmp_path):
    """Edges in gray values that went through it lie elsewhere."""
    assert read(tmp_path, "cut.txt", "PixelSize=0.2\nGamma=0.63\n").acquisition.gamma == 0.63
    assert read(tmp_path, "cut.txt", "PixelSize=0.2\nGamma=?\n").acquisition.gamma is None


@pytest.mark.parametrize("text", [HITACHI, JEOL])
def test_rows_beyond_those_told_are_a_data_bar(tmp_path, text):
    """The saved image is higher than the scan."""
    assert read(tmp_path, "cut.txt", text, (1024, 1280)).databar_rows == 64


@pytest.mark.parametrize("text", [HITACHI, JEOL])
def test_a_sidecar_of_another_width_is_not_believed(tmp_path, text):
    """The image was resized after it was saved."""
    reading = read(tmp_path, "cut.txt", text, (480, 640))
    assert reading.scales == ()
    assert "1280 columns and the image has 640" in reading.notes[0]


def test_tescan_means_metres(tmp_path):
    """In a `.hdr` of the image's name or of name-tif."""
    reading = read(tmp_path, "cut-tif.hdr", "[MAIN]\nPixelSizeX=2.5e-10\nPixelSizeY=2.6e-10\n")
    (scale,) = reading.scales
    assert (scale.nm_per_px_x, scale.nm_per_px_y) == pytest.approx((0.25, 0.26))


def test_a_number_without_a_unit_is_no_scale(tmp_path):
    """It may be nm, Å or µm."""
    reading = read(tmp_path, "cut.txt", "PixelSize=0.21\n")
    assert reading.scales == ()
    assert "without a unit" in reading.notes[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cut.txt", "PixelSize = 2.1 Å"),
        ("cut.txt", "PixelSize=0.21\nPixelSizeY=0.21\nUnit=nm"),
        ("cut.tif.txt", "pixel size: 0.00021 µm"),
        ("cut.json", json.dumps({"pixel_size_nm": 0.21})),
        ("cut.json", json.dumps({"nm_per_px_x": 0.21, "nm_per_px_y": 0.21})),
        ("cut.json", json.dumps({"PixelSize": "2.1e-10", "unit": "m"})),
    ],
)
def test_what_people_write_themselves_is_read(tmp_path, name, text):
    """The number, its unit, or both."""
    (scale,) = read(tmp_path, name, text).scales
    assert (scale.nm_per_px_x, scale.nm_per_px_y) == pytest.approx((0.21, 0.21))


@pytest.mark.parametrize("text", ["PixelSize=0,21 nm", "PixelSize=1.2.3 nm", "PixelSize=wide nm"])
def test_what_is_no_number_is_a_note(tmp_path, text):
    """A comma could be two numbers."""
    reading = read(tmp_path, "cut.txt", text)
    assert (reading.scales, len(reading.notes)) == ((), 1)


@pytest.mark.parametrize(("name", "text"), [("cut.txt", "Dear all,\n"), ("cut.json", "[1"),
                                            ("cut.json", '{"stage": {"unit": "um"}}')])  # fmt: skip
def test_other_texts_say_nothing(tmp_path, name, text):
    """A letter, a damaged file, a file of another purpose."""
    reading = read(tmp_path, name, text)
    assert (reading.scales, reading.notes) == ((), ())


def test_a_unit_of_something_else_is_not_taken(tmp_path):
    """That of the stage's inner object does not become the pixel's."""
    text = json.dumps({"pixel_size": 0.2, "stage": {"unit": "um", "x": 3}})
    assert read(tmp_path, "cut.json", text).scales == ()


def test_settings_keep_their_first_value():
    """A second section of the same file speaks of another signal."""
    assert parse_settings("A=1\n[Two]\nA=2")["a"] == "1"
