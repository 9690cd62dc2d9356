"""Guides stay in memory while they fit; the one used longest ago leaves first, and says so."""

from dataclasses import dataclass

import pytest

from backend.state.guide_cache import GuideCache


@dataclass
class SizedGuide:
    """Stands in for a guide of so many bytes."""

    nbytes: int


@pytest.fixture
def left():
    """Keys of the guides that left, in order."""
    return []


@pytest.fixture
def cache(left):
    """A cache of 100 bytes."""
    return GuideCache(100, lambda key, _: left.append(key))


def keys_in(cache):
    """Tell which of the guides are in memory, without using one more than another."""
    return [key for key in "abcd" if cache.get(key)]


def test_guides_that_fit_stay(cache, left):
    """To the byte."""
    for key in "ab":
        cache.keep(key, SizedGuide(50))
    assert (keys_in(cache), left) == (["a", "b"], [])


def test_guide_used_longest_ago_leaves(cache, left):
    """Asking about a task counts as use."""
    for key in "ab":
        cache.keep(key, SizedGuide(40))
    cache.get("a")
    cache.keep("c", SizedGuide(40))
    assert left == ["b"]
    assert keys_in(cache) == ["a", "c"]


def test_guide_that_has_grown_is_counted_as_it_is(cache, left):
    """A network comes with the training."""
    guides = {key: SizedGuide(30) for key in "abc"}
    for key, guide in guides.items():
        cache.keep(key, guide)
    guides["b"].nbytes = 80
    cache.keep("b", guides["b"])
    assert left == ["a", "c"]


def test_guide_used_last_stays_however_large_it_is(cache, left):
    """Its annotator is about to ask again; all others make room."""
    cache.keep("a", SizedGuide(10))
    cache.keep("b", SizedGuide(1000))
    assert left == ["a"]
    assert keys_in(cache) == ["b"]


def test_unknown_task_has_no_guide(cache):
    """It is to be made."""
    assert cache.get("a") is None


def test_closed_cache_lets_all_go(cache, left):
    """So that nothing they learned is lost when the server stops."""
    for key in "ab":
        cache.keep(key, SizedGuide(40))
    cache.close()
    assert left == ["a", "b"]


def test_guide_of_a_finished_task_leaves(cache, left):
    """What it learned is kept, and there is room for others; one that is not there is no matter."""
    for key in "ab":
        cache.keep(key, SizedGuide(40))
    for key in "ac":
        cache.release(key)
    assert (keys_in(cache), left) == (["b"], ["a"])
