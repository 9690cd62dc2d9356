"""Child processes live exactly as long as their block."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import replace

import httpx
import pytest

from backend.trials.processes import Server, ServerError, check_port, free_port, running

HEALTHY = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WITH_CHILD = (
    "import subprocess, sys\n"
    f"subprocess.Popen([sys.executable, '-c', {HEALTHY!r}, sys.argv[2]])\n" + HEALTHY
)
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HEALTHY


def server(tmp_path, program, **options):
    """Describe a server that runs `program` with a free port as its argument."""
    port = free_port()
    command = [sys.executable, "-c", program, str(port)]
    return Server("the server", command, port, tmp_path / "logs" / "server.log", **options)


def is_up(url):
    """Tell whether something answers."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_server_runs_for_the_length_of_the_block(tmp_path):
    """It answers inside and is gone after."""
    with running(server(tmp_path, HEALTHY), lambda _: None) as url:
        assert is_up(url)

    assert not is_up(url)


def test_children_of_the_server_are_stopped_too(tmp_path):
    """No orphans stay behind."""
    child_port = free_port()
    parent = server(tmp_path, WITH_CHILD)
    with running(replace(parent, command=[*parent.command, str(child_port)]), lambda _: None):
        wait_until(lambda: is_up(f"http://127.0.0.1:{child_port}"))

    assert not is_up(f"http://127.0.0.1:{child_port}")


def wait_until(condition):
    """Wait up to ten seconds for something to become true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_server_is_stopped_when_the_block_is_interrupted(tmp_path):
    """Ctrl-C arrives as an exception."""
    with (
        pytest.raises(KeyboardInterrupt),
        running(server(tmp_path, HEALTHY), lambda _: None) as url,
    ):
        raise KeyboardInterrupt

    assert not is_up(url)


def test_deaf_server_is_killed(tmp_path, monkeypatch):
    """One that ignores the polite signal does not hold us up."""
    monkeypatch.setattr("backend.trials.processes.STOP_TIMEOUT_S", 0.2)

    with running(server(tmp_path, DEAF), lambda _: None) as url:
        pass

    assert not is_up(url)


def test_end_of_the_log_is_shown_when_the_server_fails(tmp_path):
    """The reason is in there."""
    failing = server(tmp_path, "raise SystemExit('no disk left')")

    with (
        pytest.raises(ServerError, match=r"stopped at once(.|\n)*no disk left"),
        running(failing, lambda _: None),
    ):
        pass


def test_silent_server_is_given_up(tmp_path):
    """One that never answers is stopped, after lines of progress."""
    silent = server(tmp_path, "import time; time.sleep(99)", start_timeout_s=0.5)

    with pytest.raises(ServerError, match="not ready after 1 s"), running(silent, lambda _: None):
        pass


def test_progress_is_shown_now_and_then(tmp_path, monkeypatch):
    """The first start of Label Studio takes a minute."""
    monkeypatch.setattr("backend.trials.processes.PROGRESS_S", 0.1)
    lines = []

    with running(server(tmp_path, "import time; time.sleep(0.5)" + HEALTHY), lines.append):
        assert "the server is starting, 0 s so far" in lines[0]


def test_environment_is_passed_on(tmp_path):
    """Settings reach the server, on top of what we have ourselves."""
    printing = "import os; print(os.environ['COLOR'], len(os.environ['PATH']) > 0, flush=True)"
    described = server(tmp_path, printing + HEALTHY, environ={"COLOR": "blue"})

    with running(described, lambda _: None):
        wait_until(lambda: described.log.read_text().startswith("blue True"))


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "corp"}, "corp,127.0.0.1,localhost"),
        ({"NO_PROXY": "corp", "no_proxy": "lab"}, "lab,127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_children_reach_loopback_without_the_proxy(tmp_path, monkeypatch, given, handed_on):
    """Label Studio and the backend call one another there; both spellings are read."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    printing = "import os; print(os.environ['NO_PROXY'], os.environ['no_proxy'], flush=True)"
    described = server(tmp_path, printing + HEALTHY)

    with running(described, lambda _: None):
        wait_until(lambda: described.log.read_text().startswith(f"{handed_on} {handed_on}\n"))


def test_taken_port_is_named():
    """The sentence holds the port and what it was meant for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port}, meant for Label Studio.*stop the"):
            check_port(port, "Label Studio")
