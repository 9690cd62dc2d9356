"""One worker: the newest request for a key wins, the order is kept, and nothing stops it."""

import threading
import time
from concurrent.futures import CancelledError
from contextvars import Context, ContextVar

import pytest

from backend.errors import QueueFullError
from backend.work.jobs import MAX_WAITING, LatestOnly, NewestRequests, Waiting


@pytest.fixture
def jobs():
    """A worker whose thread is held at a first job, so that the test itself can run the rest."""
    worker, gate, entered = LatestOnly(), threading.Event(), threading.Event()

    def wait():
        entered.set()
        return gate.wait(10)

    worker.submit("first", wait)
    assert entered.wait(10)
    yield worker
    gate.set()
    worker.close()


@pytest.fixture
def free_jobs():
    """A worker with nothing to do."""
    worker = LatestOnly()
    yield worker
    worker.close()


def run_all(jobs):
    """Run what waits, on the thread of the test."""
    while jobs.run_pending():
        pass


def refuse():
    """Fail, as a job may."""
    raise ValueError("no pixel is labeled")


def test_newest_request_for_a_key_wins(jobs):
    """The older one is cancelled and never run."""
    ran = []
    old = jobs.submit("a", lambda: ran.append("old"))
    new = jobs.submit("a", lambda: ran.append("new"))
    run_all(jobs)
    assert ran == ["new"]
    assert (old.cancelled(), new.done()) == (True, True)


def test_cancelled_asker_is_told_at_once(jobs):
    """It need not wait for its turn."""
    old = jobs.submit("a", int)
    jobs.submit("a", int)
    with pytest.raises(CancelledError):
        old.result(timeout=0)


def test_jobs_run_in_the_order_of_arrival(jobs):
    """First come, first served."""
    ran = []
    for key in "abc":
        jobs.submit(key, lambda key=key: ran.append(key))
    run_all(jobs)
    assert ran == ["a", "b", "c"]


def test_newer_request_takes_the_place_of_the_older(jobs):
    """Asking often neither gains nor loses a place, and leaves other keys alone."""
    ran = []
    for key, name in [("a", "a1"), ("b", "b1"), ("a", "a2")]:
        jobs.submit(key, lambda name=name: ran.append(name))
    run_all(jobs)
    assert ran == ["a2", "b1"]


def test_request_during_the_run_of_its_key_is_run_too(free_jobs):
    """What runs is not interrupted; the newer request follows."""
    gate, entered = threading.Event(), threading.Event()

    def first():
        entered.set()
        gate.wait(10)
        return 1

    running = free_jobs.submit("a", first)
    assert entered.wait(10)
    newer = free_jobs.submit("a", lambda: 2)
    gate.set()
    assert [running.result(10), newer.result(10)] == [1, 2]


def test_nothing_pending_is_told(free_jobs):
    """`run_pending` says whether there was a job."""
    assert free_jobs.run_pending() is False


def test_one_job_a_call(jobs):
    """`run_pending` runs one, then another, then tells that none is left."""
    jobs.submit("a", int)
    jobs.submit("b", int)
    assert [jobs.run_pending() for _ in range(3)] == [True, True, False]


def test_error_reaches_the_asker(jobs):
    """With its sentence."""
    failed = jobs.submit("task 7", refuse)
    run_all(jobs)
    with pytest.raises(ValueError, match="no pixel is labeled"):
        failed.result(timeout=0)


def test_worker_outlives_an_error(free_jobs):
    """The next job runs on the same thread."""
    before = free_jobs.submit("a", threading.get_ident).result(10)
    assert isinstance(free_jobs.submit("a", refuse).exception(10), ValueError)
    assert free_jobs.submit("a", threading.get_ident).result(10) == before


def test_job_cancelled_by_its_asker_is_not_run(jobs):
    """The worker passes over it."""
    ran = []
    jobs.submit("a", lambda: ran.append("a")).cancel()
    run_all(jobs)
    assert ran == []


def test_no_thread_without_a_job():
    """Importing and making must start nothing: servers fork."""
    before = threading.active_count()
    LatestOnly().close()
    assert threading.active_count() == before


def test_jobs_run_one_at_a_time(free_jobs):
    """On one thread, which is not the asker's."""
    threads = {free_jobs.submit(key, threading.get_ident).result(10) for key in range(5)}
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})


def test_close_cancels_what_waits(jobs):
    """Nobody waits for ever for a server that stops."""
    waiting = jobs.submit("a", int)
    jobs.close(timeout_s=0)
    assert waiting.cancelled()


