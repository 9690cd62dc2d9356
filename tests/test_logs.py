"""Log lines: as text or JSON, about a task, and never with a secret."""

import json
import logging
import sys
import time

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from label_studio_stand_in import LabelStudioStandIn
from loopback import Answer
from watched import PASSWORD as PASSWORD_OF_APP
from watched import USER, ask, watched_app, watched_settings

from backend.logs import Redactor, about, make_formatter, redactor_of, subject
from backend.settings import Settings

TOKEN = "0123456789abcdef" * 2 + "01234567"
PASSWORD = "correct horse"  # noqa: S105 - of no server
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoxfQ.c2lnbmF0dXJl"


@pytest.fixture
def redact():
    """Knows the secrets of settings."""
    return redactor_of(
        Settings(
            label_studio_url="http://ls:8080",
            label_studio_api_key=TOKEN,
            basic_auth_user="ls",
            basic_auth_pass=PASSWORD,
        )
    )


@pytest.fixture
def as_json(redact):
    """Write a record as a line of JSON, and read it."""
    formatter = make_formatter("json", redact)

    def write(message, *args, name="backend.serving.service", **more):
        line = formatter.format(record_of(message, *args, name=name, **more))
        assert "\n" not in line
        return json.loads(line)

    return write


def record_of(message, *args, name="backend.serving.service", exc_info=None, **extra):
    """Make a record as a logger does."""
    logger = logging.Logger(name)
    return logger.makeRecord(name, logging.WARNING, "", 0, message, args, exc_info, extra=extra)


def test_json_line_holds_what_happened_and_what_it_is_about(as_json):
    """Time in UTC; what a call gives in `extra` is a field."""
    with about(task=7, project="3"):
        line = as_json("task %d: %d strokes", 7, 2, event="turn", seconds=1.25)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING", "logger": "backend.serving.service", "message": "task 7: 2 strokes",
        "event": "turn", "seconds": 1.25, "task": 7, "project": "3",
    }  # fmt: skip


def test_line_about_nothing_names_no_task(as_json):
    """Nor does one after the block."""
    with about(task=7, project=None), about(task=8):
        assert subject() == {"task": 8}
    assert not {"task", "project", "event", "seconds"} & as_json("it starts").keys()


def test_text_line_is_one_line(redact):
    """A message of several lines cannot pass for lines of ours."""
    formatter = make_formatter("text", redact)
    with about(task=7):
        line = formatter.format(record_of("%s", "gone\n2026 INFO backend: all is well", event="x"))
    assert line.endswith(r"WARNING backend.serving.service: gone\n2026 INFO backend: all is well "
                         "[event=x task=7]")  # fmt: skip
    assert "\n" not in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_traceback_is_shown_without_its_secrets(redact, log_format):
    """It quotes the message of the exception."""
    try:
        int(f"refused {TOKEN}")
    except ValueError:
        record = record_of("it failed", exc_info=sys.exc_info())
    line = make_formatter(log_format, redact).format(record)
    assert "Traceback" in line
    assert "refused ***" in line
    assert TOKEN not in line


def test_settings_secrets_are_taken_out(as_json):
    """The key, the password, and what a browser makes of user and password."""
    sent = "bHM6Y29ycmVjdCBob3JzZQ=="
    line = as_json("%s and %s and %s", TOKEN, PASSWORD, f"Basic {sent}")
    assert line["message"] == "*** and *** and Basic ***"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('127.0.0.1:1 - "GET /status?token=abc HTTP/1.1" 200',
         '127.0.0.1:1 - "GET /status HTTP/1.1" 200'),
        ('HTTP Request: GET https://s3/bucket/x.png?X-Amz-Signature=abc "HTTP/1.1 200 OK"',
         'HTTP Request: GET https://s3/bucket/x.png "HTTP/1.1 200 OK"'),
        ("redis://:pw@cache:6379/0 does not answer", "redis://***@cache:6379/0 does not answer"),
        (f"refused {PERSONAL}", "refused ***"),
        ("is LABEL_STUDIO_URL right? Ask", "is LABEL_STUDIO_URL right? Ask"),
        ("http://127.0.0.1:8080: is it running?", "http://127.0.0.1:8080: is it running?"),
    ],
)  # fmt: skip
def test_addresses_lose_query_and_password(redact, written, shown):
    """Innocent sentences stay as they are."""
    assert redact(written) == shown


@given(st.text(min_size=4), st.text(), st.text())
def test_no_secret_is_left_whatever_stands_beside_it(secret, before, after):
    """Unless the stars that take its place hold it."""
    shown = Redactor([secret])(f"{before}{secret}{after}")
    assert secret not in shown.replace("***", "") or secret in f"{before}{after}"


def test_short_secret_does_not_spoil_words():
    """A password of two letters protects nothing."""
    assert Redactor(["is", ""])("this is it") == "this is it"


class Heard(logging.Handler):
    """Keeps who logged what, and what it was about."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        """Keep a line."""
        self.lines.append((record.name, record.getMessage(), subject()))


def test_lines_deep_inside_name_task_and_project(loopback, tmp_path, caplog):
    """Also those of the worker's thread, and of what failed there: nothing serves the columns."""
    label_studio, heard = LabelStudioStandIn(loopback), Heard()
    loopback.answer("POST", "/api/dm/actions/", Answer({"detail": "no"}, status=500))
    caplog.set_level(logging.INFO)
    logging.getLogger("backend").addHandler(heard)
    try:
        with TestClient(watched_app(watched_settings(loopback.url, tmp_path))) as app:
            app.auth = (USER, PASSWORD_OF_APP)
            ask(app, label_studio)
            while not any("not up to date" in message for _, message, _ in heard.lines):
                time.sleep(0.02)
    finally:
        logging.getLogger("backend").removeHandler(heard)
    assert {"backend.serving.watch", "backend.work.learner", "backend.work.jobs"} <= {
        name for name, *_ in heard.lines
    }
    assert all(about == {"task": 7, "project": 1} for *_, about in heard.lines), heard.lines
