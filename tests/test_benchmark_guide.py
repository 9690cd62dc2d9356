"""The benchmark: that it measures all it promises; the times depend on the machine."""

from __future__ import annotations

import math

import pytest
from measured import read_table

from scripts.benchmark_guide import RATIO, STAGES, main, make_case, share_of_stages

SMALL = ["--sizes", "64", "--repeat", "1", "--memory-size", "64"]


def test_stages_make_up_the_whole_time():
    """Each stage is seen: a function that was renamed would be missing."""
    shares = share_of_stages(make_case(96))

    seen = {name.split(": ")[1] for name in shares}
    assert seen == {*STAGES.values(), "the rest"}
    for part in ("first answer", "later answer", "network joins"):
        percents = [percent for name, percent in shares.items() if name.startswith(part)]
        assert math.isclose(sum(percents), 100)
        assert min(percents) > 0


def test_all_is_measured(capsys):
    """The whole command, on tiny images."""
    assert main(SMALL) == 0

    table = read_table(capsys.readouterr().out)
    for subject in ("preparation", "first update", "training step", "encoding", "first answer"):
        assert table["64 px", f"guide: {subject}"] >= 0
    for subject in ("random forest: turn", RATIO, "encoding of four noisy masks"):
        assert table["64 px", subject] > 0
    assert table["64 px", "peak memory of an open task"] > 0.1


def test_image_too_small_ends_in_a_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["--sizes", "8"]) == 2

    assert capsys.readouterr().err.startswith("shape is (8, 8): both sides need at least")


def test_no_runs_are_refused():
    """There is no median of nothing."""
    with pytest.raises(SystemExit):
        main(["--repeat", "0"])
