"""The benchmark of memory: tasks are asked by turns, and guides that leave are made again."""

import pytest
from measured import read_table

from scripts.benchmark_memory import main

SMALL = ["--tasks", "2", "--size", "64", "--pause", "0"]


@pytest.mark.parametrize(("cache_mb", "let_go", "open_"), [("1000", 0, 3), ("0", 2, 1)])
def test_tasks_are_asked_twice(capsys, monkeypatch, cache_mb, let_go, open_):
    """With room for all, and with room for one: then only the last is still open."""
    monkeypatch.setenv("GUIDE_CACHE_MB", cache_mb)

    assert main(SMALL) == 0

    table = read_table(capsys.readouterr().out)
    where = "2 tasks, 64 px"
    assert table[where, "asking again, let go meanwhile: how many"] == let_go
    assert table[where, "asking again, open: how many"] == open_
    assert table[where, "asking again, open"] > 0
    assert 0.1 < table[where, "memory, at the end"] <= table[where, "memory, at most"]


def test_no_tasks_are_refused():
    """There would be nothing to measure."""
    with pytest.raises(SystemExit):
        main(["--tasks", "0"])


def test_image_too_small_ends_in_a_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["--size", "8"]) == 2

    assert "shape is (8, 8): both sides need at least" in capsys.readouterr().err
