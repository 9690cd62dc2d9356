"""Data bars are found, and no device is taken for one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from backend.microscope.databar import draw_databar
from backend.microscope.databar_finder import find_databar
from backend.microscope.synthetic import make_image

SHAPE = (192, 224)


@pytest.fixture(scope="module")
def gate():
    """An 8-bit image of a gate without a bar."""
    return make_image("gate", "C", 0, SHAPE).image


@pytest.mark.parametrize("rows", [12, 20, 40])
def test_rows_of_a_bar_are_counted(gate, rows):
    """To the row."""
    assert find_databar(draw_databar(gate, rows, 0.3)) == rows


def test_a_bar_is_found_in_16_bits(gate):
    """As in 8."""
    assert find_databar(draw_databar(gate.astype(np.uint16) * 257, 20, 0.3)) == 20


def test_a_bar_is_found_after_jpeg(gate):
    """Which rings around the letters, and blurs the seam by its blocks of 8."""
    buffer = io.BytesIO()
    Image.fromarray(draw_databar(gate, 24, 0.3)).save(buffer, "JPEG", quality=80)
    assert abs(find_databar(np.asarray(Image.open(buffer))) - 24) <= 2


def test_a_bar_drawn_into_the_image_with_a_frame_is_found(gate):
    """As of Zeiss: lines around it, and a row of the image below."""
    image = gate.copy()
    image[-31:-1] = draw_databar(gate, 30, 0.3)[-30:]
    image[[-31, -2]] = 0
    assert find_databar(image) == 31


@pytest.mark.parametrize("module", ["gate", "active"])
@pytest.mark.parametrize("equipment", ["A", "C"])
def test_a_device_is_no_bar(module, equipment):
    """Though its substrate is even, down to the bottom."""
    assert find_databar(make_image(module, equipment, 1, SHAPE).image) == 0


@pytest.mark.parametrize("noise", [0, 2, 20, 50])
@pytest.mark.parametrize("hot", [(), (5000,), (16000,), (65535,) * 20])
def test_an_even_substrate_is_no_bar(noise, hot):
    """Whatever its noise, and however far X-rays that hit the camera stretch the range."""
    rng = np.random.default_rng(0)
    layers = np.repeat([1500, 600, 300], [200, 210, 102])[:, None]
    image = layers + noise * rng.standard_normal((512, 512))
    for value in hot:
        image[tuple(rng.integers(512, size=2))] = value
    assert find_databar(np.rint(image).astype(np.uint16)) == 0


@pytest.mark.parametrize("module", ["gate", "active"])
@pytest.mark.parametrize("equipment", ["A", "B", "C"])
def test_hot_pixels_change_nothing(module, equipment):
    """A bar stays a bar, a substrate a substrate."""
    drawn = make_image(module, equipment, 5, (256, 256))
    for image, rows in (
        (drawn.image, 256 - drawn.device_rows),
        (drawn.without_databar().image, 0),
    ):
        hit = image.astype(np.uint16)
        hit[[20, 90, 150], [30, 200, 99]] = 16000
        assert find_databar(hit) == rows


def test_an_even_strip_without_text_is_no_bar(gate):
    """Such as a substrate that the detector clipped, with its dead pixels."""
    image = gate.copy()
    image[-30:] = 0
    image[-20, 7], image[-9, 60] = 255, 200
    assert find_databar(image) == 0


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_of_one_value_has_no_bar(value):
    """Nor has one that is even up to half its height."""
    image = np.full(SHAPE, value, np.uint8)
    assert find_databar(image) == 0
    image[:96] = np.random.default_rng(0).integers(0, 255, (96, SHAPE[1]))
    assert find_databar(image) == 0
