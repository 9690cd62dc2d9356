"""Replays: the annotator looks where a ranking says, and strokes are counted."""

import math
from itertools import islice

import numpy as np
import pytest
from scipy import ndimage as ndi

from backend.metrology.cd_replay import (
    RANKINGS,
    RIGHT_PX,
    Effort,
    by_cds,
    by_entropy,
    compare_rankings,
    gate_gauge,
    replay_cds,
)
from backend.metrology.cd_spots import BOX_PX, with_scribbles
from backend.microscope.synthetic import make_image


@pytest.fixture(scope="module")
def image():
    """Gates."""
    return make_image("gate", "A", 1, (128, 128))


def everywhere(believed, gauge, rng):  # noqa: ARG001
    """The whole image is one box."""
    yield slice(None), slice(None)


def nowhere(believed, gauge, rng):  # noqa: ARG001
    """No box."""
    return iter(())


def meets(one, other):
    """Whether two windows share pixels."""
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def test_all_is_right_once_everything_is_painted(image):
    """One turn, and a stroke for each connected piece of what was not drawn."""
    first, last = replay_cds(image, everywhere, turns=3)
    assert first.off > 0
    assert (last.turn, last.worst_px, last.off) == (1, 0.0, 0)
    assert last.strokes >= len(image.materials)


def test_turns_are_used_up_where_nothing_is_drawn(image):
    """The guide cannot get better by itself; the answer after the last turn is told too."""
    turns = list(replay_cds(image, nowhere, turns=1))
    assert [(turn.turn, turn.strokes) for turn in turns] == [(0, 0), (1, 0)]
    assert turns[-1].off > 0
    assert turns[-1].worst_px > RIGHT_PX


def test_rankings_choose_boxes_of_one_size_inside_the_image():
    """So that a stroke costs the same whoever recommends it."""
    believed = np.full((4, 192, 192), 0.25, np.float32)
    for ranking in (by_entropy, RANKINGS["random"]):
        for rows, columns in islice(ranking(believed, None, np.random.default_rng(0)), 3):
            assert believed[0, rows, columns].shape == (BOX_PX, BOX_PX)


def test_cd_ranking_goes_to_the_gate_and_entropy_does_not(image):
    """A corner of the picture is more doubtful than the wall of a gate, but is not measured."""
    truth, gauge = image.label_map, gate_gauge(image)
    gate = next(cd for cd in gauge.measure(truth).cds if cd.measurement == "gate_mcd")
    row, column = round(gate.center[0]), round(gate.center[1] - gate.reach_px)
    sharp = with_scribbles(np.zeros((len(image.materials), *truth.shape), np.float32), truth)
    wall = slice(row - 12, row + 12), slice(column - 12, column + 12)
    believed = sharp.copy()
    for label, belief in enumerate(sharp):
        believed[label][wall] = ndi.gaussian_filter(belief, 3)[wall]
    believed[:, :40, :40] = 0
    believed[[image.materials.index(name) for name in ("Oxide", "Nitride")], :40, :40] = 0.5

    by_name = [next(rank(believed, gauge, None)) for rank in (by_cds, by_entropy)]

    assert [meets(window, wall) for window in by_name] == [True, False]


def test_effort_tells_medians_and_how_many_got_there():
    """Two of three images: the median is that of the slower one."""
    effort = Effort("cd", (2.0, 4.0, math.inf), (10.0, 30.0, math.inf))
    assert effort.told() == "| cd | 4 | 30 | 2 of 3 |"


def test_rankings_are_compared_image_by_image():
    """A ranking that never got there asked for more than any number; twice never is a tie."""
    cd = Effort("cd", (4, 3, math.inf, math.inf), (30, 20, math.inf, math.inf))
    entropy = Effort("entropy", (9, 2, 12, math.inf), (90, 10, 80, math.inf))

    assert cd.beside(entropy) == ("cd against entropy: fewer strokes on 1 of 4 images, more on 2")


def test_comparison_counts_an_image_that_never_gets_right_as_infinite(image):
    """Its strokes would else look few."""
    rankings = {"everywhere": everywhere, "nowhere": nowhere}
    right, wrong = compare_rankings([image], 1, rankings)
    assert (right.ranking, right.turns) == ("everywhere", (1,))
    assert math.isfinite(right.strokes[0])
    assert (wrong.ranking, wrong.turns, wrong.strokes) == ("nowhere", (math.inf,), (math.inf,))
