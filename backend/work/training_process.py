"""Trains the shared model in a process of its own, while annotators go on working.

The process tells how far it is in a file, which anyone may read at `/training`. From before it is
started to its death it holds a lock, so that no other trains on the same state folder, even if its
backend was killed.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Literal

from backend.files import in_words, is_locked, take_lock, write_atomically
from backend.logs import about

logger = logging.getLogger(__name__)

STATUS_NAME = "training.json"
LOCK_NAME = "training.lock"
LOCKED = "--locked"
"""Tells a training that it has inherited the lock."""
STOP_TIMEOUT_S = 20.0
WAITS_FOR_A_WORKER = "it waits for a worker that trains: is scripts/worker --train running?"
State = Literal["never started", "exporting", "training", "published", "not published", "failed"]
ENDED: tuple[State, ...] = ("never started", "published", "not published", "failed")


@dataclass(frozen=True)
class TrainingStatus:
    """How far a training is."""

    state: State = "never started"
    project: int | None = None
    started: str = ""
    """Date and time, ISO 8601."""
    progress: float = 0.0
    """Of the state "training", 0 to 1."""
    sentence: str = ""
    """What became of it, in words."""

    def write(self, path: Path) -> None:
        """Replace the status in a file."""
        write_atomically(path, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> TrainingStatus:
        """Return the status in a file; that of nothing if there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            return cls("failed", sentence=f"{path} cannot be read: {error}")


class TrainingProcess:
    """Starts trainings, one at a time, and watches them."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str] | None = None,
        limit_s: float | None = None,
        elsewhere: Callable[[], bool | None] = lambda: False,
    ) -> None:
        """Prepare to train; nothing is started.

        Args:
            folder: For status and log.
            command: What to run before the project's number and `LOCKED`; None: our own module.
            limit_s: A training that takes longer is stopped, seconds; None: none is.
            elsewhere: Tells whether another host is to train, or does; None: it cannot tell.
        """
        self._elsewhere = elsewhere
        self._limit_s = limit_s
        self._path = folder / STATUS_NAME
        self._lock_path = folder / LOCK_NAME
        self._log_path = folder / "training.log"
        self._command = command or (sys.executable, "-m", "backend.work.cycle")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwritten: TrainingStatus | None = None  # how it ended, on a full disk

    @property
    def status(self) -> TrainingStatus:
        """How far the training is that runs, or what became of the last one."""
        if self._unwritten is not None:
            return self._unwritten
        runs = self._runs or is_locked(self._lock_path)  # asked first: its last words come before
        status = TrainingStatus.read(self._path)
        elsewhere = self._elsewhere()
        if status.state in ENDED and elsewhere:
            return TrainingStatus("exporting", sentence=WAITS_FOR_A_WORKER)
        if status.state not in ENDED and elsewhere is False and not runs:
            return replace(status, state="failed", sentence=f"it was stopped: {self._advice}")
        return status

    def start(self, project: int, when_published: Callable[[], None]) -> bool:
        """Start a training on the ground truth of a project, unless one runs, of any backend.

        Args:
            project: Number in Label Studio.
            when_published: Called on a thread of its own if the training ends with a publication.

        Raises:
            OSError: Nothing can be written; `status` says so.
        """
        with self._lock:
            if self._runs:
                return False
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            status = TrainingStatus("exporting", project, started)
            try:
                lock = take_lock(self._lock_path)
                if lock is None:
                    return False
                with lock:
                    status.write(self._path)
                    self._process = self._begin(project, lock)
            except OSError as error:
                self._unwritten = replace(status, state="failed", sentence=in_words(error))
                raise
            self._unwritten = None
            watcher = threading.Thread(
                target=self._watch, args=(self._process, when_published), daemon=True
            )
            watcher.start()
        return True

    def close(self) -> None:
        """Stop the training that runs; the next one goes on where it was."""
        process = self._process
        if process is not None and process.poll() is None:
            _stop(process)

    def _begin(self, project: int, lock: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a process that holds the lock as well."""
        with self._log_path.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own module and a number
                [*self._command, str(project), LOCKED],
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
            )

    @property
    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _advice(self) -> str:
        return f"start it again, it goes on where it was; {self._log_path} tells more"

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end, or make it; return a sentence about it."""
        try:
            return f"the training ended with code {process.wait(self._limit_s)}: {self._advice}"
        except subprocess.TimeoutExpired:
            _stop(process)
            return (
                f"the training was stopped after {self._limit_s:g} s: raise TRAIN_TIMEOUT_S, or "
                f"lower TRAIN_STEPS, and {self._advice}"
            )

    def _watch(self, process: subprocess.Popen[bytes], when_published: Callable[[], None]) -> None:
        start_s = time.monotonic()
        ended = self._wait(process)
        status = TrainingStatus.read(self._path)
        if status.state not in ENDED:
            status = replace(status, state="failed", sentence=ended)
            try:
                status.write(self._path)
            except OSError as error:
                status = replace(status, sentence=f"{in_words(error)}; {ended}")
                self._unwritten = status
        extra = {"event": "training", "seconds": round(time.monotonic() - start_s, 1)}
        level = logging.ERROR if status.state == "failed" else logging.INFO
        with about(project=status.project):
            sentence = f"training of project {status.project}: {status.state}: {status.sentence}"
            logger.log(level, "%s", sentence, extra=extra)
        if status.state == "published":
            when_published()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and end it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
