"""What a guide remembers: new strokes, erased ones, rims that moved, and the disk."""

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning.guide_state import GuideState, holds_more, to_cells, to_pixels

SHAPE = (128, 128)


def drawn(*labels):
    """A stroke of each class, one below the other; UNLABELED leaves the place out."""
    scribbles = np.full(SHAPE, UNLABELED, np.uint8)
    for place, label in enumerate(labels):
        scribbles[20 + 20 * place : 28 + 20 * place, 10:90] = label
    return scribbles


def answered(*labels):
    """State after strokes of these classes and an answer that says class 0 everywhere."""
    state = GuideState.blank(3, SHAPE)
    state.take(drawn(*labels))
    state.answer = np.zeros((3, 64, 64), np.float16)
    state.answer[0] = 1
    state.opinion, state.opinion_steps = to_pixels(state.answer), 5
    return state


def test_new_stroke_makes_the_answer_the_one_before():
    """And the classes drawn so far are those it knew."""
    state = answered(0, 1)
    assert state.take(drawn(0, 1, 1)) is False
    assert state.answer_before is state.answer
    assert state.known == {0, 1}
    assert state.opinion is not None


def test_same_strokes_change_nothing():
    """Asking again is no new turn."""
    state = answered(0, 1)
    before = state.answer_before
    state.take(drawn(0, 1))
    assert state.answer_before is before


@pytest.mark.parametrize("strokes", [drawn(0), drawn(0, 2), drawn(0, UNLABELED, 1)])
def test_erased_stroke_takes_the_answers_along(strokes):
    """Erased, painted over, or moved elsewhere."""
    state = answered(0, 1)
    assert state.take(strokes) is True
    assert (state.answer_before == np.float16(1 / 3)).all()
    assert (state.known, state.opinion, state.opinion_steps) == (frozenset(), None, 0)


def test_network_has_no_opinion_of_a_new_class():
    """It would hold against a class what it never heard of."""
    state = answered(0, 1)
    state.take(drawn(0, 1, 2))
    assert state.opinion is None
    assert state.known == {0, 1}


def test_moved_rims_are_neither_new_nor_erased():
    """A submitted stroke comes back as a mask, a pixel wider here and slimmer there."""
    state = answered(0, 1)
    before, again = state.answer_before, np.roll(drawn(0, 1), 1, axis=0)
    assert state.take(again) is False
    assert state.answer_before is before
    assert not holds_more(again, drawn(0, 1))


def test_memory_counts_each_array_once():
    """Before anything is drawn, both answers are one array, by cells of 2 x 2 px."""
    state = GuideState.blank(2, SHAPE)
    assert state.nbytes == 128 * 128 * (1 + 2 * 4) + 64 * 64 * 2 * 2
    state.answer = state.answer.copy()
    assert state.nbytes == 128 * 128 * (1 + 2 * 4) + 64 * 64 * 4 * 2


def test_state_comes_back_from_tensors():
    """What later answers are made from, to the last bit; the present belief by cells."""
    state = answered(0, 1)
    state.answer = to_cells(np.random.default_rng(0).random((3, *SHAPE), np.float32))
    state.take(drawn(0, 1, 1))
    other = GuideState.blank(3, SHAPE)
    other.restore(state.tensors())
    np.testing.assert_array_equal(other.scribbles, state.scribbles)
    np.testing.assert_array_equal(other.answer, state.answer)
    np.testing.assert_array_equal(other.answer_before, state.answer_before)
    np.testing.assert_allclose(other.inference, state.inference, atol=1e-3)
    assert other.known == {0, 1}


@pytest.mark.parametrize("name", ["scribbles", "inference", "answer", "answer_before", "known"])
def test_tensors_of_something_else_are_refused(name):
    """Missing, or of another size; what there was stays."""
    state, tensors = answered(0, 1), GuideState.blank(3, SHAPE).tensors()
    without = {key: tensor for key, tensor in tensors.items() if key != name}
    with pytest.raises(ValueError, match="another version"):
        state.restore(without)
    smaller = GuideState.blank(3, (128, 256)).tensors()
    with pytest.raises(ValueError, match="another image"):
        state.restore({**tensors, "answer": smaller["answer"]})
    np.testing.assert_array_equal(state.scribbles, drawn(0, 1))
