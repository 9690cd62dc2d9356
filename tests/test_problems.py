"""The last problems: few, counted, and without secrets."""

import logging

import pytest

from backend.errors import RegistryError
from backend.logs import Redactor, about
from backend.problems import KEPT, RecentProblems

logger = logging.getLogger("backend.tests")


@pytest.fixture
def problems():
    """Takes note of what this process logs."""
    problems = RecentProblems(Redactor(["hunter22"]))
    with problems.listening():
        yield problems


def test_problem_is_kept_with_its_task_and_kind(problems):
    """The exception may be an argument, as our code logs it; what is no problem is left out."""
    with about(task=7):
        logger.warning("task %d: drafts cannot be read: %s", 7, ConnectionError("gone"))
        logger.info("all is well")
    (problem,) = problems.latest()
    assert (problem.kind, problem.task, problem.times) == ("ConnectionError", 7, 1)
    assert problem.sentence == "task 7: drafts cannot be read: gone"


def test_raised_exception_is_the_kind(problems):
    """As a server logs what nobody has caught."""
    try:
        int("x")
    except ValueError:
        logger.exception("it failed")
    logger.error("no exception at all")
    assert problems.counts() == {"ValueError": 1, "Error": 1}


def test_repeated_problem_is_counted_and_comes_first(problems):
    """A Label Studio that is down must not push everything else out."""
    for sentence in ("a", "b", "a"):
        logger.warning(sentence)
    assert [(p.sentence, p.times) for p in problems.latest()] == [("a", 2), ("b", 1)]


def test_ring_is_bounded_and_counts_go_on(problems):
    """Memory stays flat however long it runs."""
    for number in range(KEPT + 5):
        logger.warning("%d: %s", number, RegistryError("x" * 10_000))
    kept = problems.latest()
    assert len(kept) == KEPT
    assert max(len(p.sentence) for p in kept) <= 400
    assert problems.counts() == {"RegistryError": KEPT + 5}


def test_secret_is_not_kept(problems):
    """The page is read by more people than the log."""
    logger.warning("refused hunter22 at http://me:pw@ls/?token=1")
    assert problems.latest()[0].sentence == "refused *** at http://***@ls/"


def test_nothing_is_noted_after_the_end():
    """An application that is closed leaves no handler behind."""
    problems, before = RecentProblems(Redactor()), list(logging.getLogger().handlers)
    with problems.listening():
        pass
    logger.warning("too late")
    assert problems.latest() == []
    assert logging.getLogger().handlers == before


def test_line_that_does_not_fit_its_arguments_breaks_nobody(problems, monkeypatch):
    """A library's slip must not cost a request."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    problems.handle(logging.makeLogRecord({"msg": "%d of %d", "args": (1,)}))
    assert problems.latest() == []
