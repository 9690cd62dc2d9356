"""Measure how many asks a second are answered without workers and with some, on this machine.

    python scripts/benchmark_workers.py --workers 0 1 2 3 --annotators 6 --size 512 --seconds 60

Starts a real backend beside a Label Studio of one task for each annotator. All ask again as soon as
they have their answer, so the backend is never idle; with workers it hands the asks over through a
Redis that is started for it. Each count of workers starts with an empty state folder.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np

from backend.annotation.label_config import write_label_config
from backend.annotation.projects import BackendAddress
from backend.annotation.tasks import Json
from backend.trials.benchmark_cases import Case, brush_results, make_case, prompt_result
from backend.trials.benchmark_table import Row, print_table
from backend.trials.demo_images import as_png
from backend.trials.demo_servers import Keys, backend_server
from backend.trials.processes import ServerError, free_port

START_TIMEOUT_S = 180.0
ASK_TIMEOUT_S = 300.0
READY = " is ready for: "


@dataclass(frozen=True)
class Load:
    """Who asks, and for how long."""

    cases: Sequence[Case]  # one for each annotator
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where one measurement runs."""

    folder: Path
    label_studio: str
    keys: Keys


@contextmanager
def label_studio(cases: Sequence[Case]) -> Iterator[str]:
    """Serve the images of tasks 1, 2, ... on loopback, and take whatever is sent."""
    images = {f"/data/upload/1/{n}.png": as_png(case.image) for n, case in enumerate(cases, 1)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = images.get(self.path, b"{}")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - the names http.server wants

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    class Listener(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Programs that are stopped hang up."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis; yield its address.

    Raises:
        ServerError: None is installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise ServerError("no redis-server: install Debian's package redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, folder / "redis.log", {}):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def running(
    command: Sequence[str], log: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - ours
            command, env={**os.environ, **environ}, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def backend(place: Place, workers: int) -> Iterator[BackendAddress]:
    """Run a backend with so many workers.

    Raises:
        ServerError: Something does not start.
    """
    with ExitStack() as stack:
        extra: dict[str, str] = {"ANSWER_TIMEOUT_S": str(ASK_TIMEOUT_S)}
        if workers:
            extra["REDIS_URL"] = stack.enter_context(redis_server(place.folder))
        server = backend_server(
            place.folder, free_port(), place.keys, place.label_studio, extra, say=lambda _: None
        )
        address = stack.enter_context(server)
        start_workers(place, workers, extra, stack)
        yield address


def start_workers(place: Place, count: int, extra: Mapping[str, str], stack: ExitStack) -> None:
    """Start workers, and wait until all listen.

    Raises:
        ServerError: One does not.
    """
    environ = {
        "LABEL_STUDIO_URL": place.label_studio,
        "LABEL_STUDIO_API_KEY": place.keys.token,
        "MODEL_DIR": str((place.folder / "backend").resolve()),
        "OMP_NUM_THREADS": "1",
        **extra,
    }
    logs = [place.folder / f"worker-{number}.log" for number in range(count)]
    for log in logs:
        stack.enter_context(running([sys.executable, "-m", "backend.work.worker"], log, environ))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not all(READY in log.read_text(errors="replace") for log in logs):
        if time.monotonic() > deadline:
            raise ServerError(f"the workers do not start: see {logs[0]}")
        time.sleep(0.1)


def ask_until(address: BackendAddress, load: Load, number: int, end_s: float) -> list[float]:
    """Ask for one task until the time is over; return how long each answer took, seconds."""
    case = load.cases[number - 1]
    body = {
        "tasks": [task_body(case, number)],
        "label_config": write_label_config(case.materials),
        "params": {"context": {"result": [prompt_result(case)]}},
    }
    took_s = []
    with httpx.Client(base_url=address.url, timeout=ASK_TIMEOUT_S, trust_env=False) as client:
        client.headers["Authorization"] = address.authorization
        while (start_s := time.monotonic()) < end_s:
            answer = client.post("/predict", json=body).raise_for_status().json()
            if len(answer["results"][0]["result"]) <= 1:
                raise ServerError(f"the backend did not answer: {json.dumps(answer)[:300]}")
            took_s.append(time.monotonic() - start_s)
    return took_s


def task_body(case: Case, number: int) -> Json:
    """Write a task with the strokes of its annotator, as Label Studio sends it."""
    results = [*brush_results(case, turn=1), prompt_result(case)]
    draft = {"id": number, "user": "a@example.com", "updated_at": "2026-11-22T08:40:00Z"}
    return {
        "id": number,
        "project": 1,
        "data": {"image": f"/data/upload/1/{number}.png"},
        "drafts": [{**draft, "annotation": None, "result": results}],
    }


def children_cpu_s() -> float:
    """CPU time that the programs started here have taken so far; a busy machine changes little."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(workers: int, load: Load) -> list[Row]:
    """Measure with so many workers; the first answer of each task is left out: it opens it."""
    keys = Keys("", "", secrets.token_hex(20), secrets.token_urlsafe(24))
    where = "in the backend" if workers == 0 else f"{workers} worker{'s' * (workers > 1)}"
    with (
        tempfile.TemporaryDirectory() as folder,
        label_studio(load.cases) as url,
        backend(Place(Path(folder), url, keys), workers) as address,
        ThreadPoolExecutor(len(load.cases)) as annotators,
    ):
        numbers = range(1, len(load.cases) + 1)
        now_s = time.monotonic()
        list(annotators.map(lambda n: ask_until(address, load, n, now_s + 0.001), numbers))
        start_s, cpu_s = time.monotonic(), children_cpu_s()
        end_s = start_s + load.seconds
        answers = list(annotators.map(lambda n: ask_until(address, load, n, end_s), numbers))
        elapsed_s, cpu_s = time.monotonic() - start_s, children_cpu_s() - cpu_s
    took_s = [seconds for answer in answers for seconds in answer]
    return [
        Row(where, "asks", len(took_s), ""),
        Row(where, "asks a second", len(took_s) / elapsed_s, "/s"),
        Row(where, "CPU time an ask", cpu_s / len(took_s), "s"),
        Row(where, "answer: median", float(np.median(took_s)), "s"),
        Row(where, "answer: p95", float(np.percentile(took_s, 95)), "s"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0 if it worked, 1 if a server failed, 2 after a mistake."""
    parser = argparse.ArgumentParser(description="Measure the backend with and without workers.")
    add = parser.add_argument
    add("--workers", type=int, nargs="+", default=[0, 1, 2, 3], metavar="N", help="counts to try")
    add("--annotators", type=int, default=6, metavar="N", help="who ask at once (6)")
    add("--size", type=int, default=512, metavar="PX", help="side of their images (512)")
    add("--seconds", type=float, default=60, metavar="S", help="how long to ask (60)")
    options = parser.parse_args(arguments)
    if min(options.workers) < 0 or options.annotators < 1 or options.seconds <= 0:
        parser.error("give 0 workers or more, 1 annotator or more, and more than 0 seconds")
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    if busy > cores / 2:
        print(f"the machine is busy otherwise (load {busy:.1f} on {cores} cores): all is slower")
    return print_table(lambda: measure_all(options))


def measure_all(options: argparse.Namespace) -> list[Row]:
    """Measure with each count of workers."""
    cases = [make_case(options.size, seed) for seed in range(1, options.annotators + 1)]
    load = Load(cases, options.seconds)
    return [row for workers in options.workers for row in measure(workers, load)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
