"""Training in a process of its own: one at a time, its status is read from a file."""

import sys
import threading
import time

import pytest

from backend.training_process import TrainingProcess, TrainingStatus

WRITES = """
import sys, time
from pathlib import Path
from backend.training_process import TrainingStatus
path, state, code = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if state != "none":
    TrainingStatus(state, int(sys.argv[4]), "now", 1.0, "as told").write(path)
while Path(path.parent / "wait").exists():
    time.sleep(0.02)
sys.exit(code)
"""


@pytest.fixture
def begin(tmp_path):
    """Start a process that writes a state and ends with a code; close it in the end."""
    processes = []

    def begin(state, code=0, then=lambda: None):
        path = tmp_path / "training.json"
        command = [sys.executable, "-c", WRITES, str(path), state, str(code)]
        process = TrainingProcess(tmp_path, command)
        processes.append(process)
        assert process.start(3, then)
        return process

    yield begin
    for process in processes:
        process.close()


def wait_for(condition):
    """Wait for another process."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_publication_is_told(begin):
    """Then what it was published for can be done."""
    told = threading.Event()
    process = begin("published", then=told.set)
    assert told.wait(60)
    assert process.status == TrainingStatus("published", 3, "now", 1.0, "as told")


@pytest.mark.parametrize("state", ["not published", "failed"])
def test_nothing_follows_without_a_publication(begin, state):
    """The published model stays."""
    told = threading.Event()
    process = begin(state, then=told.set)
    wait_for(lambda: process.status.state == state)
    assert not told.wait(0.2)


def test_only_one_runs_at_a_time(begin, tmp_path):
    """A second start changes nothing."""
    (tmp_path / "wait").touch()
    process = begin("training")
    wait_for(lambda: process.status.state == "training")
    assert not process.start(4, lambda: None)
    assert process.status.project == 3
    (tmp_path / "wait").unlink()


@pytest.mark.parametrize("state", ["none", "training"])
def test_process_that_dies_is_told(begin, state):
    """With its code, and where to read more."""
    process = begin(state, code=9)
    wait_for(lambda: process.status.state == "failed" and "code" in process.status.sentence)
    assert "ended with code 9" in process.status.sentence
    assert "training.log" in process.status.sentence


def test_training_stops_with_the_backend(begin, tmp_path):
    """And says so after the restart."""
    (tmp_path / "wait").touch()
    process = begin("training")
    wait_for(lambda: process.status.state == "training")
    process.close()
    wait_for(lambda: process.status.state == "failed")
    assert TrainingProcess(tmp_path).status.state == "failed"


def test_without_a_training_nothing_is_told(tmp_path):
    """And a damaged file is named."""
    process = TrainingProcess(tmp_path)
    process.close()
    assert process.status == TrainingStatus()
    (tmp_path / "training.json").write_text("{")
    assert "cannot be read" in process.status.sentence


def test_training_that_was_killed_with_the_backend_has_failed(tmp_path):
    """Nobody could write that it ended."""
    TrainingStatus("training", 3, "now").write(tmp_path / "training.json")
    assert TrainingProcess(tmp_path).status.state == "failed"
