"""One training worker a process; of several requests for one image only the newest counts."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from backend.errors import QueueFullError

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Jobs that wait, and as many for idle moments; each takes less than a kilobyte."""


@dataclass(frozen=True)
class _Job:
    key: Hashable
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)  # its log lines name task and project
    since_s: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Do the work, and hand over what it returned or raised."""
        try:
            self.future.set_result(self.work())
        except Exception as error:  # noqa: BLE001 - the worker must outlive any job; the asker gets it
            self.future.set_exception(error)


@dataclass(frozen=True)
class Waiting:
    """How many jobs wait."""

    asked: int  # somebody waits for their answer
    idle: int  # they run when no other waits
    oldest_s: float = field(default=0.0, compare=False)  # the longest wait of those asked for


class NewestRequests:
    """Tells a request that has waited whether another for the same thing came in meanwhile.

    Of `MAX_WAITING` things: more do not wait, and of one asked for before no request waits.
    """

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        """Take what numbers requests, each higher than the one before."""
        self._lock = threading.Lock()
        self._numbers = numbers or itertools.count()
        self._newest: OrderedDict[Hashable, int] = OrderedDict()

    def enter(self, key: Hashable) -> int:
        """Take note of a request for `key`; the number returned tells it from later ones."""
        with self._lock:
            number = self._newest[key] = next(self._numbers)
            self._newest.move_to_end(key)
            if len(self._newest) > MAX_WAITING:
                self._newest.popitem(last=False)
        return number

    def is_newest(self, key: Hashable, number: int) -> bool:
        """Whether no other request for `key` came in since."""
        return number >= self._newest.get(key, number)


class LatestOnly:
    """Runs jobs one at a time on a thread of its own, which starts with the first job.

    A job that still waits is cancelled when a newer one with the same key arrives; the newer one
    takes its place in the queue, so that asking often gains nobody an advantage. Jobs for idle
    moments run when no other job waits.
    """

    def __init__(self, name: str = "training") -> None:
        """Start nothing yet.

        Args:
            name: Of the thread.
        """
        self._name = name
        self._waiting: OrderedDict[Hashable, _Job] = OrderedDict()
        self._for_idle_moments: OrderedDict[Hashable, _Job] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._running: _Job | None = None
        self._closed = False

    def submit(
        self, key: Hashable, work: Callable[[], Any], *, when_idle: bool = False
    ) -> Future[Any]:
        """Queue `work`; a waiting job of the same key is cancelled.

        Args:
            key: What the job is for.
            work: Called on the worker's thread.
            when_idle: Let all other jobs go first.

        Returns:
            What `work` will return or raise; cancelled if a newer job took its place.

        Raises:
            QueueFullError: `MAX_WAITING` jobs wait, none of them with this key.
        """
        job = _Job(key, work)
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed: the server is shutting down")
            queue = self._for_idle_moments if when_idle else self._waiting
            replaced = queue.get(key)
            if replaced is None and len(queue) >= MAX_WAITING:
                raise QueueFullError(f"{MAX_WAITING} jobs wait already: try again later")
            queue[key] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        if replaced is not None:
            replaced.future.cancel()
        return job.future

    @property
    def somebody_waits(self) -> bool:
        """Whether there is work that is not for idle moments."""
        return bool(self._waiting)

    @property
    def waiting(self) -> Waiting:
        """How many jobs wait."""
        with self._changed:
            since_s = [job.since_s for job in self._waiting.values()]
            idle = len(self._for_idle_moments)
        oldest_s = time.monotonic() - min(since_s) if since_s else 0.0
        return Waiting(len(since_s), idle, oldest_s)

    @property
    def running(self) -> tuple[str, ...]:
        """What the job that runs is for, such as "ask 7"; empty when none runs."""
        job = self._running
        return () if job is None else (_name_of(job.key),)

    def close(self, timeout_s: float = 10) -> None:
        """Cancel what waits, and let the job that runs finish, within `timeout_s`."""
        with self._changed:
            self._closed = True
            for queue in (self._waiting, self._for_idle_moments):
                for job in queue.values():
                    job.future.cancel()
                queue.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def run_pending(self) -> bool:
        """Run the job that has waited longest; tell whether there was one."""
        with self._changed:
            queue = self._waiting or self._for_idle_moments
            if not queue:
                return False
            _, job = queue.popitem(last=False)
        if not job.future.set_running_or_notify_cancel():
            return True
        self._running = job
        job.context.run(job.run)
        self._running = None
        return True

    def _run(self) -> None:
        while not self._closed:
            if not self.run_pending():
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._waiting or self._for_idle_moments or self._closed
                    )


def attempt(work: Callable[[], Any]) -> Future[Any]:
    """Do work at once; its error is in the future."""
    job = _Job("", work)
    job.run()
    return job.future


def log_failure(sentence: str, work: Future[Any]) -> None:
    """Say why work failed that nobody waits for."""
    error = None if work.cancelled() else work.exception()
    if error is not None:
        logger.error("%s: %s: %s", sentence, type(error).__name__, error)


def _name_of(key: Hashable) -> str:
    """Write a key for people.

    Example:
        >>> _name_of(("ask", 7))
        'ask 7'
    """
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
