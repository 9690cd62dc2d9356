"""Fixtures that several test files share."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
import torch
from loopback import loopback_server
from redis_server import RedisServer, running_redis
from warm_process import WarmProcess, warm_process

from backend.annotation.client import LabelStudioClient
from backend.annotation.projects import BackendAddress
from backend.learning import prior_samples
from backend.trials.demo_servers import Keys, backend_server, label_studio, load_keys
from backend.trials.processes import free_port


@dataclass(frozen=True)
class Workplace:
    """A running Label Studio with a running backend."""

    url: str  # of Label Studio
    keys: Keys
    client: LabelStudioClient
    backend: BackendAddress


SHORT_TRAINING = {"TRAIN_STEPS": "40", "TRAIN_FOLDS": "2", "TRAIN_CROP_PX": "128"}


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    """A Redis of its own, which a test may write to behind our backs, or take away."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture(autouse=True)
def _repeatable():
    """Seed the global random numbers; one thread, since two that spin on a busy machine crawl."""
    np.random.seed(0)  # noqa: NPY002 - libraries below us still use it
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def loopback():
    """Run a small HTTP server that a test can tell what to answer."""
    with loopback_server() as server:
        yield server


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """A process that forks backends and other writers, which tests kill."""
    with warm_process() as process:
        yield process


class InThisProcess:
    """A pool without processes, which would not see what a test has changed."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


@pytest.fixture
def small_samples(monkeypatch):
    """Samples of the prior are small, one in a shard, and drawn in this process."""
    monkeypatch.setattr(prior_samples, "SIDE_PX", 128)
    monkeypatch.setattr(prior_samples, "_DEVICE_SIDES_PX", (130, 200))
    monkeypatch.setattr(prior_samples, "SAMPLES_A_SHARD", 1)
    monkeypatch.setattr(prior_samples, "ProcessPoolExecutor", InThisProcess)


@dataclass(frozen=True)
class DemoRun:
    """What one run of the demo showed, and left behind."""

    output: str
    projects: int
    tasks: int
    backend_url: str  # as connected in Label Studio
    predictor: str  # whom Label Studio asks when a task is opened
    exit_code: int
    ports_freed: bool


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    """A data folder for the demo; its first boot takes most of a minute, so it is shared."""
    return tmp_path_factory.mktemp("demo") / "data"


@pytest.fixture(scope="session")
def demo_runs(demo_folder) -> list[DemoRun]:
    """Run the demo twice on the same folder, as a user does: the second time on other ports."""
    return [run_demo_once(demo_folder, signal.SIGINT), run_demo_once(demo_folder, signal.SIGTERM)]


def run_demo_once(folder: Path, end: signal.Signals) -> DemoRun:
    """Start `python -m backend.demo`, look around when it is ready, end it with a signal."""
    port, backend_port = free_port(), free_port()
    command = [sys.executable, "-m", "backend.demo", "--data", str(folder)]
    command += ["--port", str(port), "--backend-port", str(backend_port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603 - ours
        try:
            output = read_until(process.stdout, "Stop with Ctrl-C")
            assert "Ready:" in output, output
            with LabelStudioClient(f"http://127.0.0.1:{port}", load_keys(folder).token) as client:
                projects = list(client.sdk.projects.list())
                tasks = list(client.sdk.tasks.list(project=projects[0].id))
                (backend,) = client.sdk.ml.list(project=projects[0].id)
        finally:
            process.send_signal(end)
        output += process.communicate(timeout=60)[0]
    freed = is_free(port) and is_free(backend_port)
    code = process.returncode
    url, predictor = str(backend.url), str(projects[0].model_version)
    return DemoRun(output, len(projects), len(tasks), url, predictor, code, freed)


def read_until(lines: TextIO, words: str) -> str:
    """Read lines up to the one with these words, or to the end."""
    output = ""
    while words not in output and (line := lines.readline()):
        output += line
    return output


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def workplace(demo_runs, demo_folder) -> Iterator[Workplace]:
    """Boot the real Label Studio and the real backend, once for all tests that need them.

    On the demo's folder, after its runs: that saves the long first boot.
    """
    assert all(run.exit_code == 0 for run in demo_runs)
    keys = load_keys(demo_folder)
    with (
        label_studio(demo_folder, free_port(), keys) as url,
        backend_server(demo_folder, free_port(), keys, url, SHORT_TRAINING) as backend,
        LabelStudioClient(url, keys.token, timeout_s=60.0) as client,
    ):
        yield Workplace(url, keys, client, backend)
