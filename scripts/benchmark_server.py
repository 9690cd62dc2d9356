"""Measure how quickly the backend answers while it trains, on this machine.

    python scripts/benchmark_server.py --size 1024 --seconds 20

Starts a real backend beside a Label Studio of one task, submits its strokes again and again, so
that a training always runs, and prints a table with the goals.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import numpy as np
from tqdm import tqdm

from backend.annotation.label_config import write_label_config
from backend.trials.benchmark_cases import Case, brush_results, make_case
from backend.trials.benchmark_table import Row, print_table, timed
from backend.trials.demo_images import as_png
from backend.trials.demo_servers import Keys, backend_server
from backend.trials.processes import ServerError, free_port

LATENCY_GOAL_MS = 50.0
PACE_S = 0.05  # between two requests to the server
TRAINING_TIMEOUT_S = 60.0


class LabelStudioStandIn(BaseHTTPRequestHandler):
    """Answers like a Label Studio of one task whose annotation has strokes."""

    answers: ClassVar[dict[str, bytes]]  # by path
    image_sent: ClassVar[threading.Event]
    trained: ClassVar[threading.Event]
    predictions: ClassVar[list[str]]

    def do_GET(self) -> None:
        """Answer with what was prepared for the path."""
        path = self.path.partition("?")[0]
        self._send(200 if path in self.answers else 404, self.answers.get(path, b"{}"))
        if path.endswith(".png"):
            self.image_sent.set()

    def do_POST(self) -> None:
        """Take a prediction, or a column of the Data Manager."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_prediction = "model_version" in body
        if is_prediction:
            self.predictions.append(body["model_version"])
        self._send(201, json.dumps({**body, "id": len(self.predictions)}).encode())
        if is_prediction:
            self.trained.set()

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def label_studio(case: Case) -> Iterator[tuple[str, type[LabelStudioStandIn]]]:
    """Serve the case as task 7 on loopback; yield the address and what was seen there."""

    class Handler(LabelStudioStandIn):
        answers: ClassVar = prepared_answers(case)
        image_sent: ClassVar = threading.Event()
        trained: ClassVar = threading.Event()
        predictions: ClassVar = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}", Handler
        finally:
            listener.shutdown()
            thread.join()


def prepared_answers(case: Case) -> dict[str, bytes]:
    """Write what Label Studio's API would say of the case, by path."""
    bodies = {
        "/api/tasks/7/": {"id": 7, "project": 1, "data": {"image": "/data/upload/1/a.png"}},
        "/api/projects/1/": {"id": 1, "label_config": write_label_config(case.materials)},
        "/api/annotations/3/": {"id": 3, "task": 7, "result": brush_results(case, turn=1)},
        "/api/predictions/": [],
    }
    texts = {path: json.dumps(body).encode() for path, body in bodies.items()}
    return {**texts, "/data/upload/1/a.png": as_png(case.image)}


def measure_server(size_px: int, seconds: float) -> list[Row]:
    """Measure how quickly a real backend answers while it trains without a pause."""
    keys = Keys("", "", secrets.token_hex(20), secrets.token_urlsafe(24))
    with (
        tempfile.TemporaryDirectory() as folder,
        label_studio(make_case(size_px)) as (url, seen),
        backend_server(Path(folder), free_port(), keys, url, say=lambda _: None) as address,
        httpx.Client(base_url=address.url, trust_env=False) as client,
    ):
        client.headers["Authorization"] = address.authorization
        send_webhook(client)
        started = seen.image_sent.wait(TRAINING_TIMEOUT_S)
        latencies_ms = poll(client, seconds)
        trainings = len(seen.predictions)
        if not (started and seen.trained.wait(TRAINING_TIMEOUT_S)):
            raise ServerError("the backend did not train: is the machine overloaded?")
    where = f"server, {size_px} px"
    rows = [Row(where, "trainings finished meanwhile", trainings, "")]
    for path, values in latencies_ms.items():
        for name, percent in (("median", 50), ("p95", 95), ("max", 100)):
            value = float(np.percentile(values, percent))
            rows.append(Row(where, f"{path}: {name}", value, "ms", LATENCY_GOAL_MS))
    return rows


def send_webhook(client: httpx.Client) -> None:
    """Tell the backend that the annotation was submitted, so that it trains."""
    ids = {"annotation": {"id": 3}, "task": {"id": 7}, "project": {"id": 1}}
    client.post("/webhook", json={"action": "ANNOTATION_CREATED", **ids}).raise_for_status()


def poll(client: httpx.Client, seconds: float) -> dict[str, list[float]]:
    """Ask again and again for so long; each webhook queues the next training. Return ms."""
    latencies_ms: dict[str, list[float]] = {"/health": [], "/webhook": []}
    for _ in tqdm(range(math.ceil(seconds / PACE_S / 2)), desc="server", leave=False):
        times: dict[str, float] = {}
        with timed(times, "/health"):
            client.get("/health").raise_for_status()
        time.sleep(PACE_S)
        with timed(times, "/webhook"):
            send_webhook(client)
        time.sleep(PACE_S)
        for path, latency_s in times.items():
            latencies_ms[path].append(1000 * latency_s)
    return latencies_ms


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0 if it worked, 1 if a server failed, 2 after a mistake."""
    parser = argparse.ArgumentParser(description="Measure the backend while it trains.")
    add = parser.add_argument
    add("--size", type=int, default=1024, metavar="PX", help="side of the image it trains on")
    add("--seconds", type=float, default=20, metavar="S", help="how long to ask it")
    options = parser.parse_args(arguments)
    if options.seconds <= 0:
        parser.error("--seconds must be more than 0")
    return print_table(lambda: measure_server(options.size, options.seconds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
