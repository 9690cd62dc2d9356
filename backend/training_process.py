"""Trains the shared model in a process of its own, while annotators go on working.

The process tells how far it is in a file, which anyone may read at `/training`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from backend.files import write_atomically

logger = logging.getLogger(__name__)

STATUS_NAME = "training.json"
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

    def __init__(self, folder: Path, command: Sequence[str] | None = None) -> None:
        """Take the folder for status and log, and what to run before the project's number."""
        self._path = folder / STATUS_NAME
        self._log_path = folder / "training.log"
        self._command = command or (sys.executable, "-m", "backend.cycle")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> TrainingStatus:
        """How far the training is that runs, or what became of the last one."""
        status = TrainingStatus.read(self._path)
        if status.state not in ENDED and not self._runs:
            return replace(status, state="failed", sentence=f"it was stopped: {self._advice}")
        return status

    def start(self, project: int, when_published: Callable[[], None]) -> bool:
        """Start a training on the ground truth of a project, unless one runs already.

        Args:
            project: Number in Label Studio.
            when_published: Called on a thread of its own if the training ends with a publication.
        """
        with self._lock:
            if self._runs:
                return False
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            TrainingStatus("exporting", project, started).write(self._path)
            with self._log_path.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own module and a number
                    [*self._command, str(project)], stdout=log, stderr=subprocess.STDOUT
                )
            watcher = threading.Thread(
                target=self._watch, args=(self._process, when_published), daemon=True
            )
            watcher.start()
        return True

    def close(self) -> None:
        """Stop the training that runs; the next one goes on where it was."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()

    @property
    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _advice(self) -> str:
        return f"start it again, it goes on where it was; {self._log_path} tells more"

    def _watch(self, process: subprocess.Popen[bytes], when_published: Callable[[], None]) -> None:
        code = process.wait()
        status = TrainingStatus.read(self._path)
        if status.state not in ENDED:
            ended = f"the training ended with code {code}: {self._advice}"
            status = replace(status, state="failed", sentence=ended)
            status.write(self._path)
        logger.info("training of project %s: %s: %s", status.project, status.state, status.sentence)
        if status.state == "published":
            when_published()
