"""Hands jobs over to workers on other hosts, through RQ and Redis.

The newest request of each key stands in a hash until it is done, and RQ's queues hold the ids of
requests and their keys. So a newer request takes the place of an older one in the queue, and one
that was lost with its worker is seen to be neither queued nor worked on, and is queued again.
Arrays do not belong into Redis: a job reads what it needs from the state folder, and puts its
result there.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

from pydantic import TypeAdapter
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job as RQJob
from rq.serializers import JSONSerializer

from backend import errors
from backend.errors import QueueError, QueueFullError
from backend.work.handover import Job, Lane, Work
from backend.work.images_aside import ImagesAside
from backend.work.jobs import MAX_WAITING, NewestRequests, Waiting
from backend.work.outbox import Outbox

logger = logging.getLogger(__name__)

PREFIX = "tem-guide"
LANES: tuple[Lane, ...] = get_args(Lane)
RUN = "backend.work.worker.run"
"""What RQ calls, with the key of a request."""
SLICE_S = 1.0
"""Who waits for an answer looks so often whether its request is still the newest."""
REPLY_S = 300
"""How long a reply is kept for somebody who no longer waits."""
DAY_S = 86_400

ALIVE = f"{PREFIX}:worker:"
"""Begins the names of keys that live as long as their workers."""
_REQUESTS = f"{PREFIX}:requests"
_RUNNING = f"{PREFIX}:running"
_DROP = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
"""
_FINISH = f"""{_DROP}
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
"""
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (*vars(errors).values(), ValueError, OSError, ConnectionError, PermissionError)
    if isinstance(kind, type) and issubclass(kind, Exception)
}


@dataclass(frozen=True)
class Request:
    """A job that was handed over, as it stands in Redis."""

    job: Job
    id: str = field(default_factory=lambda: uuid4().hex)
    at: float = field(default_factory=time.time)  # seconds since 1970, of the host that asked

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Request:
        """Read what `to_json` has written.

        Raises:
            ValueError: It is damaged, or of another version.
        """
        return _READER.validate_json(text)


_READER = TypeAdapter(Request)


