"""Images for the demo come out in a form that browsers show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from backend.errors import InvalidImageError
from backend.trials.demo_images import read_images, synthetic_images


def test_png_is_left_as_it_is(tmp_path):
    """The bytes are the user's own."""
    path = tmp_path / "a.png"
    Image.new("L", (40, 32)).save(path)

    (image,) = read_images([path])

    assert (image.name, image.content) == ("a.png", path.read_bytes())


def test_tiff_becomes_png_with_full_contrast(tmp_path):
    """Sixteen bits are stretched to eight."""
    path = tmp_path / "a.tif"
    row = np.repeat([1000, 1500, 2000], 12).astype(np.uint16)
    Image.fromarray(np.tile(row, (32, 1))).save(path)

    (image,) = read_images([path])

    assert image.name == "a.png"
    shown = np.asarray(Image.open(io.BytesIO(image.content)))
    assert shown[5, ::12].tolist() == [0, 128, 255]


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


@pytest.mark.parametrize(
    ("size", "sentence"),
    [((1, 1), "1 x 1 px: each side needs 32 px"), ((30_000, 700), "700 x 30000 px, more than")],
)
def test_image_of_impossible_size_is_named(tmp_path, size, sentence):
    """Before it is imported, not when the guide is asked."""
    path = tmp_path / "a.png"
    Image.new("1", size).save(path)

    with pytest.raises(InvalidImageError, match=rf"a\.png: the image is {sentence}"):
        read_images([path])


@pytest.mark.parametrize("end", ["a.png", "a.tif"])
def test_half_a_file_is_named(tmp_path, end):
    """A copy that was interrupted."""
    path = tmp_path / end
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(InvalidImageError, match=rf"{end}: .*no readable image"):
        read_images([path])


def test_synthetic_images_differ_and_come_with_materials():
    """Each is another device of the same four materials."""
    materials, images = synthetic_images()

    assert materials == ("Si", "Oxide", "Nitride", "Metal")
    assert len({image.content for image in images}) == len(images) == 6


def test_folder_stands_for_its_images(tmp_path):
    """By name; other files are left out, and a folder without any is named."""
    for name in ("b.png", "a.PNG"):
        Image.new("L", (40, 32)).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "empty").mkdir()

    assert [image.name for image in read_images([tmp_path])] == ["a.PNG", "b.png"]
    with pytest.raises(InvalidImageError, match="empty holds no image"):
        read_images([tmp_path / "empty"])
