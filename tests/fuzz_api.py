"""The running backend as a target: its own description, and requests of Label Studio gone wrong."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import schemathesis
from fuzz_run import Counted
from fuzz_targets import body_of, make_task
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from label_studio_stand_in import LabelStudioStandIn
from loopback import loopback_server
from schemathesis.checks import not_a_server_error, response_schema_conformance

from backend.trials.processes import Server, free_port, running

USER, PASSWORD = "fuzz", "fuzz-password"
BATCH = 500
"""Examples of one run of Hypothesis, which remembers all of a run."""
ASKS = 0.05
"""Share of the tasks that ask and so train; the others open a task."""
DESCRIBED = 0.6
"""Share of the inputs that are made from the description."""


class RefusedError(Exception):
    """The server said why it does not carry a request out."""


class ServerFailedError(Exception):
    """The server answered with its own fault."""


def play(count: int, seed: int, counted: Counted) -> None:
    """Start a backend, and send it so many requests."""
    with loopback_server() as server, tempfile.TemporaryDirectory() as name:
        stand_in, folder, port = LabelStudioStandIn(server), Path(name), free_port()
        environ = {
            "LABEL_STUDIO_URL": stand_in.server.url, "LABEL_STUDIO_API_KEY": "0" * 40,
            "BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "PORT": str(port),
            "MODEL_DIR": str(folder / "state"), "DRAFT_TIMEOUT_S": "0", "GUIDE_CACHE_MB": "20",
        }  # fmt: skip
        command = [sys.executable, "-m", "backend"]
        backend = Server("the backend", command, port, folder / "log", environ)
        with (
            running(backend, lambda _: None) as url,
            httpx.Client(base_url=url, auth=(USER, PASSWORD), trust_env=False, timeout=60) as http,
        ):
            counted.memory, counted.clock = partial(_memory_mb, port), time.perf_counter
            described = int(count * DESCRIBED)
            # first, so that memory is warm when its growth begins to count: they train guides
            _send_tasks(http, count - described, seed, counted)
            _send_described(url, described, seed, counted)
            counted.finish()
        server.requests.clear()


def _send_described(url: str, count: int, seed: int, counted: Counted) -> None:
    """Requests that fit the description, and some that do not."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", auth=(USER, PASSWORD))
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = schemathesis.GenerationMode
    strategies = [
        one.as_strategy(generation_mode=mode)
        for one in operations
        for mode in (modes.POSITIVE, modes.NEGATIVE)
        if mode is modes.POSITIVE or one.body
    ]

    def check(case: Any) -> None:
        answer = case.call(base_url=url, auth=(USER, PASSWORD), timeout=60)
        case.validate_response(answer, checks=[not_a_server_error, response_schema_conformance])
        if answer.status_code >= 400:
            raise RefusedError

    for start in range(0, count, BATCH):

        @seeded(seed + start)
        @settings(max_examples=min(BATCH, count - start), database=None, deadline=None,
                  phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(st.one_of(strategies))
        def run(case: Any) -> None:
            counted.take(case, check, (RefusedError,))

        run()


def _send_tasks(http: httpx.Client, count: int, seed: int, counted: Counted) -> None:
    """Tasks with strokes, as Label Studio sends them, changed at random."""
    random = Random(seed)  # noqa: S311 - no secret

    def check(body: bytes) -> None:
        answer = http.post("/predict", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code >= 500 and answer.status_code not in {502, 503, 507}:
            raise ServerFailedError(f"{answer.status_code}: {answer.text[:200]}")
        if not answer.is_success:
            raise RefusedError(answer.json()["detail"])
        assert set(answer.json()) == {"results"}

    for _ in range(count):
        body = body_of(make_task(random), asks=random.random() < ASKS)
        counted.take(body, check, (RefusedError,))


def _memory_mb(port: int) -> float:
    """Memory of the process that listens on a port of loopback."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            mine = f"PORT={port}".encode() in path.read_bytes().split(b"\0")
            status = (path.parent / "status").read_text()
        except OSError:
            continue
        if mine and b"backend" in (path.parent / "cmdline").read_bytes():
            return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000
    return 0.0
