"""One training worker a process; of several requests for one image only the newest counts."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class _Job:
    key: Hashable
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class NewestRequests:
    """Tells a request that has waited whether another for the same thing came in meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._newest: dict[Hashable, int] = {}

    def enter(self, key: Hashable) -> Callable[[], bool]:
        """Take note of a request for `key`; the function returned tells if it is the newest."""
        with self._lock:
            number = self._newest[key] = next(self._numbers)
        return lambda: self._newest[key] == number


class LatestOnly:
    """Runs jobs one at a time on a thread of its own, which starts with the first job.

    A job that still waits is cancelled when a newer one with the same key arrives; the newer one
    takes its place in the queue, so that asking often gains nobody an advantage. Jobs for idle
    moments run when no other job waits.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, _Job] = OrderedDict()
        self._for_idle_moments: OrderedDict[Hashable, _Job] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
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
        """
        job = _Job(key, work)
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed: the server is shutting down")
            queue = self._for_idle_moments if when_idle else self._waiting
            replaced = queue.get(key)
            queue[key] = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="training", daemon=True)
                self._thread.start()
            self._changed.notify()
        if replaced is not None:
            replaced.future.cancel()
        return job.future

    @property
    def somebody_waits(self) -> bool:
        """Whether there is work that is not for idle moments."""
        return bool(self._waiting)

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
        try:
            job.future.set_result(job.work())
        except Exception as error:  # noqa: BLE001 - the worker must outlive any job; the asker gets it
            job.future.set_exception(error)
        return True

    def _run(self) -> None:
        while not self._closed:
            if not self.run_pending():
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._waiting or self._for_idle_moments or self._closed
                    )
