"""What a worker's own process guards: it runs our function only, and has connections of its own."""

import signal
import time
from datetime import datetime, timezone

import pytest
from rq.registry import StartedJobRegistry
from rq.utils import utcformat

from backend.work import worker
from backend.work.handover import Job
from backend.work.lease import Lease
from backend.work.redis_jobs import attempts_name, open_queues
from backend.work.training_process import STATUS_NAME, TrainingStatus

LEASE_S = 1
called = []


def intruder(*_, **__):
    """Stand for any code that somebody who can write into Redis might name."""
    called.append("intruder")


@pytest.fixture
def station(redis, tmp_path, monkeypatch):
    """What a worker process has."""
    settings = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "MODEL_DIR": str(tmp_path / "state"),
        "REDIS_URL": redis.url,
        "WORKER_LEASE_S": str(LEASE_S),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    worker.station.cache_clear()
    yield worker.station()
    worker.station().close()
    worker.station.cache_clear()


def forge(jobs, arguments):
    """Write a job into Redis that names other code wherever RQ would call it."""
    (queue, name) = (jobs.queues["asked"], f"{__name__}.intruder")
    job = queue.enqueue_call(name, arguments)
    fields = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
    forged = dict.fromkeys(fields, name) | {"webhooks": f'[{{"callback": "{name}"}}]'}
    jobs.connection.hset(job.key, mapping=forged)
    return job


@pytest.mark.parametrize("arguments", [("no such key",), ("too", "many")])
def test_worker_runs_nothing_but_our_function(station, arguments):
    """Whether it succeeds or fails, and for a job that another worker left."""
    jobs = station.jobs
    forge(jobs, arguments)
    left = forge(jobs, arguments)
    jobs.queues["asked"].remove(left)
    registry = StartedJobRegistry(queue=jobs.queues["asked"])
    jobs.connection.zadd(registry.key, {f"{left.id}:0": 1})
    started = {"started_at": utcformat(datetime.now(timezone.utc)), "status": "started"}
    jobs.connection.hset(left.key, mapping=started)

    with jobs.connect() as connection:
        worker.open_worker(connection, worker.LANES).work(burst=True, logging_level="WARNING")

    assert called == []
    assert jobs.waiting.asked == 0
    assert jobs.connection.zcard(registry.key) == 0


def test_forged_job_would_be_dangerous(station):
    """To RQ's own kind of job, which the test above is held against."""
    job = forge(station.jobs, ())
    ours, theirs = (
        open_queues(station.jobs.connection, *kind)["asked"].fetch_job(job.id)
        for kind in ([worker.OurJob], [])
    )

    assert (theirs.func, theirs.success_callback, theirs.failure_callback) == (intruder,) * 3
    assert (ours.func, ours.success_callback, ours.failure_callback) == (worker.run, None, None)
    assert ours.stopped_callback is None


def train(station, project=4):
    """Hand a training over, and do it as the worker does; return the status."""
    jobs = station.jobs
    jobs.submit(
        Job("train shared model", "training", "training", {"project_id": project}, "training")
    )
    with jobs.connect() as connection:
        worker.open_worker(connection, worker.TRAINING_LANES).work(
            burst=True, logging_level="WARNING"
        )
    return TrainingStatus.read(station._settings.model_dir / STATUS_NAME)


def test_training_that_takes_too_long_is_told(station):
    """With the setting to raise, and no file that is not written there."""
    station.jobs._training_s = 0.5

    def train_for_long(project_id):
        path = station._settings.model_dir / STATUS_NAME
        TrainingStatus("training", project_id, progress=0.2).write(path)
        time.sleep(20)

    station.jobs.serve("train shared model", train_for_long)
    status = train(station)

    assert (status.state, status.project, status.progress) == ("failed", 4, 0.2)
    assert "raise TRAIN_TIMEOUT_S" in status.sentence
    assert "training.log" not in status.sentence
    assert station.jobs.requests() == []


def test_training_that_is_given_up_is_told(station, monkeypatch):
    """Why, in the status."""
    monkeypatch.setattr(worker, "MAX_ATTEMPTS", 0)
    status = train(station)

    assert (status.state, status.project) == ("failed", 4)
    assert "its worker died" in status.sentence


def test_worker_told_to_end_does_not_count_against_its_job(station):
    """Three deploys in a long training are no reason to give it up; three deaths are."""
    jobs = station.jobs

    def end(project_id):  # as the trainer does at the signal
        assert project_id
        jobs.forgive()  # as a thread of the worker does at the signal
        raise SystemExit

    jobs.serve("train shared model", end)
    jobs.submit(Job("train shared model", "training", "training", {"project_id": 4}))
    (request,) = jobs.requests()
    for _ in range(worker.MAX_ATTEMPTS + 1):
        with pytest.raises(SystemExit):
            jobs.do("training", lambda: None)

    assert jobs.connection.get(attempts_name(request.id)) == b"0"
    assert jobs.requests() == [request]


def test_waiting_long_is_left_to_rq(station):
    """Its patience is not that of the threads that renew leases."""
    jobs = station.jobs
    with jobs.connect() as connection:
        worker.open_worker(connection, worker.LANES)
        patience = connection.connection_pool.connection_kwargs["socket_timeout"]

    assert patience < 2 * worker._SILENCE_S
    assert jobs.connection.connection_pool.connection_kwargs["socket_timeout"] == 10


def test_lease_is_lost_by_the_clock_while_redis_is_silent(station, redis):
    """As when the network is cut: nothing is refused, and nothing comes."""
    lease = Lease(station.jobs.connection, "lease", LEASE_S)
    assert lease.take()
    time.sleep(1.5 * LEASE_S)
    kept = not lease.is_lost
    redis.process.send_signal(signal.SIGSTOP)
    start_s = time.monotonic()
    try:
        while not lease.is_lost and time.monotonic() < start_s + 8:
            time.sleep(0.05)
        lost_after_s = time.monotonic() - start_s
    finally:
        redis.process.send_signal(signal.SIGCONT)
    lease.give_back()

    assert kept
    assert lost_after_s < LEASE_S + 1
