"""Images for the demo come out in a form that browsers show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from backend.demo_images import read_images, synthetic_images
from backend.errors import InvalidImageError


def test_png_is_left_as_it_is(tmp_path):
    """The bytes are the user's own."""
    path = tmp_path / "a.png"
    Image.new("L", (4, 3)).save(path)

    (image,) = read_images([path])

    assert (image.name, image.content) == ("a.png", path.read_bytes())


def test_tiff_becomes_png_with_full_contrast(tmp_path):
    """Sixteen bits are stretched to eight."""
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[1000, 1500, 2000]], dtype=np.uint16)).save(path)

    (image,) = read_images([path])

    assert image.name == "a.png"
    assert np.asarray(Image.open(io.BytesIO(image.content))).tolist() == [[0, 128, 255]]


def test_missing_file_is_named(tmp_path):
    """The sentence holds the path."""
    with pytest.raises(InvalidImageError, match=r"gone\.png cannot be read: No such file"):
        read_images([tmp_path / "gone.png"])


@pytest.mark.parametrize("content", [b"words", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_file_that_is_no_image_is_named(tmp_path, content):
    """Text, or half an image."""
    path = tmp_path / "a.png"
    path.write_bytes(content)

    with pytest.raises(InvalidImageError, match=r"a\.png"):
        read_images([path])


def test_synthetic_images_differ_and_come_with_materials():
    """Each is another device of the same four materials."""
    materials, images = synthetic_images()

    assert materials == ("Si", "Oxide", "Nitride", "Metal")
    assert len({image.content for image in images}) == len(images) == 6
