"""Replays: what a turn's row says, and that nothing but the run decides it."""

from dataclasses import replace

import numpy as np
import pytest

from backend.arrays import UNLABELED
from backend.learning.guide import Prediction
from backend.learning.labeled_images import LabeledImage
from backend.learning.methods import METHODS, Method
from backend.learning.replay import STROKE_S, Run, replay
from backend.learning.spots import Spot

TRUTH = np.zeros((96, 96), np.uint8)
TRUTH[48:] = 1
RUN = Run("layers", "one", "oracle", "careful", 0)
SPOT = Spot(36, 36, 24, 24, 1.0, "")


class Oracle:
    """Shows class 0 everywhere at first, and the truth from the second answer on."""

    def __init__(self):
        self.answers = []

    def answer(self, scribbles):
        """Be wrong once."""
        label_map = TRUTH if self.answers else np.zeros_like(TRUTH)
        self.answers.append(scribbles.copy())
        sure = np.stack([label_map == 0, label_map == 1]).astype(np.float32)
        return Prediction(sure, label_map, np.zeros(TRUTH.shape, np.float32), (SPOT,))

    def go_on(self):
        """Nothing."""


@pytest.fixture
def oracle():
    """It, before its first answer."""
    return Oracle()


def take_turns(method, run=RUN, count=3):
    """Replay on the layers; return the rows only."""
    noise = np.random.default_rng(0).normal(0, 30, TRUTH.shape)
    image = LabeledImage("layers", "one", TRUTH * 40 + noise, TRUTH)
    return [turn for turn, _ in replay(run, method, image, count, steps=1)]


def playing(player, **traits):
    """A method that is one player."""
    return Method("", lambda *_: player, **traits)


def test_rows_tell_of_the_answer_and_of_what_was_drawn_before_it(oracle):
    """First strokes, a wrong answer, corrections, a right one."""
    first, second, third = take_turns(playing(oracle))

    assert (first.turn, first.strokes, first.accuracy) == (1, 2, 0.5)
    assert (second.turn, second.accuracy, third.accuracy) == (2, 1, 1)
    assert (first.error_in_spots, first.error_elsewhere) == (0.5, 0.5)
    assert second.strokes > first.strokes
    assert second.drawn_px > first.drawn_px
    assert first.run == second.run == RUN


def test_warm_method_answers_before_the_first_stroke(oracle):
    """The annotator corrects that answer in place of drawing first strokes."""
    before, first, _ = take_turns(playing(oracle, is_warm=True), count=2)

    assert (before.turn, before.strokes, before.accuracy) == (0, 0, 0.5)
    assert (first.turn, first.accuracy) == (1, 1)
    assert (oracle.answers[0] == UNLABELED).all()
    assert first.strokes > 0


def test_time_passes_with_waits_and_strokes(oracle):
    """All of it counts from the opening of the image."""
    turns = take_turns(playing(oracle))

    waits = np.cumsum([turn.wall_s for turn in turns])
    expected = waits + STROKE_S * np.array([turn.strokes for turn in turns])
    np.testing.assert_allclose([turn.elapsed_s for turn in turns], expected)
    assert all(turn.wall_s > 0 for turn in turns)


def test_scribbles_grow_with_the_turns(oracle):
    """What was right stays."""
    take_turns(playing(oracle))

    first, second, _ = oracle.answers
    drawn = first != UNLABELED
    assert (second[drawn] == first[drawn]).all()


def test_same_run_gives_the_same_turns():
    """A real method; only the times differ."""
    run = replace(RUN, method="forest", annotator="erring", seed=2)
    times = {"wall_s": 0.0, "cpu_s": 0.0, "elapsed_s": 0.0}

    first, second = (
        [repr(replace(turn, **times)) for turn in take_turns(METHODS["forest"], run, 2)]
        for _ in "12"
    )

    assert first == second
    assert "accuracy=1.0" not in first[0]
