"""Workers as processes of their own, and what their logs tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Span:
    """One job on one worker."""

    worker: int  # its number
    key: str  # such as "ask 7"
    start: datetime
    end: datetime | None  # None: it was killed, or runs

    @property
    def task(self) -> str:
        """Number of the task it worked on."""
        return self.key.rpartition(" ")[2]


@dataclass(frozen=True)
class Worker:
    """A worker process."""

    number: int
    process: subprocess.Popen
    log: Path

    def kill(self) -> None:
        """End it as a host that fails does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def spans(self) -> list[Span]:
        """The jobs it did, in their order."""
        spans: list[Span] = []
        for line in self.lines():
            key, _, what = line["message"].rpartition(": ")
            moment = datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
            if what == "start":
                spans.append(Span(self.number, key, moment, None))
            elif what == "end":
                spans[-1] = Span(self.number, key, spans[-1].start, moment)
        return spans

    def lines(self) -> list[dict]:
        """What it logged."""
        texts = self.log.read_text().splitlines()
        return [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]


@contextmanager
def running_workers(
    count: int, folder: Path, settings: Mapping[str, str], options: Sequence[str] = ()
) -> Iterator[list[Worker]]:
    """Run workers for the length of the block.

    Args:
        count: How many.
        folder: Gets their logs.
        settings: Environment variables.
        options: Of the command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "LOG_FORMAT": "json", "OMP_NUM_THREADS": "1", **settings}
    workers: list[Worker] = []
    for number in range(1, count + 1):
        log = folder / f"worker-{number}.log"
        command = [sys.executable, "-m", "backend.work.worker", *options]
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=environ, stdout=file, stderr=file)  # noqa: S603 - ours
        workers.append(Worker(number, process, log))
    try:
        _wait_until_ready(workers)
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()


def _wait_until_ready(workers: Sequence[Worker], timeout_s: float = 600) -> None:
    """Wait until each listens, or has ended."""
    deadline = time.monotonic() + timeout_s
    while not all(
        worker.process.poll() is not None or " is ready for: " in worker.log.read_text()
        for worker in workers
    ):
        assert time.monotonic() < deadline, "the workers do not start"
        time.sleep(0.1)


def overlaps(spans: Sequence[Span], killed: Mapping[int, datetime]) -> list[tuple[Span, Span]]:
    """Pairs of jobs on the image of one task that ran at the same time on two workers.

    Args:
        spans: Of all workers; columns in Label Studio concern no image.
        killed: When workers were killed, by number: their last job ended then.
    """
    found = []
    ends = {id(span): span.end or killed.get(span.worker, datetime.max) for span in spans}
    on_images = [span for span in spans if not span.key.startswith("columns")]
    ordered = sorted(on_images, key=lambda span: span.start)
    for index, first in enumerate(ordered):
        for second in ordered[index + 1 :]:
            same = first.task == second.task and first.worker != second.worker
            end = ends[id(first)]
            if same and (end is datetime.max or second.start < end):
                found.append((first, second))
    return found
