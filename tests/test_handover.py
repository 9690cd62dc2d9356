"""Jobs in this process: what waits for Label Studio holds up nobody, and each job has a worker."""

import threading
from typing import get_args

import pytest

from backend.work.handover import Job, Lane, LocalJobs
from backend.work.worker import LANES, TRAINING_LANES


@pytest.fixture
def jobs():
    """All jobs of this process."""
    opened = LocalJobs()
    yield opened
    opened.close()


def test_answer_does_not_wait_for_an_errand(jobs):
    """Label Studio may take its time: it is told one thing after the other, beside the answers."""
    entered, gate, told = threading.Event(), threading.Event(), []

    def tell(what):
        entered.set()
        told.append((what, gate.wait(30)))

    jobs.serve("tell", tell)
    jobs.serve("answer", lambda: "answer")
    first, second = (
        jobs.submit(Job("tell", f"columns {n}", f"task {n}", {"what": n}, "errand")) for n in (1, 2)
    )
    assert entered.wait(30)

    assert jobs.submit(Job("answer", "ask 1", "task 1")).result(30) == "answer"
    assert (first.done(), jobs.running, jobs.waiting.idle) == (False, ("columns 1",), 1)
    gate.set()
    second.result(30)
    assert told == [(1, True), (2, True)]


def test_newer_errand_takes_the_place_of_the_older(jobs):
    """Nobody wants to read how far a task was."""
    entered, gate, told = threading.Event(), threading.Event(), []
    jobs.serve("wait", lambda: (entered.set(), gate.wait(30)))
    jobs.serve("tell", lambda what: told.append(what))
    jobs.submit(Job("wait", "columns 1", "task 1", lane="errand"))
    assert entered.wait(30)
    older, newer = (
        jobs.submit(Job("tell", "columns 2", "task 2", {"what": n}, "errand")) for n in (1, 2)
    )
    gate.set()
    newer.result(30)
    assert (older.cancelled(), told) == (True, [2])


def test_every_lane_has_workers():
    """Else a job would wait for ever."""
    assert sorted(LANES + TRAINING_LANES) == sorted(get_args(Lane))
