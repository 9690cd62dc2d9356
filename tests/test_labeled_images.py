"""Images with their truth: from the generator, and from a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from backend.errors import InvalidImageError
from backend.learning.labeled_images import folder_images, synthetic_images
from backend.microscope.synthetic_files import palette_image

TRUTH = np.repeat(np.array([0, 2, 255], np.uint8), 16)[:, None] * np.ones((1, 40), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """One image of 48 x 40 px, and its palette mask."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)).save(
        tmp_path / "images" / "a.png"
    )
    palette_image(TRUTH).save(tmp_path / "masks" / "a.png")
    return tmp_path


def test_folder_gives_class_indices_and_its_own_depth(folder):
    """A palette's colors are not the classes; 255 is unknown and no class."""
    (image,) = folder_images(folder, 3)

    assert (image.data_set, image.name, image.classes) == (folder.name, "a", 3)
    assert image.image.max() == 48 * 40 - 1
    assert (image.truth == TRUTH).all()


def test_a_legend_names_the_classes(folder):
    """As far as the image has them; one that names fewer is wrong."""
    (image,) = folder_images(folder)
    assert image.materials == ("class 0", "class 1", "class 2")
    legend = folder / "legend.json"
    legend.write_text(json.dumps({"materials": ["Si", "Oxide", "Metal", "Void"]}))
    (image,) = folder_images(folder)
    assert image.materials == ("Si", "Oxide", "Metal")
    legend.write_text(json.dumps({"materials": ["Si", "Oxide"]}))
    with pytest.raises(InvalidImageError, match="from 0 to 1"):
        list(folder_images(folder))


def test_only_the_first_images_are_read(folder):
    """By name."""
    (folder / "images" / "b.png").write_bytes(b"not even an image")

    assert [image.name for image in folder_images(folder, 1)] == ["a"]


def test_known_number_of_classes_is_a_limit(folder):
    """All images are read; one of the classes is enough then, none is not."""
    assert len(list(folder_images(folder, classes=3))) == 1
    with pytest.raises(InvalidImageError, match=r"holds the classes \[0, 2\]: .* from 0 to 1"):
        list(folder_images(folder, classes=2))
    mask = folder / "masks" / "a.png"
    Image.fromarray(np.minimum(TRUTH, 0)).save(mask)
    assert len(list(folder_images(folder, classes=3))) == 1
    Image.fromarray(np.full_like(TRUTH, 255)).save(mask)
    with pytest.raises(InvalidImageError, match=r"holds the classes \[\]: give 1 or more"):
        list(folder_images(folder, classes=3))


def test_synthetic_images_are_of_all_kinds_and_the_same_each_time():
    """Without the data bar of equipment B."""
    first, second = (list(synthetic_images(("gate", "active"), ("A", "B"), 1, 96)) for _ in "12")

    assert [image.data_set for image in first] == [
        "gate A 96 px",
        "gate B 96 px",
        "active A 96 px",
        "active B 96 px",
    ]
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))
    assert all((image.truth != 255).all() for image in first)


def break_folder(folder, how):
    """Damage a good folder in one way."""
    mask = folder / "masks" / "a.png"
    if how == "empty":
        (folder / "images" / "a.png").unlink()
    elif how == "no mask":
        mask.unlink()
    elif how == "no image":
        (folder / "images" / "a.png").write_bytes(b"GIF")
    else:
        masks = {
            "other size": TRUTH[:40],
            "colors": np.stack([TRUTH] * 3, axis=2),
            "one class": np.minimum(TRUTH, 0),
        }
        Image.fromarray(masks[how]).save(mask)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("empty", "holds no images: put them into"),
        ("no mask", "a.png has no mask that can be read at .*masks"),
        ("no image", r"images/a.png: the 3 bytes are no readable image"),
        ("other size", r"has shape \(40, 40\) \(height, width\), its image \(48, 40\)"),
        ("colors", r"shape \(48, 40, 3\) of uint8: give one class index per pixel"),
        ("one class", r"holds the classes \[0\]: give 2 or more"),
    ],
)
def test_damaged_folder_is_refused_with_one_sentence(folder, how, sentence):
    """It names the file, and says what to do."""
    break_folder(folder, how)
    with pytest.raises(InvalidImageError, match=sentence):
        list(folder_images(folder, 3))
