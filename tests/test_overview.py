"""What is expensive to find out is found out seldom, and never while somebody waits for a page."""

import threading
import time

from backend.annotation.progress import summarize
from backend.errors import LabelStudioError
from backend.serving import overview
from backend.serving.overview import ProjectsProgress, StateFolder

GATES = summarize(1, "Gates", [{"data": {}}])


def test_size_of_a_folder_is_measured_once_a_minute(tmp_path, monkeypatch):
    """Files of all depths, in bytes."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a").write_bytes(b"x" * 1000)
    state = StateFolder(tmp_path)
    assert state.nbytes == 1000
    (tmp_path / "b").write_bytes(b"y" * 10)
    assert state.nbytes == 1000
    monkeypatch.setattr(overview, "SIZE_AGE_S", 0)
    assert state.nbytes == 1010
    assert state.free_bytes > 0


def test_progress_is_read_in_the_background_and_kept():
    """Who looks first sees nothing yet; a page that is renewed every few seconds reads it once."""
    read, gate = [], threading.Event()

    def slow(client):
        read.append(client)
        gate.wait(10)
        return [GATES]

    progress = ProjectsProgress("client", slow)
    assert [progress.latest().projects for _ in range(3)] == [(), (), ()]
    gate.set()
    progress.wait(10)
    assert [progress.latest().projects for _ in range(3)] == [(GATES,)] * 3
    assert read == ["client"]


def test_failure_keeps_what_was_known():
    """And says why; at the next success it is forgotten."""
    answers = [[GATES], LabelStudioError("Label Studio does not answer"), []]

    def read(_client):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    progress = ProjectsProgress(None, read, shortest_pause_s=0)
    seen = []
    for _ in range(3):
        time.sleep(0.05)
        progress.latest()
        progress.wait(10)
        seen.append(progress.known)
    assert [latest.projects for latest in seen] == [(GATES,), (GATES,), ()]
    assert [latest.failure for latest in seen] == ["", "Label Studio does not answer", ""]
    assert all(latest.read_at for latest in seen)


def test_slow_label_studio_is_asked_less_often():
    """At most for a twentieth of its time."""
    read = []
    progress = ProjectsProgress(None, lambda _: read.append(time.sleep(0.05)) or [], 0)
    progress.latest()
    progress.wait(10)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        progress.latest()
        time.sleep(0.01)
    assert len(read) == 1
