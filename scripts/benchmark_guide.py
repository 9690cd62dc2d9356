"""Measure the guide on this machine: answer times, their stages, memory, latency of the server.

    python scripts/benchmark_guide.py --sizes 512 1024 --repeat 5 --server

Draws synthetic gates, paints strokes into every material, and prints a table with the goals. It is
long because it looks at the package from outside, which so needs no timers of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import multiprocessing
import re
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from types import CodeType
from typing import ClassVar

import httpx
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

import backend
from backend.annotation.label_config import SCRIBBLE, LabelConfig, write_label_config
from backend.annotation.predictions import to_results
from backend.annotation.rle import encode_mask
from backend.annotation.scribbles import stroke_mask
from backend.annotation.tasks import BRUSH, Touch
from backend.arrays import UNLABELED, LabelMap
from backend.demo_images import as_png
from backend.demo_servers import Keys, backend_server
from backend.learning.guide import Guide
from backend.microscope.images import to_gray
from backend.microscope.synthetic import make_image
from backend.processes import ServerError, free_port

ANSWER_GOALS_S = {512: 3.0, 1024: 6.0}  # by side, px
MEMORY_GOAL_GB = 1.5
LATENCY_GOAL_MS = 50.0

WORKERS = 2  # of the random forest, as many as the guide has
STROKE_REACH_PX, STROKE_WIDTH_PX = 60, 8
PACE_S = 0.05  # between two requests to the server
TRAINING_TIMEOUT_S = 60.0

STEPS = 8  # of training

STAGES = {  # functions of the package, as a profile names them
    "cell_features": "features",
    "classify_cells": "classifier",
    "refine": "prior",
    "normalized_entropy": "uncertainty",
    "rank_spots": "spots",
    "to_results": "encoding of masks",
}
PACKAGE = str(Path(backend.__file__).parent)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    where: str  # e.g. "512 px"
    what: str
    value: float
    unit: str
    goal: float = math.inf  # largest value wanted

    def cells(self) -> tuple[str, str, str, str]:
        """Write the row as text."""
        verdict = "met" if self.value <= self.goal else "missed"
        goal = "" if math.isinf(self.goal) else f"{self.goal:g} {self.unit}: {verdict}"
        return self.where, self.what, f"{self.value:.2f} {self.unit}", goal


@dataclass(frozen=True)
class Case:
    """A synthetic image and what an annotator paints on it."""

    image: NDArray[np.generic]  # (H, W)
    materials: tuple[str, ...]
    scribbles: tuple[LabelMap, LabelMap]  # at the first and at the second turn, each (H, W)


def make_case(size_px: int) -> Case:
    """Draw a gate of this height and width, and the strokes of two turns."""
    drawn = make_image("gate", "A", seed=1, shape=(size_px, size_px))
    truth = drawn.label_map
    return Case(drawn.image, drawn.materials, (paint(truth, strokes=1), paint(truth, strokes=2)))


def paint(truth: LabelMap, strokes: int) -> LabelMap:
    """Paint horizontal strokes into each material, where it is widest. (H, W) -> (H, W)."""
    scribbles = np.full_like(truth, UNLABELED)
    shape = (truth.shape[0], truth.shape[1])
    for label in np.unique(truth[truth != UNLABELED]):
        free = truth == label
        for _ in range(strokes):
            depth = distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(depth.argmax(), depth.shape)
            left, right = column - STROKE_REACH_PX, column + STROKE_REACH_PX
            ends = np.array([[row, left], [row, right]], np.float64)
            stroke = stroke_mask(Touch(False, ends, STROKE_WIDTH_PX), shape)
            scribbles[stroke & (truth == label)] = label
            free &= ~stroke_mask(Touch(False, ends, 2 * STROKE_REACH_PX), shape)
    return scribbles


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Put the seconds that the block takes into `times`."""
    start = time.perf_counter()
    yield
    times[name] = time.perf_counter() - start


def time_guide(case: Case) -> dict[str, float]:
    """Open a guide, take two turns and train its network; return seconds."""
    times: dict[str, float] = {}
    with timed(times, "guide: preparation"):
        guide = Guide(case.image, len(case.materials), class_names=case.materials)
    with timed(times, "guide: first update"):
        guide.update(case.scribbles[0])
    with timed(times, "guide: second update"):
        guide.update(case.scribbles[1])
    with timed(times, "guide: training step"):
        guide.train(STEPS)
    times["guide: training step"] /= STEPS
    with timed(times, "guide: answer with the trained network"):
        prediction = guide.predict()
    with timed(times, "guide: encoding"):
        encode(prediction, case)
    steps = ("preparation", "first update", "encoding")
    times["guide: first answer"] = sum(times[f"guide: {step}"] for step in steps)
    return times


def encode(prediction: backend.Prediction, case: Case) -> None:
    """Write a prediction as Label Studio wants it, and forget it."""
    config = LabelConfig(case.materials)
    probabilities = prediction.probabilities
    to_results(prediction.label_map, prediction.spots, config, probabilities=probabilities)