def test_close_lets_the_running_job_finish(free_jobs):
    """Weights are not lost in the middle of being saved."""
    entered, ended = threading.Event(), []

    def work():
        entered.set()
        threading.Event().wait(0.1)
        ended.append(True)

    free_jobs.submit("a", work)
    assert entered.wait(10)
    free_jobs.close()
    assert ended == [True]


def test_closed_worker_refuses(free_jobs):
    """With a sentence, not with silence."""
    free_jobs.close()
    with pytest.raises(RuntimeError, match="shutting down"):
        free_jobs.submit("a", int)


def test_idle_jobs_let_others_go_first(jobs):
    """Even those that come later; of one key the newest runs."""
    ran = []
    old = jobs.submit("a", lambda: ran.append("old"), when_idle=True)
    jobs.submit("a", lambda: ran.append("idle"), when_idle=True)
    jobs.submit("a", lambda: ran.append("ask"))
    run_all(jobs)
    assert (ran, old.cancelled()) == (["ask", "idle"], True)


def test_closing_cancels_idle_jobs(free_jobs):
    """Nobody waits for them."""
    gate = threading.Event()
    free_jobs.submit("first", lambda: gate.wait(10))
    idle = free_jobs.submit("a", int, when_idle=True)
    threading.Timer(0.1, gate.set).start()
    free_jobs.close()
    assert idle.cancelled()


def test_what_waits_and_what_runs_is_told(jobs):
    """For the status page."""
    jobs.submit(("ask", 7), int)
    jobs.submit(("train", "7-abc"), int, when_idle=True)
    jobs.submit("open", int, when_idle=True)
    assert (jobs.waiting, jobs.running) == (Waiting(asked=1, idle=2), ("first",))


def test_nothing_runs_when_all_is_done(free_jobs):
    """A job that failed runs no longer."""
    told = free_jobs.submit(("ask", 7), lambda: free_jobs.running).result(10)
    free_jobs.submit("bad", refuse).exception(10)
    free_jobs.submit("last", int).result(10)
    free_jobs.close()
    assert (told, free_jobs.running, free_jobs.waiting) == (("ask 7",), (), Waiting(0, 0))


@pytest.mark.parametrize("when_idle", [False, True])
def test_endless_requests_do_not_fill_the_memory(jobs, when_idle):
    """A job more than the limit is refused with a sentence; what waits stays, and is renewed."""
    for number in range(MAX_WAITING):
        jobs.submit(number, int, when_idle=when_idle)
    with pytest.raises(QueueFullError, match="10000 jobs wait already"):
        jobs.submit("one more", int, when_idle=when_idle)
    renewed = jobs.submit(3, lambda: "new", when_idle=when_idle)
    run_all(jobs)
    assert renewed.result(timeout=0) == "new"
    jobs.submit("one more", int, when_idle=when_idle)


def test_request_knows_when_it_is_no_longer_the_newest():
    """For its own key."""
    requests = NewestRequests()
    first, other = requests.enter("a"), requests.enter("b")
    assert requests.is_newest("a", first)
    assert requests.is_newest("b", other)
    second = requests.enter("a")
    newest = [requests.is_newest("a", number) for number in (first, second)]
    assert (newest, requests.is_newest("b", other)) == ([False, True], True)


def test_numbers_of_requests_do_not_fill_the_memory():
    """Of as many tasks as may wait; of one asked for long ago no request waits."""
    requests = NewestRequests()
    first, *_, last = (requests.enter(f"task {n}") for n in range(MAX_WAITING + 5))
    kept = [requests.is_newest("task 0", first), requests.is_newest(f"task {last}", last - 1)]
    assert (kept, len(requests._newest)) == ([True, False], MAX_WAITING)


def test_longest_wait_is_told(jobs):
    """Of the jobs that somebody waits for; one for idle moments may wait for hours."""
    jobs.submit("idle", int, when_idle=True)
    assert jobs.waiting.oldest_s == 0
    jobs.submit("first asked", int)
    time.sleep(0.05)
    jobs.submit("asked later", int)
    assert 0.05 <= jobs.waiting.oldest_s < 5


def test_job_runs_in_the_context_it_was_handed_in(jobs):
    """So its log lines, and those of whoever is told of its end, name the same task."""
    task = ContextVar("task", default=0)
    task.set(7)
    told = []
    done = jobs.submit("a", task.get)
    done.add_done_callback(lambda _: told.append(task.get()))
    task.set(8)
    Context().run(run_all, jobs)
    assert (done.result(), told) == (7, [7])
