"""Keeps what is to be handed over while Redis is gone, within limits."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from backend.errors import QueueError, QueueFullError
from backend.work.jobs import MAX_WAITING

logger = logging.getLogger(__name__)

RETRY_S = 1.0
"""How often Redis is looked for while it is gone."""

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Keeps requests while Redis is gone, the newest of each key, and hands them over later."""

    def __init__(self, hand_over: Callable[[Iterable[Item]], None]) -> None:
        """Take what hands over; it raises a `QueueError` while Redis is gone."""
        self._hand_over = hand_over
        self._kept: OrderedDict[str, Item] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def keep(self, key: str, request: Item) -> None:
        """Keep a request; a thread tries to hand it over from now on.

        Raises:
            QueueFullError: `MAX_WAITING` are kept, none of them with this key.
        """
        with self._lock:
            if key not in self._kept and len(self._kept) >= MAX_WAITING:
                raise QueueFullError(
                    f"{MAX_WAITING} jobs are kept until Redis is back, and no more: start Redis"
                )
            self._kept[key] = request
            if self._thread is None:
                logger.error("Redis is gone: jobs that nobody waits for are kept until it is back")
                self._thread = threading.Thread(target=self._empty, name="outbox", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Try once more."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _empty(self) -> None:
        """Try until all are handed over."""
        while True:
            is_last_time = self._closed.wait(RETRY_S)
            with self._lock:
                requests = list(self._kept.values())
                try:
                    self._hand_over(requests)
                except QueueError as error:
                    if not is_last_time:
                        continue
                    logger.error("%d jobs are lost: %s", len(requests), error)  # noqa: TRY400 - says all
                else:
                    logger.warning("Redis is back, and has %d jobs that were kept", len(requests))
                self._kept.clear()
                self._thread = None
                return
