"""Ground truth from a folder, and the crops that are cut from it."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from ground_truth_folder import MATERIALS, training_image, write_dataset
from PIL import Image

from backend.errors import InvalidDatasetError, InvalidImageError
from backend.learning.segmentation_data import (
    NO_EQUIPMENT,
    Crops,
    CropSettings,
    EpochSampler,
    half_size,
    read_training_data,
)

SMALL = CropSettings(64)


def image_of(truth, name="one"):
    """An image that shows its classes as grey values."""
    truth = np.asarray(truth, np.uint8)
    gray = (truth / max(truth.max(), 1)).astype(np.float16)
    return replace(training_image(0), name=name, gray=gray, truth=truth)


def halves(side=100):
    """Class 1 above class 0."""
    return image_of(np.repeat([[1], [0]], side // 2, axis=0) * np.ones((1, side)))


def test_dataset_is_read_with_materials_and_equipment(tmp_path):
    """The manifest need not name every image, and may name files."""
    data = read_training_data(write_dataset(tmp_path, 3, equipment=["B", "", "A"]))

    assert data.materials == MATERIALS
    assert [image.name for image in data.images] == ["image 0", "image 1", "image 2"]
    assert [image.equipment for image in data.images] == ["B", NO_EQUIPMENT, "A"]
    assert (data.images[0].gray.min(), data.images[0].gray.max()) == (0, 1)
    assert (data.images[2].truth == training_image(2).truth).all()


def test_without_a_legend_classes_get_numbers(tmp_path):
    """As many as the masks hold."""
    folder = write_dataset(tmp_path, 2)
    (folder / "legend.json").unlink()

    assert read_training_data(folder).materials == ("class 0", "class 1", "class 2")


def test_hash_is_of_pixels_not_of_files(tmp_path):
    """Another compression changes nothing, another pixel of the mask does."""
    folder = write_dataset(tmp_path, 1)
    path = folder / "masks" / "image 0.png"
    first = read_training_data(folder).images[0].sha256
    with Image.open(path) as file:
        mask = np.asarray(file).copy()
    Image.fromarray(mask).save(path, compress_level=0)
    assert read_training_data(folder).images[0].sha256 == first
    mask[0, 0] = 2
    Image.fromarray(mask).save(path)
    assert read_training_data(folder).images[0].sha256 != first


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("legend.json", "{", r"legend\.json is no JSON"),
        ("legend.json", "[]", r"legend\.json holds no JSON object"),
        ("legend.json", "{}", 'needs "materials"'),
        ("legend.json", '{"materials": ["Si", 3]}', 'needs "materials"'),
        ("legend.json", '{"materials": ["Si"]}', "names the materials Si: give 2 to 254"),
        ("legend.json", '{"materials": ["Si", "Si"]}', "each once"),
        ("legend.json", '{"materials": ["a", "b", "c"], "ignore_index": 0}', "ignore_index 0"),
        ("manifest.json", "{", r"manifest\.json is no JSON"),
        ("manifest.json", '{"images": [{}]}', 'needs "images"'),
    ],
)
def test_damaged_description_is_refused(tmp_path, name, content, sentence):
    """In one sentence that names the file."""
    folder = write_dataset(tmp_path, 1)
    (folder / name).write_text(content)
    with pytest.raises(InvalidDatasetError, match=sentence):
        read_training_data(folder)


def test_class_without_a_material_is_refused(tmp_path):
    """It cannot be guessed what it is."""
    folder = write_dataset(tmp_path, 1)
    (folder / "legend.json").write_text(json.dumps({"materials": MATERIALS[:2]}))
    with pytest.raises(
        InvalidImageError, match=r"classes \[0, 1, 2\]: give 1 or more, from 0 to 1"
    ):
        read_training_data(folder)


def test_half_size_keeps_gray_values_and_edges_where_they_are():
    """A class with an odd border keeps its area in the mean, and what is unknown stays so."""
    truth = np.zeros((201, 400), np.uint8)
    truth[:, 101:] = 1
    truth[:20] = 255
    half = half_size(image_of(truth))
    assert half.truth.shape == half.gray.shape == (100, 200)
    assert (half.truth[:10] == 255).all()
    assert (half.truth[10:, :50] == 0).all()
    assert (half.truth[10:, 51:] == 1).all()
    assert (half.truth[10:, 50] == 1).mean() == pytest.approx(0.5, abs=0.2)
    np.testing.assert_allclose(half.gray[50, 49:52], np.array([0, 0.5, 1]) / 255, atol=1e-4)


def test_same_number_gives_the_same_crop():
    """Whoever asks; other numbers and seeds give others, and the caller's random numbers stay."""
    images = [training_image(seed) for seed in range(2)]
    first, second, other = (Crops(images, SMALL, seed) for seed in (1, 1, 2))
    before = torch.get_rng_state()

    for number in (0, 7):
        for mine, yours in zip(first[number], second[number], strict=True):
            assert torch.equal(mine, yours)
    assert not torch.equal(first[0][0], first[2][0])
    assert not torch.equal(first[0][0], other[0][0])
    assert torch.equal(before, torch.get_rng_state())


