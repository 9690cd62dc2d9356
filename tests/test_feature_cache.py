"""Features are computed once for an image; what is on disk is theirs or is not used."""

import os
import time

import numpy as np
import pytest

from backend.learning.pixel_classifier import cell_features
from backend.state.feature_cache import FeatureCache


def noise(seed=0, shape=(64, 64)):
    """An image like no other seed's: (H, W) float32."""
    return np.random.default_rng(seed).random(shape, np.float32)


NBYTES = cell_features(noise()).nbytes


@pytest.fixture
def folder(tmp_path):
    """Where the features lie."""
    return tmp_path / "features"


@pytest.fixture
def described():
    """Images that features were computed of, those of the sample left out."""
    return []


@pytest.fixture
def reopen(folder, described):
    """Open the cache, again and again; each is a restart of the backend."""

    def reopen(max_bytes=10 * NBYTES, recipe=cell_features):
        opened = []  # the first image that is described is the sample

        def compute(image):
            opened.append(image)
            if len(opened) > 1:
                described.append(image)
            return recipe(image)

        return FeatureCache(folder, max_bytes, compute)

    return reopen


def age(folder):
    """Make all files a day older."""
    for path in folder.iterdir():
        changed_s = path.stat().st_mtime - 86400
        os.utime(path, (changed_s, changed_s))


def test_features_come_back(reopen, described):
    """After a restart, to the bit, and without filtering."""
    computed = reopen().features(noise())
    read = reopen().features(noise())
    np.testing.assert_array_equal(read, computed)
    assert read.dtype == computed.dtype == np.float16
    assert len(described) == 1


@pytest.mark.parametrize("other", [noise(1), noise()[:, :62], noise().reshape(32, 128)])
def test_other_image_has_its_own(reopen, other):
    """One changed, one cut, and one of the same bytes in another shape."""
    cache = reopen()
    cache.features(noise())
    np.testing.assert_array_equal(cache.features(other), cell_features(other))


def test_other_recipe_does_not_meet_old_features(reopen):
    """A new version of the filters computes them anew."""
    reopen().features(noise())
    changed = reopen(recipe=lambda image: cell_features(image) + 1).features(noise())
    np.testing.assert_array_equal(changed, cell_features(noise()) + 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        lambda _: b"",
    ],
    ids=["cut short", "a bit changed", "empty"],
)
def test_damaged_file_costs_a_warning(reopen, folder, damage, caplog):
    """It is made anew, never believed."""
    computed = reopen().features(noise())
    (path,) = folder.iterdir()
    intact = path.read_bytes()
    path.write_bytes(damage(intact))
    np.testing.assert_array_equal(reopen().features(noise()), computed)
    assert "is damaged and made anew" in caplog.text
    assert path.read_bytes() == intact


def test_pickle_is_not_opened(reopen, folder, caplog):
    """A file could run any code otherwise."""
    reopen().features(noise())
    (path,) = folder.iterdir()
    with path.open("wb") as file:
        np.savez(file, features=np.array([{}], object))
    reopen().features(noise())
    assert "is damaged" in caplog.text


def test_oldest_is_deleted_first(reopen, folder, described):
    """There is room for two; the one read lately is young again."""
    cache = reopen(max_bytes=2.5 * NBYTES)
    for seed in (0, 1):
        cache.features(noise(seed))
        age(folder)
    cache.features(noise(0))
    cache.features(noise(2))
    described.clear()
    for seed in (2, 0):
        cache.features(noise(seed))
    assert described == []
    cache.features(noise(1))
    assert len(described) == 1


def test_limit_of_nothing_keeps_nothing(reopen, folder):
    """The cache can be turned off."""
    reopen(max_bytes=0).features(noise())
    assert not folder.exists()


def test_full_disk_costs_a_warning(reopen, folder, caplog):
    """The answer does not depend on it."""
    folder.write_text("a file where the folder should be")
    np.testing.assert_array_equal(reopen().features(noise()), cell_features(noise()))
    assert "are not kept" in caplog.text


def test_reading_is_faster_than_computing(reopen):
    """Else it would be for nothing; seen: a hundred times."""
    image, cache = noise(shape=(512, 512)), reopen(1e9)
    cache.features(noise())  # the sample is behind us
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        cache.features(image)
        seconds.append(time.perf_counter() - started)
    assert seconds[1] < seconds[0] / 3
