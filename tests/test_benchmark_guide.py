"""The benchmark: that it measures all it promises; the times depend on the machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scripts.benchmark_guide import (
    STAGES,
    Row,
    format_table,
    main,
    make_case,
    paint,
    share_of_stages,
)

SMALL = ["--sizes", "64", "--repeat", "1", "--memory-size", "64"]


def read_table(text):
    """Read the measured values by place and subject."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    return {(line[0], line[1]): float(line[2].split()[0]) for line in lines[2:]}


@pytest.fixture(scope="module")
def case():
    """A small gate with strokes."""
    return make_case(96)


def test_strokes_lie_in_their_materials():
    """An annotator does not paint across borders."""
    truth = np.zeros((40, 300), np.uint8)
    truth[20:] = 1

    scribbles = paint(truth, strokes=1)

    assert set(np.unique(scribbles).tolist()) == {0, 1, 255}
    assert (scribbles[scribbles != 255] == truth[scribbles != 255]).all()


def test_second_turn_has_more_strokes(case):
    """All of the first turn, and some more."""
    first, second = case.scribbles

    assert (second[first != 255] == first[first != 255]).all()
    assert np.count_nonzero(second != 255) > np.count_nonzero(first != 255)


def test_stages_make_up_the_whole_time(case):
    """Each stage is seen: a function that was renamed would be missing."""
    shares = share_of_stages(case)

    assert len(shares) == len(STAGES) + 1
    assert math.isclose(sum(shares.values()), 100)
    assert min(shares.values()) > 0


def test_table_says_which_goal_is_met():
    """A value equal to the goal meets it; a row without a goal says nothing."""
    rows = [Row("a", "b", 3, "s", 3), Row("a", "c", 3.5, "s", 3), Row("a", "d", 1, "s")]

    assert format_table(rows).splitlines()[2:] == [
        "| a     | b    | 3.00 s   | 3 s: met      |",
        "| a     | c    | 3.50 s   | 3 s: missed   |",
        "| a     | d    | 1.00 s   |               |",
    ]


def test_all_is_measured_and_a_backend_really_trains(capsys):
    """The whole command, on tiny images."""
    server = ["--server", "--server-size", "64", "--server-seconds", "1"]

    assert main(SMALL + server) == 0

    table = read_table(capsys.readouterr().out)
    for subject in ("preparation", "first update", "training step", "encoding", "first answer"):
        assert table["64 px", f"guide: {subject}"] >= 0
    assert table["64 px", "random forest: turn"] > 0
    assert table["64 px", "guide's second update : forest's turn"] > 0
    assert table["64 px", "peak memory of an open task"] > 0.1
    for path in ("/health", "/webhook"):
        spread = [table["server, 64 px", f"{path}: {name}"] for name in ("median", "p95", "max")]
        assert 0 < spread[0] <= spread[1] <= spread[2]


def test_image_too_small_ends_in_a_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["--sizes", "8"]) == 2

    assert capsys.readouterr().err.startswith("shape is (8, 8): both sides need at least")


def test_no_runs_are_refused():
    """There is no median of nothing."""
    with pytest.raises(SystemExit):
        main(["--repeat", "0"])