class RedisJobs:
    """Hands jobs over through one Redis; `Jobs` for the web side, and for those who do them."""

    def __init__(self, url: str, training_s: float = -1, images: Path | None = None) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: Of the Redis.
            training_s: How long a training may take.
            images: Folder for images that came within tasks; None: they go through Redis.
        """
        self.images = ImagesAside(images)
        self._training_s = training_s
        self._url = url
        # `Any`: redis types every answer as one that might have to be awaited
        self.connection: Any = self.connect()
        self.queues = open_queues(self.connection)
        self.works: dict[str, Work] = {}
        self._newest = NewestRequests(iter(time.time_ns, None))  # as far as this process knows
        self._outbox: Outbox[Request] = Outbox(self._hand_over)

    def connect(self) -> Redis:
        """Make a client with connections of its own; nothing is sent yet."""
        return Redis.from_url(self._url, socket_connect_timeout=2, socket_timeout=10)

    def serve(self, name: str, work: Work) -> None:
        """Do the jobs of this name by `work`, should this process be one that does them."""
        self.works[name] = work

    def submit(self, job: Job) -> RedisPending:
        """Hand a job over.

        While Redis is gone, a job that nobody waits for is kept here until it is back.

        Raises:
            QueueError: Redis is gone, and somebody waits.
            QueueFullError: `MAX_WAITING` jobs wait, or are kept here.
        """
        request = Request(replace(job, arguments=self.images.put(job.arguments)))
        try:
            self._check_length(job.lane)
            self._hand_over([request])
        except QueueError:
            if not job.failure:
                raise
            self._outbox.keep(job.key, request)
        return RedisPending(self, request)

    def is_wanted(self, _subject: str) -> bool:
        """Whether somebody waits for any job, as far as can be told."""
        return self.waiting.asked > 0

    def enter(self, key: str) -> int:
        """Take note of a request, also in Redis, where workers look."""
        number = self._newest.enter(key)
        try:
            self.connection.set(f"{PREFIX}:newest:{key}", number, ex=DAY_S)
        except RedisError as error:
            logger.warning("Redis does not know of the newest request for %s: %s", key, error)
        return number

    def is_newest(self, key: str, number: int) -> bool:
        """Whether no other came in since, through this process or another."""
        try:
            known = self.connection.get(f"{PREFIX}:newest:{key}")
        except RedisError:
            known = None
        return self._newest.is_newest(key, number) and number >= int(known or 0)

    @property
    def waiting(self) -> Waiting:
        """How many jobs wait; none is told of while Redis is gone but those kept here."""
        try:
            asked, *others = (len(self.queues[lane]) for lane in LANES)
            oldest_s = self._oldest_wait_s() if asked else 0.0
        except RedisError:
            return Waiting(0, len(self._outbox))
        return Waiting(asked, sum(others) + len(self._outbox), oldest_s)

    @property
    def running(self) -> tuple[str, ...]:
        """The keys of the jobs that workers do."""
        try:
            found = self.connection.hgetall(_RUNNING)
            return tuple(
                key.decode()
                for subject, key in found.items()
                if self.connection.exists(lease_name(subject.decode()))
            )
        except RedisError:
            return ()

    def is_elsewhere(self, key: str) -> bool | None:
        """Whether a request of this key is not done yet; None: Redis is gone, nobody knows."""
        try:
            return key in self._outbox or bool(self.connection.hexists(_REQUESTS, key))
        except RedisError:
            return None

    @property
    def workers(self) -> int:
        """How many workers live; 0 also while Redis is gone."""
        try:
            return sum(1 for _ in self.connection.scan_iter(f"{ALIVE}*"))
        except RedisError:
            return 0

    def close(self) -> None:
        """Try once more to hand over what is kept here, and hang up."""
        self._outbox.close()
        self.connection.close()

    def request(self, key: str) -> tuple[Request, bytes] | None:
        """Return the newest request of a key, and how it is written; None if it is done."""
        text = self.connection.hget(_REQUESTS, key)
        request = None if text is None else self._read(key, text)
        return None if request is None else (request, text)

    def requests(self) -> list[Request]:
        """Return all requests that are not done."""
        found = self.connection.hgetall(_REQUESTS)
        read = [self._read(key.decode(errors="replace"), text) for key, text in found.items()]
        return [request for request in read if request is not None]

    def _read(self, key: str, text: bytes) -> Request | None:
        """Read a request; one that nobody can do is deleted."""
        try:
            return Request.from_json(text)
        except ValueError:  # which quotes it, and addresses in it may hold passwords
            logger.error(  # noqa: TRY400
                "%s: what was asked cannot be read and is dropped, it is damaged or of another "
                "version", key,
            )  # fmt: skip
            self.connection.eval(_DROP, 1, _REQUESTS, key, text)
            return None

    def start(self, request: Request) -> None:
        """Tell that a request is worked on."""
        self.connection.hset(_RUNNING, request.job.subject, request.job.key)

    def finish(self, request: Request, text: bytes, error: BaseException | None) -> None:
        """Tell that a request is done, and what became of it, in one step.

        Args:
            request: Which.
            text: As it was read; a newer one of its key stays.
            error: What it raised, if it failed.
        """
        reply = {"error": type(error).__name__, "sentence": str(error)} if error else {}
        keys = (_REQUESTS, reply_name(request.id))
        arguments = (request.job.key, text, json.dumps(reply), REPLY_S)
        self.connection.hdel(_RUNNING, request.job.subject)
        self.connection.eval(_FINISH, len(keys), *keys, *arguments)

    def queue_again(self, request: Request) -> None:
        """Put a request into RQ's queue."""
        self._enqueue(request, self.connection)

    def _check_length(self, lane: Lane) -> None:
        with telling():
            if len(self.queues[lane]) >= MAX_WAITING:
                raise QueueFullError(f"{MAX_WAITING} jobs wait already: try again later")

    def _oldest_wait_s(self) -> float:
        """How long the first of those asked for has waited; another may have taken it by now."""
        first = self.queues["asked"].get_jobs(0, 1)
        since = first[0].enqueued_at if first else None
        return (datetime.now(timezone.utc) - since).total_seconds() if since else 0.0

    def _hand_over(self, requests: Iterable[Request]) -> None:
        with telling(), self.connection.pipeline() as pipeline:
            pipeline.multi()  # RQ asks for it
            for request in requests:
                pipeline.hset(_REQUESTS, request.job.key, request.to_json())
                self._enqueue(request, pipeline)
            pipeline.execute()

    def _enqueue(self, request: Request, connection: Any) -> None:  # noqa: ANN401 - or a pipeline
        self.queues[request.job.lane].enqueue_call(
            RUN,
            (request.job.key,),
            timeout=math.ceil(self._training_s) if request.job.lane == "training" else -1,
            result_ttl=0,  # replies are ours: RQ's would not know of a newer request
            failure_ttl=DAY_S,
            job_id=request.id,
            description=request.job.key,
            pipeline=connection if connection is not self.connection else None,
        )


