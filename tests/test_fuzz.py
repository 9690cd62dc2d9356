"""A short fuzzing of all that reads from outside, and what the long one reports."""

import json
import signal
import time
import warnings
from contextlib import suppress
from random import Random

import pytest
from fuzz_corpus import changed
from fuzz_run import Counted, Report, give_up, run_targets, table
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzz import SHARES, main


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_bad_input_is_read_or_refused_with_a_sentence(name, random):
    """Hypothesis makes every choice, and would show the simplest input that crashes."""
    target = TARGETS[name]
    value = target.make(random)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of what is broken
        with suppress(*target.sentences):
            target.check(value)


@pytest.fixture
def counted(tmp_path):
    """Count inputs of a target that a test makes up."""
    return Counted(tmp_path / "report.json", "made up", 8, iter([10.0, 12.0, 12.0]).__next__)


def report_of(counted, tmp_path):
    """Return what is written of it."""
    counted.finish()
    return Report(**json.loads((tmp_path / "report.json").read_text()))


def test_each_mistake_is_told_once_with_its_first_input(counted, tmp_path):
    """And what is refused is no mistake."""

    def check(value):
        if value == "refused":
            raise ValueError("a sentence")
        if value:
            raise KeyError(value)

    for value in ["", "refused", "first", "second", ""]:
        counted.take(value, check, (ValueError,))
    report = report_of(counted, tmp_path)
    assert (report.inputs, report.accepted, report.refused, len(report.crashes)) == (5, 2, 1, 1)
    ((place, first),) = report.crashes.items()
    assert place.startswith("KeyError at test_fuzz.py:")
    assert "'first'" in first
    assert not report.is_clean
    assert report.end_mb - report.warm_mb == 2.0


def test_slow_input_is_told(counted, tmp_path, monkeypatch):
    """Longer than the bound."""
    monkeypatch.setattr("fuzz_run.SLOW_S", 0.05)
    counted.clock = time.perf_counter
    counted.take(0.06, time.sleep, ())
    counted.take(0.0, time.sleep, ())
    report = report_of(counted, tmp_path)
    assert (report.slow, report.is_clean) == (1, False)
    assert report.slowest_s >= 0.06


def test_input_that_never_ends_is_given_up(counted, tmp_path, monkeypatch):
    """By a signal, which no `except Exception` of the target holds up."""

    def check(_):
        while True:
            with suppress(Exception):
                sum(range(1000))

    monkeypatch.setattr("fuzz_run.HANG_S", 0.2)
    before = signal.signal(signal.SIGPROF, give_up)
    try:
        counted.take("for ever", check, ())
    finally:
        signal.signal(signal.SIGPROF, before)
    assert [place.split()[0] for place in report_of(counted, tmp_path).crashes] == ["HangError"]


def test_process_that_dies_is_told(tmp_path):
    """A library in C may end it."""
    (report,) = run_targets({"no such target": 1}, 0, tmp_path)
    assert report.crashes == {"the process ended with 1": "seed 0"}
    assert "| no such target | 0 |" in table([report])


def test_change_is_the_same_for_the_same_seed():
    """So that a crash can be found again."""
    content = bytes(range(256)) * 4
    first, second = ([changed(content, Random(seed)) for seed in range(50)] for _ in range(2))  # noqa: S311
    assert first == second
    assert len(set(first)) > 45


def test_script_reports_every_target_it_was_asked_for(tmp_path, capsys):
    """The running backend among them, by its own description."""
    asked = ["--inputs", "60", "--targets", "rle", "api", "--out", str(tmp_path), "--seed", "3"]
    assert main(asked) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| rle | 54 |")
    assert lines[3].startswith("| api | 6 |")
    assert lines[4].startswith("| all | 60 | | | 0 | 0 |")


def test_shares_are_of_all_targets():
    """None is forgotten."""
    assert set(SHARES) == {*TARGETS, "api"}
    assert sum(SHARES.values()) == pytest.approx(1)
