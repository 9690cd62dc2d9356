"""What a load test takes down while it runs, and how it ends up in files."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import httpx

_STARTED = "load_started"  # in the extensions of a request


@dataclass(frozen=True)
class Request:
    """One request of an annotator's editor, or of the probe of `/health`."""

    at_s: float  # since the beginning
    who: str  # "1" to the number of annotators, or "health"
    method: str
    path: str  # ids are written as N
    status: int  # 0: no answer
    seconds: float


@dataclass(frozen=True)
class Answer:
    """One answer of the guide, as an annotator waits for it."""

    at_s: float
    who: str
    task: int
    turn: int
    seconds: float
    late_s: float  # how long after the ask the editor saved its strokes
    strokes: int  # drawn by then
    lost: int  # of them not in the state of the backend, or another there
    put_off: bool  # it says: ask again


@dataclass(frozen=True)
class Sample:
    """What a server takes of the machine, its child processes included."""

    at_s: float
    server: str
    rss_mb: float
    cpu_s: float  # processor time since the server started


@dataclass
class Records:
    """All of a run; filled by many threads, of which each only adds."""

    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    """The tasks that were submitted."""
    errors: list[str] = field(default_factory=list)
    """A sentence each; a person whose editor shows one goes on with the next task."""
    started: float = field(default_factory=time.monotonic)

    @property
    def at_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def take_down(self, http: httpx.Client, who: str) -> None:
        """Take down all requests of a client from now on, until their answers were read."""

        def begin(request: httpx.Request) -> None:
            request.extensions[_STARTED] = time.perf_counter()

        def end(response: httpx.Response) -> None:
            response.read()
            seconds = time.perf_counter() - response.request.extensions[_STARTED]
            path = re.sub(r"\d+", "N", response.request.url.path)
            method, status = response.request.method, response.status_code
            self.requests.append(Request(self.at_s, who, method, path, status, seconds))

        http.event_hooks = {"request": [begin], "response": [end]}

    def write(self, folder: Path) -> None:
        """Write `requests.csv`, `answers.csv`, `samples.csv` and `errors.txt`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(folder / "requests.csv", Request, self.requests)
        _write_csv(folder / "answers.csv", Answer, self.answers)
        _write_csv(folder / "samples.csv", Sample, self.samples)
        (folder / "errors.txt").write_text("".join(f"{error}\n" for error in self.errors))


def _write_csv(
    path: Path,
    kind: type[Request | Answer | Sample],
    rows: Sequence[Request] | Sequence[Answer] | Sequence[Sample],
) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in fields(kind)])
        writer.writeheader()
        writer.writerows(
            {name: round(value, 4) if isinstance(value, float) else value
             for name, value in asdict(row).items()}
            for row in rows
        )  # fmt: skip
