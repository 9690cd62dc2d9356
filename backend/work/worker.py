"""Does the jobs that the backend hands over through Redis: `scripts/worker`, on any host.

It needs the settings of the backend, and the same state folder. Guides stay in its memory between
two jobs, so it does not fork as RQ's own worker does. Who works on an image holds a lease on it,
which ends by itself soon after its worker was killed; jobs for an image that another worker holds
are left to that one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.job import Job as RQJob
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.utils import as_text

from backend.annotation.client import LabelStudioClient
from backend.errors import QueueError
from backend.files import in_words
from backend.logs import configure_logging
from backend.settings import Settings, read_settings
from backend.work.handover import Lane
from backend.work.jobs import attempt
from backend.work.learner import Learner
from backend.work.lease import Lease
from backend.work.redis_jobs import (
    ALIVE,
    DAY_S,
    RedisJobs,
    Request,
    attempts_name,
    lease_name,
    open_queues,
    parked_name,
)
from backend.work.resources import open_resources
from backend.work.shared_predictions import SharedPredictions
from backend.work.training_process import STATUS_NAME, TrainingStatus

logger = logging.getLogger("backend.work.worker")  # also when it is run as a program

LANES: tuple[Lane, ...] = ("asked", "errand", "idle")
"""What a worker does, in this order."""
TRAINING_LANES: tuple[Lane, ...] = ("training",)
"""What one that trains does."""
MAX_ATTEMPTS = 3
"""A job whose worker died so often is given up: it may be what kills them."""
_RESTART_S = 1.0
_SILENCE_S = 60
"""RQ looks whether Redis is still there when it has been silent for so long."""
_JOB_FIELDS = {
    "data", "description", "origin", "status", "timeout", "result_ttl", "failure_ttl",
    "created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "worker_name",
}  # fmt: skip
"""All that we or RQ write of a job; others would call code, retry, repeat, or start other jobs."""


class WorkerJobs(RedisJobs):
    """The jobs as a worker sees them: it does them too."""

    def __init__(
        self, url: str, lease_s: int, training_s: float = -1, images: Path | None = None
    ) -> None:
        super().__init__(url, training_s, images)
        self.lease_s = lease_s
        self._lease: Lease | None = None
        self._missing: set[str] = set()  # ids of requests that were missing at the last look
        self._running: Request | None = None
        self.stopping = threading.Event()  # set when the worker is told to end
        self.told_of_failure: dict[str, Callable[..., object]] = {}  # by name of the work

    @property
    def is_stopping(self) -> bool:
        """Whether this worker is to end soon."""
        return self.stopping.is_set()

    def is_wanted(self, subject: str) -> bool:
        """Also when a job for this subject was left to this worker, or when it must stop."""
        try:
            left = self.connection.scard(parked_name(subject))
        except RedisError:
            return True
        return self.is_stopping or self.has_lost_its_lease or bool(left) or super().is_wanted("")

    @property
    def has_lost_its_lease(self) -> bool:
        """Whether another worker may work on the same by now."""
        return self._lease is not None and self._lease.is_lost

    def do(self, key: str, leave: Callable[[], None]) -> None:
        """Do the newest request of a key, or leave it to the worker that has its subject.

        Args:
            key: Of the request.
            leave: Called before others may work on the subject.
        """
        found = self.request(key)
        if found is None:  # done already
            return
        subject = found[0].job.subject
        self.connection.sadd(parked_name(subject), key)
        # who gives a lease back looks again whether something was left meanwhile
        while self.connection.scard(parked_name(subject)):
            self._lease = Lease(self.connection, lease_name(subject), self.lease_s)
            if not self._lease.take():
                return
            try:
                self._do_parked(subject)
                leave()
            finally:
                self._lease.give_back()
                self._lease = None

    def _do_parked(self, subject: str) -> None:
        """Do all that was left for a subject, first what somebody waits for.

        The newest request of a key may be for another subject by now: that one was queued itself.
        """
        while keys := self.connection.smembers(parked_name(subject)):
            found = [(key, self.request(key.decode())) for key in keys]
            waiting = [entry for entry in found if entry[1] and entry[1][0].job.lane == "asked"]
            key, request = (waiting or found)[0]
            self.connection.srem(parked_name(subject), key)
            if request is not None and request[0].job.subject == subject:
                with request[0].job.named_in_log():
                    self._do(*request)

    def _do(self, request: Request, text: bytes) -> None:
        job = request.job
        self._running = request
        if self.count_attempt(request) > MAX_ATTEMPTS:
            error: BaseException | None = QueueError(
                f"{job.key}: given up, its worker died {MAX_ATTEMPTS} times"
            )
        else:
            self.start(request)
            logger.info("%s: start", job.key)
            bring_back = self.images.bring_back
            error = attempt(lambda: self.works[job.name](**bring_back(job.arguments))).exception()
            logger.info("%s: end", job.key)
        if error is not None and job.failure:
            logger.error("%s: %s: %s", job.failure, type(error).__name__, error)
        if error is not None and job.name in self.told_of_failure:
            self.told_of_failure[job.name](error, **job.arguments)
        self._running = None
        self.finish(request, text, error)

    def forgive(self) -> None:
        """Do not count the attempt that runs: its worker is told to end, for no fault of the job.

        What is not done when the process ends is found lost, and another worker goes on with it.
        """
        request = self._running
        if request is not None:
            self.connection.decr(attempts_name(request.id))

    def count_attempt(self, request: Request) -> int:
        """How often a request was begun, this time included."""
        name = attempts_name(request.id)
        count = int(self.connection.incr(name))
        self.connection.expire(name, DAY_S)
        return count

    def queue_lost_requests(self) -> None:
        """Queue again what is neither in a queue nor worked on: its worker was killed.

        What was so at the last look as well: a worker may just have taken it out of the queue.
        """
        requests = self.requests()
        queued = {name for queue in self.queues.values() for name in queue.get_job_ids()}
        lost = {
            request.id: request
            for request in requests
            if request.id not in queued
            and not self.connection.exists(lease_name(request.job.subject))
        }
        for name in self._missing & lost.keys():
            logger.warning("%s: its worker is gone, it is queued again", lost[name].job.key)
            self.queue_again(lost[name])
        self._missing = set(lost)


class OurJob(RQJob):
    """A job that can be nothing but ours, whatever stands in Redis."""

    @property
    def func(self) -> Callable[..., object]:
        """The one function there is."""
        return run

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Read what RQ needs of a job, and nothing that names code to be called besides."""
        known = {key: value for key, value in raw_data.items() if as_text(key) in _JOB_FIELDS}
        super().restore(known)


