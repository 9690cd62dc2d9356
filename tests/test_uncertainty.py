"""The uncertainty map is 0 where the guide is sure and 1 where it is undecided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.arrays import UNLABELED
from backend.learning.obal import entropy
from backend.learning.uncertainty import (
    SURE_PIXELS,
    TRUST_REACH_PX,
    competence_share,
    geometric_mean,
    local_trust,
    normalized_entropy,
    sure_pixels,
    tempered,
)

SHAPE = (3, 4)


@st.composite
def beliefs(draw, count=1):
    """Probabilities (C, 3, 4) of 2 to 9 classes, also exactly 0 and 1; as many as asked for."""
    classes = draw(st.integers(2, 9))
    values = st.sampled_from([0, 1e-6, 0.3, 1, 50])
    found = []
    for _ in range(count):
        raw = draw(hnp.arrays(np.float32, (classes, *SHAPE), elements=values))
        raw[0] += raw.sum(axis=0) == 0
        found.append((raw / raw.sum(axis=0)).astype(np.float32))
    return found


@given(beliefs())
def test_uncertainty_lies_between_0_and_1(belief):
    """Float32, however the probabilities are rounded."""
    uncertainty = normalized_entropy(*belief)
    assert uncertainty.dtype == np.float32
    assert uncertainty.shape == SHAPE
    assert (uncertainty >= 0).all()
    assert (uncertainty <= 1).all()


@given(beliefs())
def test_uncertainty_is_entropy_in_units_of_its_maximum(belief):
    """Eq. (1) divided by ln C."""
    expected = entropy(*belief) / np.log(len(belief[0]))
    np.testing.assert_allclose(normalized_entropy(*belief), expected, atol=1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_better_opinion_weighs_more(first, second):
    """Never less than nothing, and nothing counts alone."""
    weaker, better = sorted((first, second))
    assert 0 <= competence_share(weaker) <= competence_share(better) < 1


@pytest.mark.parametrize("classes", [2, 3, 254])
def test_even_split_is_undecided_and_one_class_is_sure(classes):
    """For any number of classes."""
    even = np.full((classes, 1, 1), 1 / classes, np.float32)
    sure = np.zeros_like(even)
    sure[classes - 1] = 1
    assert normalized_entropy(even).item() == pytest.approx(1, abs=1e-6)
    assert normalized_entropy(sure).item() == 0


def test_doubt_between_two_of_many_is_less_than_full():
    """Half and half of four classes is ln 2 / ln 4."""
    half = np.array([0.5, 0.5, 0, 0], np.float32)[:, None, None]
    assert normalized_entropy(half).item() == pytest.approx(0.5)


@given(beliefs(count=2), st.floats(0, 1))
def test_joined_opinions_sum_to_one(opinions, share):
    """In float32, positive everywhere."""
    joined = geometric_mean(*opinions, share)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined.sum(axis=0), 1, atol=1e-5)
    assert (joined > 0).all()


@given(beliefs(count=2), st.floats(0, 1))
def test_joining_is_symmetric(opinions, share):
    """Who is named first makes no difference."""
    first, second = opinions
    one, other = geometric_mean(first, second, share), geometric_mean(second, first, 1 - share)
    np.testing.assert_allclose(one, other, atol=1e-5)


@given(beliefs(), st.floats(0, 1))
def test_agreement_changes_nothing(belief, share):
    """But for the floor that keeps one opinion from a veto."""
    np.testing.assert_allclose(geometric_mean(*belief, *belief, share), *belief, atol=1e-3)


def test_one_opinion_has_no_veto():
    """A class that one of them excludes wholly keeps a hundredth: it can come back."""
    never = np.array([1, 0], np.float32)[:, None, None]
    even = np.array([0.5, 0.5], np.float32)[:, None, None]
    assert geometric_mean(never, even, 0.5)[1].item() == pytest.approx(0.01, rel=0.02)


def test_opinion_without_a_share_does_not_count():
    """Ablations set the share to 0 or 1."""
    first = np.array([0.8, 0.2], np.float32)[:, None, None]
    second = np.array([0.1, 0.9], np.float32)[:, None, None]
    np.testing.assert_allclose(geometric_mean(first, second, 0), first, rtol=1e-5)
    np.testing.assert_allclose(geometric_mean(first, second, 1), second, rtol=1e-5)


def test_opinion_is_trusted_until_a_stroke_contradicts_it():
    """Not where it is contradicted, again far from there, and fully without contradiction."""
    opinion = np.zeros((2, 200, 200), np.float32)
    opinion[0] = 1
    scribbles = np.full((200, 200), UNLABELED, np.uint8)
    scribbles[150:155, 150:155] = 0
    assert (local_trust(opinion, scribbles) == 1).all()
    scribbles[40:45, 40:45] = 1
    trust = local_trust(opinion, scribbles)
    assert trust[42, 42] < 0.1
    assert trust[152, 152] > 0.95
    beyond = 42 + int(3.5 * TRUST_REACH_PX)
    assert trust[beyond, 42] == 1


@given(beliefs(), st.floats(0.5, 3))
def test_tempered_answer_keeps_its_classes(drawn, temperature):
    """Only how sure it is of them changes."""
    (before,) = drawn
    after = tempered(before, temperature)
    np.testing.assert_allclose(after.sum(axis=0), 1, atol=1e-5)
    likeliest = np.take_along_axis(after, before.argmax(axis=0)[None], axis=0)
    np.testing.assert_allclose(likeliest[0], after.max(axis=0), atol=1e-6)


def halves():
    """An opinion that is sure of an upper and a lower half, but not around row 20."""
    certainty = np.clip((np.arange(40) - 20) / 4, -0.5, 0.5) + 0.5
    lower = np.broadcast_to(certainty[:, None], (40, 200)).astype(np.float32)
    return np.stack([1 - lower, lower])


def test_deep_pixels_are_taught_as_if_drawn():
    """None of them near where the opinion changes, and not too many."""
    nothing = np.full((40, 200), UNLABELED, np.uint8)
    taught = sure_pixels(halves(), nothing, seed=0)
    assert set(np.unique(taught[:14])) == {0, UNLABELED}
    assert set(np.unique(taught[27:])) == {1, UNLABELED}
    assert (taught[14:27] == UNLABELED).all()
    assert [(taught == label).sum() for label in (0, 1)] == [SURE_PIXELS, SURE_PIXELS]
    assert (taught == sure_pixels(halves(), nothing, seed=0)).all()


def test_strokes_stay_and_silence_what_they_contradict():
    """A stroke against the opinion takes its surroundings away, no more."""
    strokes = np.full((40, 200), UNLABELED, np.uint8)
    strokes[4:8, 4:24] = 1
    taught = sure_pixels(halves(), strokes, seed=0)
    assert (taught[4:8, 4:24] == 1).all()
    assert not (taught[:12, :30] == 0).any()
    assert (taught[:12, 100:] == 0).any()


def test_class_that_the_opinion_is_less_sure_of_is_taught_too():
    """From the surer half of its place: what is not taught would never be answered."""
    opinion = np.full((2, 60, 60), 0.01, np.float32)
    opinion[0, :30] = 0.99
    opinion[1, 30:, :30], opinion[1, 30:, 30:] = 0.94, 0.8
    opinion[0, 30:] = 1 - opinion[1, 30:]
    taught = sure_pixels(opinion, np.full((60, 60), UNLABELED, np.uint8), seed=0)
    assert (taught[30:, :30] == 1).sum() == SURE_PIXELS
    assert not (taught[30:, 30:] != UNLABELED).any()


def test_thin_class_is_taught_and_one_that_hardly_shows_is_not():
    """A film of 4 px has no deep pixels; a few pixels of a class may be a mistake."""
    opinion = np.zeros((3, 60, 60), np.float32)
    opinion[0] = 1
    opinion[:, 30:34] = np.array([0.1, 0.9, 0])[:, None, None]
    opinion[:, 10:12, 10:12] = np.array([0.1, 0, 0.9])[:, None, None]
    taught = sure_pixels(opinion, np.full((60, 60), UNLABELED, np.uint8), seed=0)
    assert (taught[30:34] == 1).sum() == SURE_PIXELS
    assert not (taught == 2).any()
