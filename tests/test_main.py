"""`python -m backend` as an operator meets it: sentences, a server, a clean stop."""

import gc
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
import uvicorn

from backend.__main__ import main
from backend.trials.processes import free_port

NEEDED = {"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "0" * 40}


@pytest.fixture(autouse=True)
def _environ(monkeypatch, tmp_path):
    """Nothing is set but the state folder."""
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))


def run(**changes):
    """Run `python -m backend` until it stops by itself."""
    command, environ = [sys.executable, "-m", "backend"], {**os.environ, **changes}
    return subprocess.run(  # noqa: S603 - ours
        command, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def test_missing_settings_are_named():
    """One line each, no traceback, exit code 2."""
    ended = run()
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "LABEL_STUDIO_URL: set it in the environment, it is needed",
        "LABEL_STUDIO_API_KEY: set it in the environment, it is needed",
    ]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "0", "PORT: Input should be greater than or equal to 1"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: Value error, give DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_wrong_setting_is_named(monkeypatch, capsys, name, value, sentence):
    """With what is wrong about it."""
    for variable, given in {**NEEDED, name: value}.items():
        monkeypatch.setenv(variable, given)
    assert main() == 2
    assert capsys.readouterr().err == f"{sentence}\n"


def test_state_folder_that_cannot_be_made_is_named(monkeypatch, capsys, tmp_path):
    """The system's sentence holds the path."""
    (tmp_path / "file").write_text("")
    for variable, given in {**NEEDED, "MODEL_DIR": str(tmp_path / "file")}.items():
        monkeypatch.setenv(variable, given)
    assert main() == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_address_that_is_no_url_is_named(monkeypatch, capsys):
    """The client refuses it at the start, not at the first stroke."""
    for variable, given in {**NEEDED, "LABEL_STUDIO_URL": "label studio"}.items():
        monkeypatch.setenv(variable, given)
    assert main() == 2
    assert "label studio" in capsys.readouterr().err


def test_network_is_not_served_without_a_password(monkeypatch, capsys):
    """In one sentence, which names both ways out."""
    for variable, given in {**NEEDED, "HOST": "0.0.0.0"}.items():  # noqa: S104 - it is refused
        monkeypatch.setenv(variable, given)
    assert main() == 2
    assert capsys.readouterr().err == (
        "HOST is 0.0.0.0 and there is no password, so anybody on the network could use the "
        "backend: set BASIC_AUTH_USER and BASIC_AUTH_PASS, or ALLOW_ANYONE=true if you want that\n"
    )


def test_interpreter_is_handed_over_soon(monkeypatch):
    """And garbage is not looked for among all objects of the libraries: `/health` is quick."""
    for variable, given in NEEDED.items():
        monkeypatch.setenv(variable, given)
    served_at = []
    monkeypatch.setattr(
        uvicorn,
        "run",
        lambda *_, **__: served_at.append((sys.getswitchinterval(), gc.get_freeze_count())),
    )
    before_s, before = sys.getswitchinterval(), signal.getsignal(signal.SIGTERM)
    try:
        assert main() == 0
    finally:
        sys.setswitchinterval(before_s)
        signal.signal(signal.SIGTERM, before)
        gc.unfreeze()
    ((interval_s, objects),) = served_at
    assert interval_s == pytest.approx(0.001)
    assert objects > 100_000


def wait_for_health(url, process, timeout_s=120):
    """Wait for the server and return what `/health` says."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server stopped"
        try:
            return httpx.get(f"{url}/health", trust_env=False).json()
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)


def test_server_serves_and_stops(tmp_path):
    """On the port of the settings; SIGTERM, as containers send it, ends it with 0."""
    port = free_port()
    environ = {**os.environ, **NEEDED, "PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "backend"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)  # noqa: S603 - ours
        try:
            health = wait_for_health(f"http://127.0.0.1:{port}", process)
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        finally:
            process.kill()
    assert health == {"status": "UP", "model_class": "GuideBackend"}
    assert code == 0, (tmp_path / "log").read_text()


def test_log_lines_are_json_and_show_no_secret(tmp_path):
    """Those of the server too; the address asked for loses its query."""
    port = free_port()
    environ = {**os.environ, **NEEDED, "PORT": str(port), "OMP_NUM_THREADS": "1"}
    environ |= {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "backend"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)  # noqa: S603 - ours
        try:
            wait_for_health(f"http://127.0.0.1:{port}", process)
            httpx.get(f"http://127.0.0.1:{port}/versions?token=abcdef", trust_env=False)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        finally:
            process.kill()
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    accesses = [line["message"] for line in lines if line["logger"] == "uvicorn.access"]
    assert accesses[-1].endswith('"GET /versions HTTP/1.1" 200')
    assert "abcdef" not in text
    assert NEEDED["LABEL_STUDIO_API_KEY"] not in text
