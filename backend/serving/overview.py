"""What is going on in this process now, in numbers, and how far the projects are."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from backend.annotation.client import LabelStudioClient
from backend.annotation.progress import ProjectProgress, read_progress
from backend.errors import LabelStudioError
from backend.work.jobs import Waiting
from backend.work.training_process import TrainingStatus

logger = logging.getLogger(__name__)

SIZE_AGE_S = 60.0
PROGRESS_AGE_S = 300.0
PROGRESS_SHARE = 0.05
"""Of the time that Label Studio may at most be busy with telling how far its projects are."""


@dataclass(frozen=True)
class Overview:
    """What a backend does at a moment."""

    waiting: Waiting
    running: tuple[str, ...]
    """What the jobs that run are for."""
    workers: int
    """How many processes do jobs; 0 if there is none, or Redis is gone."""
    training: TrainingStatus
    open_guides: int
    published: int
    """Version of the shared model that serves; 0 before the first."""


class StateFolder:
    """Measures a folder."""

    def __init__(self, folder: Path) -> None:
        """Measure nothing yet."""
        self._folder = folder
        self._measured_s = -SIZE_AGE_S
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Size of all files, up to a minute old: there may be many."""
        if time.monotonic() - self._measured_s >= SIZE_AGE_S:
            self._bytes = _size_of(self._folder)
            self._measured_s = time.monotonic()
        return self._bytes

    @property
    def free_bytes(self) -> int:
        """What may still be written."""
        return shutil.disk_usage(self._folder).free


@dataclass(frozen=True)
class Progress:
    """How far all projects are, at the time when it was read."""

    projects: tuple[ProjectProgress, ...] = ()
    read_at: datetime | None = None
    """UTC; None as long as it was never read."""
    failure: str = ""
    """Why it could not be read again, in words."""


class ProjectsProgress:
    """Reads in the background how far the projects are, and only while somebody wants to know."""

    def __init__(
        self,
        client: LabelStudioClient,
        read: Callable[[LabelStudioClient], list[ProjectProgress]] = read_progress,
        shortest_pause_s: float = PROGRESS_AGE_S,
    ) -> None:
        """Take the Label Studio; nothing is read yet."""
        self._client = client
        self._read = read
        self._shortest_pause_s = shortest_pause_s
        self._lock = threading.Lock()
        self._latest = Progress()
        self._next_s = 0.0
        self._thread: threading.Thread | None = None

    @property
    def known(self) -> Progress:
        """What was read last."""
        return self._latest

    def latest(self) -> Progress:
        """Return at once what was read last; if that is old, it is read again meanwhile."""
        with self._lock:
            reading = self._thread is not None and self._thread.is_alive()
            if not reading and time.monotonic() >= self._next_s:
                self._thread = threading.Thread(target=self._renew, name="progress", daemon=True)
                self._thread.start()
            return self._latest

    def wait(self, timeout_s: float) -> None:
        """Wait until it was read, if it is being read now."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _renew(self) -> None:
        start = time.monotonic()
        try:
            projects = tuple(self._read(self._client))
            self._latest = Progress(projects, datetime.now(timezone.utc))
        except LabelStudioError as error:
            logger.warning("the progress of projects is not known: %s", error)
            latest = self._latest
            self._latest = Progress(latest.projects, latest.read_at, str(error))
        took_s = time.monotonic() - start
        self._next_s = time.monotonic() + max(self._shortest_pause_s, took_s / PROGRESS_SHARE)


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # a file written aside is gone by now
            size += path.lstat().st_size if path.is_file() else 0
    return size
