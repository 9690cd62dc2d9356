"""Jobs through a real Redis: handed over, done by whoever has their subject, lost by nobody."""

import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from redis_server import running_redis

from backend.errors import InvalidTaskError, QueueError, QueueFullError
from backend.work.handover import Job
from backend.work.jobs import Waiting
from backend.work.redis_jobs import RedisJobs, lease_name
from backend.work.worker import MAX_ATTEMPTS, WorkerJobs

LEASE_S = 2


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """One Redis for all tests."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def jobs(redis):
    """The web side, on an empty Redis."""
    jobs = RedisJobs(redis.url)
    jobs.connection.flushall()
    yield jobs
    jobs.close()


@pytest.fixture
def worker(redis):
    """Make a worker that does its jobs when it is told to."""
    made = []

    def make(**works):
        made.append(WorkerJobs(redis.url, LEASE_S))
        for name, work in works.items():
            made[-1].serve(name, work)
        return made[-1]

    yield make
    for one in made:
        one.close()


def job(name="note", key="ask 7", subject="task 7", **changes):
    """Make a job."""
    return Job(name, key, subject, **{"arguments": {"text": "a"}, **changes})


def work_off(worker, lane="asked"):
    """Do what RQ's worker would: one job after the other, until none is queued."""
    queue = worker.queues[lane]
    while (name := queue.connection.lpop(queue.key)) is not None:
        handed_over = queue.fetch_job(name.decode())
        worker.do(*handed_over.args, lambda: None)


def test_job_is_done_elsewhere(jobs, worker):
    """By name, with its arguments; who waits is told when it is done."""
    done = []
    pending = jobs.submit(job(arguments={"text": "é", "numbers": [1, 2]}))
    work_off(worker(note=lambda **arguments: done.append(arguments)))
    assert pending.result(5) is None
    assert done == [{"text": "é", "numbers": [1, 2]}]
    assert (jobs.waiting.asked, jobs.requests()) == (0, [])


def test_error_reaches_who_asked(jobs, worker):
    """As the kind it was, with its sentence."""

    def refuse(text):
        raise InvalidTaskError(f"task 7: {text}")

    pending = jobs.submit(job())
    work_off(worker(note=refuse))
    with pytest.raises(InvalidTaskError, match="task 7: a"):
        pending.result(5)


def test_unknown_error_is_told_too(jobs, worker):
    """A bug is no silence."""
    pending = jobs.submit(job())
    work_off(worker(note=lambda text: {}[text]))
    with pytest.raises(RuntimeError, match="KeyError"):
        pending.result(5)


def test_asker_waits_only_so_long(jobs):
    """Over the queue as well."""
    pending = jobs.submit(job())
    with pytest.raises(FutureTimeoutError):
        pending.result(0.1)


def test_newer_request_takes_the_place_of_the_older(jobs, worker):
    """The older one is told so, and is not done."""
    done = []
    old = jobs.submit(job(arguments={"text": "old"}))
    jobs.submit(job(key="ask 8", subject="task 8", arguments={"text": "other"}))
    new = jobs.submit(job(arguments={"text": "new"}))
    with pytest.raises(CancelledError):
        old.result(5)
    work_off(worker(note=lambda text: done.append(text)))
    new.result(5)
    assert done == ["new", "other"]


def test_request_that_comes_during_the_run_is_done_too(jobs, worker):
    """It may have newer strokes."""
    done = []

    def note(text):
        done.append(text)
        if text == "first":
            jobs.submit(job(arguments={"text": "second"}))

    first = jobs.submit(job(arguments={"text": "first"}))
    work_off(worker(note=note))
    first.result(5)
    assert done == ["first", "second"]


def test_job_is_left_to_the_worker_that_has_its_subject(jobs, worker):
    """It need not read the guide from disk, and no other worker waits for it."""
    done, busy, release = [], threading.Event(), threading.Event()
    here, there = worker(), worker()

    def hold(text):
        busy.set()
        assert release.wait(10)
        done.append(("there", text, there.is_wanted("task 7")))

    there.serve("hold", hold)
    there.serve("note", lambda text: done.append(("there", text)))
    here.serve("note", lambda text: done.append(("here", text)))
    jobs.submit(job("hold", "train 7", lane="idle"))
    holding = threading.Thread(target=work_off, args=(there, "idle"))
    holding.start()
    assert busy.wait(10)
    pending = jobs.submit(job())
    work_off(here)
    assert done == []
    release.set()
    pending.result(5)
    holding.join()
    assert done == [("there", "a", True), ("there", "a")]
    assert not jobs.connection.exists(lease_name("task 7"))