def test_crop_has_the_shape_and_range_of_the_network():
    """Grey values from -1 to 1, classes as integers."""
    image, target = Crops([training_image(0)], SMALL, 1)[0]

    assert (image.shape, image.dtype) == ((1, 64, 64), torch.float32)
    assert (target.shape, target.dtype) == ((64, 64), torch.int64)
    assert -1 <= image.min() < -0.5
    assert 0.5 < image.max() <= 1


def test_images_count_equally():
    """However large they are."""
    images = [image_of(np.full((side, side), label)) for label, side in enumerate((64, 300, 90))]
    plain = Crops(images, SMALL, 1).plain(30)

    shown = Counter(plain[number][1].unique().item() for number in range(30))

    assert shown == {0: 10, 1: 10, 2: 10}


def test_rare_class_is_seen():
    """Four pixels of 360,000 would hardly ever be in a crop."""
    truth = np.zeros((600, 600))
    truth[300:302, 300:302] = 1
    plain = Crops([image_of(truth)], SMALL, 1).plain(60)

    seen = sum(bool((plain[number][1] == 1).any()) for number in range(60))

    assert 6 < seen < 25


def test_every_crop_shows_something_known():
    """An image that is annotated in a corner only is not wasted."""
    truth = np.full((400, 400), 255)
    truth[:30, :30] = np.eye(30)
    plain = Crops([image_of(truth)], SMALL, 1).plain(20)

    assert all((plain[number][1] != 255).any() for number in range(20))


def test_augmentation_moves_image_and_mask_together():
    """Grey values still tell the classes, and up stays up."""
    crops = Crops([halves()], SMALL, 1)
    agreements = []
    for number in range(12):
        image, target = crops[number]
        known = target != 255
        assert set(target.unique().tolist()) <= {0, 1, 255}
        assert known.float().mean() > 0.7
        if len(target[known].unique()) == 2:
            threshold = (image[0][target == 1].mean() + image[0][target == 0].mean()) / 2
            agreements.append(((image[0] > threshold) == (target == 1))[known].float().mean())
            assert image[0, :16].mean() > image[0, -16:].mean()
    assert len(agreements) > 4
    assert min(agreements) > 0.9


def test_image_smaller_than_a_crop_is_mirrored_without_truth():
    """What is added teaches nothing."""
    image, target = Crops([training_image(0, side=48)], SMALL, 1).plain(1)[0]

    assert image.shape == (1, 64, 64)
    assert (target != 255).sum() == 48**2


def test_processes_share_an_epoch():
    """No crop twice, and none left out."""
    first, second = (list(EpochSampler(4, process, 2, epoch=0)) for process in range(2))
    assert sorted(first + second) == list(range(8))
    sampler = EpochSampler(4, 0, 1, epoch=0)
    sampler.set_epoch(2)
    assert (list(sampler), len(sampler)) == ([8, 9, 10, 11], 4)
