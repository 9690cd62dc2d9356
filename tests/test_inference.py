"""Segmentation of new images: without seams, files written whole, errors told by name."""

import copy
import errno
import threading
import time

import numpy as np
import pytest
from PIL import Image
from taught_network import taught_network

from backend.learning import inference, networks
from backend.learning.inference import segment, segment_files
from backend.learning.networks import predict_probabilities, to_input
from backend.microscope.images import decode_image

COLORS = ("#ff0000", "#00ff00", "#0000ff")


def gray(shape, seed=0):
    """Smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1])).astype(np.float32) / 255


@pytest.fixture(scope="module")
def network():
    """A network that has learned to tell three grays apart."""
    image = gray((128, 128))
    return taught_network(image, (image * 2.99).astype(np.uint8))


def test_segmentation_is_that_of_the_network(network):
    """Likeliest class, entropy and, on demand, probabilities, for a size that must be padded."""
    image = gray((100, 150))
    probabilities = np.zeros((3, 100, 150), np.float16)
    found = segment(network, image, probabilities)
    whole = predict_probabilities(network, to_input(networks.pad_image(image)), 2048)
    whole = whole[:, :100, :150]
    assert (found.label_map == whole.argmax(axis=0)).all()
    np.testing.assert_allclose(probabilities, whole, atol=1e-3)
    entropy = -(whole * np.log(whole)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(found.uncertainty / 255, entropy, atol=0.01)


def test_tiles_leave_no_seam(network, monkeypatch):
    """Beside the border of a tile the answer is that of the whole image."""
    image = gray((512, 1280))
    whole, tiled = np.zeros((2, 3, 512, 1280), np.float16)
    alone = copy.deepcopy(network)
    padded = networks.to_input(networks.pad_image(image))
    networks.take_statistics(alone, (padded[w] for w in networks._sample_windows(image.shape)))
    segment(alone, image, whole)
    monkeypatch.setattr(inference, "SHARED_TILE_PX", 512)
    segment(network, image, tiled)
    difference = np.abs(whole.astype(float) - tiled).max()
    assert difference < 0.05
    monkeypatch.setattr(inference, "SHARED_MARGIN_PX", 0)
    segment(network, image, tiled)
    assert np.abs(whole.astype(float) - tiled).max() > 2 * difference


def test_part_of_an_image_gives_its_statistics(network):
    """The answer is about that of an image normalized as a whole, if it repeats as devices do."""
    image = networks.to_input(np.tile(gray((128, 128)), (4, 10)))
    whole = predict_probabilities(network, image, 2048).argmax(axis=0)
    parts = predict_probabilities(network, image, 512, 256).argmax(axis=0)
    assert (whole == parts).mean() > 0.97


@pytest.mark.parametrize("shape", [(128, 2176), (2304, 2304), (4096, 8192)])
def test_statistics_are_of_a_fifth_of_the_image(shape):
    """In windows inside of it, that the network can see."""
    windows = list(networks._sample_windows(shape))
    for _, *spans in windows:
        for span, side in zip(spans, shape, strict=True):
            assert 0 <= span.start < span.stop <= side
            assert (span.stop - span.start) % 64 == 0
    area = sum((w[1].stop - w[1].start) * (w[2].stop - w[2].start) for w in windows)
    assert area / np.prod(shape) < 0.2 * (2.3 if min(shape) < 256 else 1.01)
    assert area / np.prod(shape) > 0.1


def test_files_are_written(network, tmp_path):
    """Labels with a palette, uncertainty, and probabilities on demand."""
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"image {seed}.png")
        Image.fromarray((gray((64, 96), seed) * 255).astype(np.uint8)).save(paths[-1])
    paths[1].write_bytes(b"no image")

    out = tmp_path / "out"
    results = dict(segment_files(network, paths, out, COLORS, keep=True))

    assert results[paths[0]] == results[paths[2]] == ""
    assert "no readable image" in results[paths[1]]
    with Image.open(out / "image 2.labels.png") as labels:
        assert (labels.mode, labels.size) == ("P", (96, 64))
        assert labels.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]
        label_map = np.asarray(labels)
    probabilities = np.load(out / "image 2.probabilities.npy", mmap_mode="r")
    assert probabilities.shape == (3, 64, 96)
    assert (probabilities.argmax(axis=0) == label_map).mean() > 0.99
    assert (out / "image 0.uncertainty.png").exists()
    assert not list(out.glob("image 1*"))


def test_large_images_are_decoded_one_by_one(network, tmp_path, monkeypatch):
    """Several at once may not fit into memory."""
    paths = [tmp_path / f"{seed}.png" for seed in range(4)]
    for seed, path in enumerate(paths):
        Image.fromarray((gray((64, 96), seed) * 255).astype(np.uint8)).save(path)
    at_work = []

    def decode(*arguments):
        at_work.append(threading.current_thread())
        time.sleep(0.02)
        assert at_work == [threading.current_thread()]
        image = decode_image(*arguments)
        at_work.pop()
        return image

    monkeypatch.setattr(inference, "decode_image", decode)
    monkeypatch.setattr(inference, "SHARED_TILE_PX", 64)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    results = dict(segment_files(network, paths, tmp_path / "out", COLORS))
    assert set(results.values()) == {""}


def test_probabilities_are_there_wholly_or_not_at_all(network, tmp_path, monkeypatch):
    """Those of an earlier run are kept where the new ones did not come to their end."""
    path, out = tmp_path / "one.png", tmp_path / "out"
    Image.fromarray((gray((64, 64)) * 255).astype(np.uint8)).save(path)
    assert dict(segment_files(network, [path], out, COLORS, keep=True)) == {path: ""}
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def stops(_network, _gray, probabilities):
        probabilities[0, :9] = 0.5
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(inference, "segment", stops)
    ((_, problem),) = segment_files(network, [path], out, COLORS, keep=True)
    assert "Input/output error" in problem
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_full_disk_is_told(network, tmp_path, monkeypatch):
    """The other images are segmented all the same."""
    path = tmp_path / "one.png"
    Image.fromarray((gray((64, 64)) * 255).astype(np.uint8)).save(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inference, "write_atomically", full)
    ((_, problem),) = segment_files(network, [path], tmp_path / "out", COLORS)
    assert "No space left" in problem