def test_lease_outlasts_its_time_while_the_worker_lives(jobs, worker):
    """A training takes longer than a lease."""
    pending, slow = jobs.submit(job()), worker(note=lambda text: time.sleep(2.5 * LEASE_S))  # noqa: ARG005
    working = threading.Thread(target=work_off, args=(slow,))
    working.start()
    time.sleep(2 * LEASE_S)
    assert jobs.connection.exists(lease_name("task 7"))
    assert jobs.running == ("ask 7",)
    watching = worker()
    for _ in range(2):
        watching.queue_lost_requests()
    assert jobs.waiting.asked == 0
    working.join()
    pending.result(5)
    assert jobs.running == ()


def take_and_die(jobs, subject="task 7"):
    """Do what a worker does that is killed: take job and lease, and never be heard of again."""
    jobs.queues["asked"].pop_job_id()
    jobs.connection.set(lease_name(subject), "dead")


def test_job_of_a_dead_worker_is_done_by_another(jobs, worker):
    """Once its lease has ended."""
    done, other = [], worker(note=lambda text: done.append(text))
    pending = jobs.submit(job())
    take_and_die(jobs)
    other.queue_lost_requests()
    work_off(other)
    assert done == []
    jobs.connection.delete(lease_name("task 7"))  # it has ended
    for _ in range(3):  # at the second look it is queued, and then no more
        other.queue_lost_requests()
    assert jobs.waiting.asked == 1
    work_off(other)
    pending.result(5)
    assert done == ["a"]


def test_job_left_to_a_worker_that_died_is_done_by_another(jobs, worker):
    """It was in no queue."""
    done, other = [], worker(note=lambda text: done.append(text))
    jobs.connection.set(lease_name("task 7"), "dead")
    pending = jobs.submit(job())
    work_off(other)
    jobs.connection.delete(lease_name("task 7"))  # it has ended
    for _ in range(2):
        other.queue_lost_requests()
    work_off(other)
    pending.result(5)
    assert done == ["a"]


def test_job_that_kills_its_workers_is_given_up(jobs, worker):
    """Else it would kill all of them, one after the other."""
    done, other = [], worker(note=lambda text: done.append(text))
    pending = jobs.submit(job())
    for (request,) in [jobs.requests()] * MAX_ATTEMPTS:
        other.count_attempt(request)
    work_off(other)
    with pytest.raises(QueueError, match="given up"):
        pending.result(5)
    assert (done, jobs.requests()) == ([], [])


def test_what_is_asked_for_is_done_before_what_is_not(jobs, worker):
    """Of what was left to one worker."""
    done, other = [], worker(note=lambda text: done.append(text))
    jobs.connection.set(lease_name("task 7"), "busy")
    for key, lane in (("train 7", "idle"), ("CDs 7", "idle"), ("ask 7", "asked")):
        jobs.submit(job(key=key, lane=lane, arguments={"text": key}))
    for lane in ("idle", "asked"):
        work_off(other, lane)
    jobs.connection.delete(lease_name("task 7"))
    jobs.submit(job(key="open 7", arguments={"text": "open 7"}))
    work_off(other)
    assert set(done[:2]) == {"ask 7", "open 7"}
    assert set(done[2:]) == {"train 7", "CDs 7"}


def test_longest_wait_is_told(jobs):
    """Of what somebody waits for, in seconds of the hosts' clocks."""
    jobs.submit(job("idle", "idle 1", "task 1", lane="idle"))
    assert jobs.waiting.oldest_s == 0
    jobs.submit(job())
    time.sleep(0.2)
    jobs.submit(job(key="ask 8", subject="task 8"))
    assert 0.2 <= jobs.waiting.oldest_s < 20


def test_newest_request_is_known_elsewhere(jobs, worker):
    """A submission that a worker learns knows of an ask that came after it."""
    first, other = jobs.enter("task 7"), jobs.enter("task 8")
    second = jobs.enter("task 7")
    there = worker()
    told = [there.is_newest("task 7", first), there.is_newest("task 7", second)]
    assert (told, there.is_newest("task 8", other)) == ([False, True], True)


def test_redis_that_is_gone_is_told_in_a_sentence(tmp_path):
    """To who waits; what is the newest request is still known here."""
    with running_redis(tmp_path) as redis:
        jobs = RedisJobs(redis.url)
        redis.stop()
        with pytest.raises(QueueError, match="your strokes are kept"):
            jobs.submit(job())
        assert jobs.is_newest("task 7", jobs.enter("task 7"))
        assert (jobs.waiting, jobs.running) == (Waiting(0, 0), ())
        assert jobs.is_elsewhere("task 7") is None
        jobs.close()