class Station:
    """What a worker process has."""

    def __init__(self, settings: Settings) -> None:
        """Open the state folder; nothing is asked of Redis yet.

        Raises:
            ValueError: A setting cannot be used.
            OSError: The state folder cannot be written.
        """
        if settings.redis_url is None:
            raise ValueError("REDIS_URL is not set: workers get their jobs through Redis")
        client = LabelStudioClient(
            settings.label_studio_url, settings.label_studio_api_key.get_secret_value()
        )
        self.jobs = WorkerJobs(
            settings.redis_url.get_secret_value(),
            settings.worker_lease_s,
            settings.train_timeout_s,
            settings.images_aside,
        )
        self._settings = settings
        self._resources = open_resources(settings, client, self.jobs)
        self._shared = SharedPredictions(self._resources)
        self._learner = Learner(self._resources, settings)
        self.jobs.serve("train shared model", self._train_shared_model)
        self.jobs.told_of_failure["train shared model"] = self._tell_why_training_ended

    def run(self, key: str) -> None:
        """Do the newest request of a key."""
        self.jobs.do(key, self._leave)

    def close(self) -> None:
        """Put on disk what is in memory."""
        self._learner.close()
        self._resources.store.close()
        self.jobs.close()

    def _leave(self) -> None:
        """Let another worker go on with what was learned, or with what it has learned instead."""
        if self.jobs.has_lost_its_lease:
            self._learner.forget()
        else:
            self._learner.save()

    def _train_shared_model(self, project_id: int) -> None:
        """In this process: one that is killed trains no more, so another can take over."""
        from backend.work import (
            cycle,  # brings Lightning, which workers that teach guides do without
        )

        cycle.main([str(project_id)])
        status = TrainingStatus.read(self._settings.model_dir / STATUS_NAME)
        if status.state == "published":
            self._shared.renew_when_idle(project_id)

    def _tell_why_training_ended(self, error: BaseException, project_id: int) -> None:
        """Put into the status what the training itself could not."""
        path = self._settings.model_dir / STATUS_NAME
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, JobTimeoutException):
            why = (
                f"the training was stopped after {self._settings.train_timeout_s:g} s: raise "
                "TRAIN_TIMEOUT_S, or lower TRAIN_STEPS"
            )
        elif isinstance(error, QueueError):
            why = str(error)
        status = replace(TrainingStatus.read(path), state="failed", project=project_id)
        sentence = f"{why}; start it again, it goes on where it was; the worker's log tells more"
        try:
            replace(status, sentence=sentence).write(path)
        except OSError as full:
            logger.error("%s: %s", in_words(full), sentence)  # noqa: TRY400 - a full disk is no bug


