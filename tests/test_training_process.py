"""Training in a process of its own: one at a time, its status is read from a file."""

import subprocess
import sys
import threading
import time

import pytest

from backend.work.training_process import TrainingProcess, TrainingStatus

WRITES = """
import sys, time
from pathlib import Path
from backend.work.training_process import TrainingStatus
path, state, code = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if state != "none":
    TrainingStatus(state, int(sys.argv[4]), "now", 1.0, "as told").write(path)
while Path(path.parent / "wait").exists():
    time.sleep(0.02)
sys.exit(code)
"""


NEVER_ENDS = """
import signal, sys, time
from pathlib import Path
from backend.work.training_process import TrainingStatus
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
TrainingStatus("training", int(sys.argv[3]), "now", 0.5).write(Path(sys.argv[1]))
time.sleep(600)
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


@pytest.mark.parametrize(("state", "level"), [("not published", "INFO"), ("failed", "ERROR")])
def test_nothing_follows_without_a_publication(begin, state, level, caplog):
    """The published model stays; only a failure is an error in the log."""
    caplog.set_level("INFO")
    told = threading.Event()
    process = begin(state, then=told.set)
    wait_for(lambda: caplog.records)
    assert process.status.state == state
    assert not told.wait(0.2)
    (record,) = caplog.records
    assert (record.levelname, record.event) == (level, "training")
    assert 0 < record.seconds < 60


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


@pytest.mark.parametrize("kind", ["obedient", "stubborn"])
def test_training_that_takes_too_long_is_stopped(tmp_path, monkeypatch, kind):
    """Even one that does not listen; the status says what to do, and another can be started."""
    monkeypatch.setattr("backend.work.training_process.STOP_TIMEOUT_S", 0.5)
    path = tmp_path / "training.json"
    command = [sys.executable, "-c", NEVER_ENDS, str(path), kind]
    process = TrainingProcess(tmp_path, command, limit_s=8)
    assert process.start(3, lambda: None)
    wait_for(lambda: process.status.state == "training")
    wait_for(lambda: "stopped after 8 s" in process.status.sentence)
    status = process.status
    assert (status.state, status.project, status.progress) == ("failed", 3, 0.5)
    assert "raise TRAIN_TIMEOUT_S" in status.sentence
    assert "goes on where it was" in status.sentence
    assert process.start(4, lambda: None)
    process.close()


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
    status = TrainingProcess(tmp_path).status
    assert (status.state, status.project) == ("failed", 3)
    assert "it was stopped: start it again" in status.sentence


def test_training_is_not_called_stopped_while_nobody_can_tell(tmp_path):
    """A worker on another host goes on while Redis is gone."""
    TrainingStatus("training", 3, "now", 0.4).write(tmp_path / "training.json")
    status = TrainingProcess(tmp_path, elsewhere=lambda: None).status
    assert (status.state, status.progress) == ("training", 0.4)


BACKEND = """
import sys, time
from pathlib import Path
from backend.work.training_process import TrainingProcess
training = TrainingProcess(Path(sys.argv[1]), [sys.executable, "-c", *sys.argv[2:]])
assert training.start(3, lambda: None)
time.sleep(600)
"""


def test_training_outlives_a_killed_backend(tmp_path):
    """The next backend tells how far it is, starts no second one beside it, and says when it ends.

    It says so before the training has written a word, too.
    """
    path = tmp_path / "training.json"
    (tmp_path / "wait").touch()
    child = [WRITES, str(path), "training", "0"]
    backend = subprocess.Popen([sys.executable, "-c", BACKEND, str(tmp_path), *child])  # noqa: S603 - ours
    wait_for(path.exists)
    after = TrainingProcess(tmp_path, [sys.executable, "-c", WRITES, str(path), "published", "0"])
    try:
        while TrainingStatus.read(path).state == "exporting":
            assert after.status.state in ("exporting", "training")
            assert not after.start(4, lambda: None)
    finally:
        backend.kill()
        backend.wait()

    assert (after.status.state, after.status.project) == ("training", 3)
    assert not after.start(4, lambda: None)
    (tmp_path / "wait").unlink()
    wait_for(lambda: after.status.state == "failed")
    wait_for(lambda: after.start(4, lambda: None))
    wait_for(lambda: after.status.state == "published")
    after.close()