def share_of_stages(case: Case) -> dict[str, float]:
    """Profile a first answer; return percent of its time by stage.

    A profile sees the calling thread only, which waits where others work: its times are those of
    the clock. Only the shares are used, since profiling slows Python down.
    """
    times: dict[str, float] = {}
    profile = cProfile.Profile()
    with timed(times, "all"), profile:
        guide = Guide(case.image, len(case.materials), class_names=case.materials)
        encode(guide.update(case.scribbles[0]), case)
    spent = {
        entry.code.co_name: entry.totaltime
        for entry in profile.getstats()
        if isinstance(entry.code, CodeType) and entry.code.co_filename.startswith(PACKAGE)
    }
    stages = {stage: spent[function] for function, stage in STAGES.items()}
    stages["the rest"] = times["all"] - sum(stages.values())
    return {f"share: {stage}": 100 * seconds / times["all"] for stage, seconds in stages.items()}


def time_forest(case: Case) -> dict[str, float]:
    """Do a turn of the usual recipe, a random forest on filter features; return seconds."""
    times: dict[str, float] = {}
    scribbles = case.scribbles[1]
    drawn = scribbles != UNLABELED
    gray = to_gray(case.image)
    with timed(times, "random forest: features"):
        features = multiscale_basic_features(gray, sigma_min=0.5, sigma_max=16, workers=WORKERS)
    with timed(times, "random forest: turn"):
        forest = RandomForestClassifier(100, n_jobs=WORKERS, class_weight="balanced")
        forest.fit(features[drawn], scribbles[drawn])
        forest.predict_proba(features.reshape(drawn.size, -1))
    return times


def measure_size(size_px: int, repeat: int) -> list[Row]:
    """Measure all times on an image of this side; each value is a median."""
    case = make_case(size_px)
    seconds, percents = [], []
    for _ in tqdm(range(repeat), desc=f"{size_px} px", leave=False):
        seconds.append(time_guide(case) | time_forest(case))
        percents.append(share_of_stages(case))
    where = f"{size_px} px"
    goals = {"guide: first answer": ANSWER_GOALS_S.get(size_px, math.inf)}
    rows = [Row(where, name, s, "s", goals.get(name, math.inf)) for name, s in medians(seconds)]
    ratios = [run["guide: second update"] / run["random forest: turn"] for run in seconds]
    rows.append(Row(where, "guide's second update : forest's turn", median(ratios), "x"))
    return rows + [Row(where, name, share, "%") for name, share in medians(percents)]


def medians(runs: Sequence[dict[str, float]]) -> list[tuple[str, float]]:
    """Take the median of each value over the runs."""
    return [(name, median(run[name] for run in runs)) for name in runs[0]]


def measure_memory(size_px: int) -> Row:
    """Open a task and take two turns in a process of its own; return its peak memory."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        peak_gb = pool.submit(peak_memory_gb, make_case(size_px)).result()
    return Row(f"{size_px} px", "peak memory of an open task", peak_gb, "GB", MEMORY_GOAL_GB)


def peak_memory_gb(case: Case) -> float:
    """Take two turns; return the largest resident set of this process so far."""
    time_guide(case)
    # not getrusage: its peak includes that of the process we were started from
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if peak is None:
        raise OSError("/proc/self/status shows no VmHWM: memory is measured on Linux only")
    return int(peak[1]) * 1024 / 1e9


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
        """Take a prediction."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.predictions.append(body["model_version"])
        self._send(201, json.dumps({**body, "id": len(self.predictions)}).encode())
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
    scribbles = case.scribbles[1]
    height, width = scribbles.shape
    shared = {
        "from_name": SCRIBBLE,
        "type": BRUSH,
        "original_width": width,
        "original_height": height,
    }
    results = []
    for index, material in enumerate(case.materials):
        value = {"rle": encode_mask(scribbles == index), "brushlabels": [material]}
        results.append({**shared, "id": f"stroke{index}", "origin": "manual", "value": value})
    bodies = {
        "/api/tasks/7/": {"id": 7, "project": 1, "data": {"image": "/data/upload/1/a.png"}},
        "/api/projects/1/": {"id": 1, "label_config": write_label_config(case.materials)},
        "/api/annotations/3/": {"id": 3, "task": 7, "result": results},
        "/api/predictions/": [],
    }
    image = as_png(case.image)
    texts = {path: json.dumps(body).encode() for path, body in bodies.items()}
    return {**texts, "/data/upload/1/a.png": image}


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


def format_table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table with columns of even width."""
    head, *lines = ("where", "what", "measured", "goal, at most"), *(row.cells() for row in rows)
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    padded = (map(str.ljust, cells, widths) for cells in (head, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(description="Measure the guide on this machine.")
    add = parser.add_argument
    add("--sizes", nargs="+", type=int, default=[512, 1024], metavar="PX", help="sides of images")
    add("--repeat", type=int, default=3, metavar="N", help="runs of which medians are shown")
    add("--memory-size", type=int, default=1024, metavar="PX", help="side of the open task")
    add("--server", action="store_true", help="also measure latencies of a training backend")
    add("--server-size", type=int, default=1024, metavar="PX", help="side of what it trains on")
    add("--server-seconds", type=float, default=20, metavar="S", help="how long to ask it")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0 if it worked, 1 if a server failed, 2 after a mistake."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.repeat < 1 or options.server_seconds <= 0:
        parser.error("--repeat and --server-seconds must be more than 0")
    try:
        time_guide(make_case(min(options.sizes)))  # the first run loads libraries
        rows = [row for size in options.sizes for row in measure_size(size, options.repeat)]
        rows.append(measure_memory(options.memory_size))
        if options.server:
            rows += measure_server(options.server_size, options.server_seconds)
    except (ValueError, OSError, ServerError, httpx.HTTPError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(format_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
