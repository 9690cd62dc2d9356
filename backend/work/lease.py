"""Keeps other workers off what one works on; ends by itself soon after its worker was killed."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from redis.exceptions import LockError, RedisError
from redis.lock import Lock


class Lease:
    """Keeps other workers off a subject, and is renewed as long as this process lives."""

    def __init__(self, connection: Any, name: str, seconds: int) -> None:  # noqa: ANN401 - see `RedisJobs`
        """Prepare it; nothing is sent yet.

        Args:
            connection: To Redis, with a timeout.
            name: Key of the lease in Redis.
            seconds: How long it lasts unless it is renewed.
        """
        self._seconds = seconds
        self._lock = Lock(connection, name, seconds, thread_local=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._asked_s = 0.0  # when it was asked for, or renewed, with success
        self._is_anothers = False

    @property
    def is_lost(self) -> bool:
        """Whether another worker may have it; by the clock, since Redis may never answer."""
        return self._is_anothers or time.monotonic() - self._asked_s > self._seconds

    def take(self) -> bool:
        """Take it, unless another worker has it."""
        self._asked_s = time.monotonic()
        if not self._lock.acquire(blocking=False):
            return False
        self._thread.start()
        return True

    def give_back(self) -> None:
        """Let others have it."""
        self._ended.set()
        self._thread.join()
        with suppress(LockError, RedisError):  # it was lost, and may be another's by now
            self._lock.release()

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            asked_s = time.monotonic()
            try:
                self._lock.extend(self._seconds, replace_ttl=True)
                self._asked_s = asked_s
            except LockError:
                self._is_anothers = True
            except RedisError:  # it may be back before the lease ends
                continue