class Worker(SimpleWorker):
    """RQ's worker without a fork, until it is told to stop."""

    max_connection_wait_time = 2.0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """End the job that runs soon, and take no other."""
        station().jobs.stopping.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1)
def station() -> Station:
    """What this process has, made from the environment."""
    return Station(read_settings())


def run(key: str) -> None:
    """Do the newest request of a key; called by RQ."""
    station().run(key)


def main(arguments: Sequence[str]) -> int:
    """Work until stopped; 2 after a mistake in the settings."""
    parser = argparse.ArgumentParser(description="Do the work that the backend hands over.")
    parser.add_argument(
        "--train",
        action="store_true",
        help="train shared models, and nothing else; without, teach guides and predict",
    )
    options = parser.parse_args(arguments)
    try:
        configure_logging(read_settings())
        here = station()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    lanes = TRAINING_LANES if options.train else LANES
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(here.jobs, ended), daemon=True)
    watcher.start()
    threading.Thread(target=_forgive_when_stopped, args=(here.jobs,), daemon=True).start()
    try:
        while not here.jobs.is_stopping:  # RQ's loop ends when Redis goes in the middle of a job
            _work(here.jobs, lanes)
    finally:
        ended.set()
        here.close()
    return 0


def open_worker(connection: Redis, lanes: Sequence[Lane]) -> Worker:
    """Make RQ's worker.

    Args:
        connection: For it alone: RQ raises the timeout, since it waits long for a job.
        lanes: What it does, in their order.
    """
    queues = open_queues(connection, OurJob)
    return Worker(
        [queues[lane] for lane in lanes],
        connection=connection,
        job_class=OurJob,
        serializer=JSONSerializer,
        log_job_description=False,
        worker_ttl=_SILENCE_S,
    )


def _work(jobs: WorkerJobs, lanes: Sequence[Lane]) -> None:
    """Work until stopped, or until Redis is gone."""
    try:
        with jobs.connect() as connection:
            worker = open_worker(connection, lanes)
            logger.info("worker %s is ready for: %s", worker.name, ", ".join(lanes))
            worker.work(logging_level="WARNING")
    except RedisError as error:
        logger.warning("Redis is gone, the worker waits for it: %s", error)
    if not jobs.is_stopping:
        time.sleep(_RESTART_S)


def _forgive_when_stopped(jobs: WorkerJobs) -> None:
    """Wait until the worker is told to end; not in the signal's handler, which must not block."""
    jobs.stopping.wait()
    with suppress(RedisError):
        jobs.forgive()


def _watch(jobs: WorkerJobs, ended: threading.Event) -> None:
    """Tell that this worker lives, and look for lost requests, now and then."""
    name = f"{ALIVE}{uuid4().hex}"
    while True:
        with suppress(RedisError):
            jobs.connection.set(name, "", ex=jobs.lease_s)
            jobs.queue_lost_requests()
        if ended.wait(jobs.lease_s / 3):
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
