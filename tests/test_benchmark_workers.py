"""The benchmark of workers: a real backend, a real Redis and a worker, asked by two."""

import pytest
from measured import read_table
from redis_server import redis_or_skip

from scripts.benchmark_workers import main


def test_asks_are_counted_without_workers_and_with_one(capsys):
    """The whole command, on tiny images."""
    redis_or_skip()
    arguments = ["--workers", "0", "1", "--annotators", "2", "--size", "64", "--seconds", "1"]
    assert main(arguments) == 0

    shown = capsys.readouterr().out
    table = read_table(shown[shown.index("| where") :])
    for where in ("in the backend", "1 worker"):
        assert table[where, "asks"] >= 2
        assert 0 < table[where, "answer: median"] <= table[where, "answer: p95"]
        assert table[where, "CPU time an ask"] > 0


@pytest.mark.parametrize("wrong", [["--workers", "-1"], ["--annotators", "0"], ["--seconds", "0"]])
def test_nothing_to_measure_is_refused(wrong):
    """Nobody would ask, or nobody could answer."""
    with pytest.raises(SystemExit):
        main(wrong)