def test_job_that_nobody_waits_for_is_kept_until_redis_is_back(tmp_path, caplog):
    """The newest of its key."""
    done = []
    with running_redis(tmp_path) as redis:
        jobs, there = RedisJobs(redis.url), WorkerJobs(redis.url, LEASE_S)
        there.serve("note", lambda text: done.append(text))
        redis.stop()
        for text in ("old", "new"):
            kept = job(failure="task 7 was not learned", arguments={"text": text})
            pending = jobs.submit(kept)
        assert jobs.waiting.idle == 1
        with pytest.raises(QueueError):
            pending.result(1)
        redis.start()
        deadline = time.monotonic() + 20
        while not done and time.monotonic() < deadline:
            work_off(there)
            time.sleep(0.1)
        assert done == ["new"]
        assert pending.result(5) is None
        assert "Redis is gone" in caplog.text
        jobs.close()
        there.close()


def test_only_so_much_is_kept_until_redis_is_back(tmp_path, monkeypatch):
    """A night without Redis does not fill the memory of the web side."""
    monkeypatch.setattr("backend.work.outbox.MAX_WAITING", 1)
    with running_redis(tmp_path) as redis:
        jobs = RedisJobs(redis.url)
        redis.stop()
        for text in ("old", "new"):
            jobs.submit(job(failure="not learned", arguments={"text": text}))
        with pytest.raises(QueueFullError, match="start Redis"):
            jobs.submit(job(key="ask 8", failure="not learned"))
        assert jobs.waiting.idle == 1
        jobs.close()


def test_job_that_redis_has_lost_is_told(jobs):
    """Nobody waits for nothing."""
    pending = jobs.submit(job())
    jobs.connection.flushall()
    with pytest.raises(QueueError, match="lost"):
        pending.result(5)


def test_queue_that_is_full_takes_no_more(jobs, monkeypatch):
    """As in one process."""
    monkeypatch.setattr("backend.work.redis_jobs.MAX_WAITING", 1)
    jobs.submit(job())
    with pytest.raises(RuntimeError, match="wait"):
        jobs.submit(job(key="ask 8"))


def test_job_is_done_under_the_lease_of_its_own_subject(jobs, worker):
    """Its key may have been left under another: of images that open, only the newest counts."""
    done, other = [], worker()

    def note(text):
        leases = jobs.connection.keys(lease_name("*"))
        done.append((text, [name.decode() for name in leases]))

    other.serve("note", note)
    jobs.connection.set(lease_name("task 8"), "busy")
    jobs.submit(job(key="open", subject="task 8", lane="idle", arguments={"text": "open 8"}))
    work_off(other, "idle")
    jobs.submit(job(key="open", subject="task 9", lane="idle", arguments={"text": "open 9"}))
    jobs.connection.delete(lease_name("task 8"))
    jobs.submit(job(key="ask 8", subject="task 8", arguments={"text": "ask 8"}))
    for lane in ("asked", "idle"):
        work_off(other, lane)

    assert done == [("ask 8", [lease_name("task 8")]), ("open 9", [lease_name("task 9")])]
    assert jobs.requests() == []


@pytest.mark.parametrize(
    "record",
    [
        b"\xff", b"[]", b"{}", b'{"job": {}}', b"null",
        b'{"job": {"name": "n", "key": "k", "subject": "s", "lane": "none"}, "id": "i", "at": 1}',
        b'{"job": {"name": "n", "key": "k", "subject": "s", "arguments": 3}, "id": "i", "at": 1}',
    ],
)  # fmt: skip
def test_request_that_cannot_be_read_costs_no_other(jobs, worker, record, caplog):
    """It may be of another version; lost jobs are queued again all the same, and it is told."""
    done, other = [], worker(note=lambda text: done.append(text))
    pending = jobs.submit(job())
    take_and_die(jobs)
    jobs.connection.delete(lease_name("task 7"))
    jobs.connection.hset("tem-guide:requests", "old", record)
    for _ in range(2):
        other.queue_lost_requests()
    other.do("old", lambda: None)
    work_off(other)

    pending.result(5)
    assert (done, jobs.connection.hlen("tem-guide:requests")) == (["a"], 0)
    assert "old: what was asked cannot be read" in caplog.text