class RedisPending:
    """A job that was handed over to a worker."""

    def __init__(self, jobs: RedisJobs, request: Request) -> None:
        """Take what was handed over."""
        self._jobs = jobs
        self._request = request
        self._reply: dict[str, str] | None = None

    def result(self, timeout: float | None = None) -> None:
        """Wait until it is done, for so many seconds; raise what it raised.

        Raises:
            CancelledError: A newer job took its place.
            TimeoutError: It is not done yet.
            QueueError: Redis is gone, or has lost the job.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._reply is None:
            left_s = SLICE_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise FutureTimeoutError
            with telling():
                self._wait(min(SLICE_S, left_s))
        if self._reply:
            kind = _ERRORS.get(self._reply["error"])
            if kind is None:
                raise RuntimeError(": ".join(self._reply.values()))
            raise kind(self._reply["sentence"])

    def _wait(self, seconds: float) -> None:
        """Wait for the reply; see whether it can still come."""
        connection, reply = self._jobs.connection, reply_name(self._request.id)
        found = connection.blpop([reply], timeout=max(seconds, 0.01))
        text = found[1] if found else None
        if text is None:
            newest = self._jobs.request(self._request.job.key)
            if newest is not None and newest[0].id == self._request.id:
                return
            text = connection.lpop(reply)  # it came in between
            if text is None and newest is not None:
                raise CancelledError
            if text is None:
                raise QueueError("Redis has lost the job, it was restarted perhaps: ask again")
        self._reply = json.loads(text)


def open_queues(connection: Redis, kind: type[RQJob] = RQJob) -> dict[Lane, Queue]:
    """Open RQ's queues; `kind` is what their jobs are read as."""
    # RQ would pickle, and whoever can write into Redis could run any code by that
    return {
        lane: Queue(
            f"{PREFIX}-{lane}", connection=connection, job_class=kind, serializer=JSONSerializer
        )
        for lane in LANES
    }


@contextmanager
def telling() -> Iterator[None]:
    """Turn any trouble with Redis into a sentence.

    Raises:
        QueueError: Redis is gone, or refuses.
    """
    try:
        yield
    except RedisError as error:
        raise QueueError(
            "Redis, which hands work to the workers, does not answer: your strokes are kept, ask "
            f"again when it is back ({type(error).__name__})"
        ) from error


def lease_name(subject: str) -> str:
    """Key of the lock that a worker holds while it works on a subject."""
    return f"{PREFIX}:lease:{subject}"


def parked_name(subject: str) -> str:
    """Key of the set of keys that the worker which holds the lease is to do next."""
    return f"{PREFIX}:parked:{subject}"


def attempts_name(request_id: str) -> str:
    """Key of the count of workers that began a request and did not end it."""
    return f"{PREFIX}:attempts:{request_id}"


def reply_name(request_id: str) -> str:
    """Key of the list that gets what became of a request."""
    return f"{PREFIX}:reply:{request_id}"
