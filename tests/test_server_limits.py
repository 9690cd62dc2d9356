"""What the server refuses, and with which status: long bodies, and failures of each kind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from fastapi.testclient import TestClient

from backend.errors import (
    ForbiddenImageError,
    InvalidImageError,
    InvalidLabelConfigError,
    InvalidTaskError,
    LabelStudioError,
    LateAnswerError,
    QueueFullError,
)
from backend.serving.server import create_app
from backend.settings import Settings

MAX_BODY_MB = 0.001  # 1000 bytes


class FailingService:
    """Raises what the test wants, whatever is asked; counts the events."""

    def __init__(self, error=None):
        self.error = error
        self.events = 0

    def predict(self, *_):
        """Fail."""
        raise self.error

    def handle_event(self, *_):
        """Count."""
        self.events += 1
        return True

    def close(self):
        """Have nothing to close."""


def app_around(service):
    """Make a client of the application around a service."""
    settings = Settings(
        label_studio_url="http://127.0.0.1:9", label_studio_api_key="k", max_body_mb=MAX_BODY_MB
    )
    app = create_app(settings, service)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


class StalledService(FailingService):
    """Waits as for a Redis that has gone, until the test is over."""

    def __init__(self):
        super().__init__()
        self.stalled, self.over = threading.Event(), threading.Event()
        self.model_version = "tem-guide-v0"

    def project_opened(self, *_):
        """Wait."""
        self.stalled.set()
        assert self.over.wait(30), "/health waited for what is done aside"

    def handle_event(self, *_):
        """Wait."""
        return self.project_opened()


@pytest.mark.parametrize(
    ("path", "body"),
    [("/webhook", {"action": "ANNOTATION_CREATED"}), ("/setup", {"project": "1.2"})],
)
def test_health_waits_for_nothing(path, body):
    """Also when Redis does not answer."""
    service = StalledService()
    with app_around(service) as app, ThreadPoolExecutor(1) as person:
        answer = person.submit(app.post, path, json=body)
        assert service.stalled.wait(30)
        assert app.get("/health").json()["status"] == "UP"
        assert not answer.done()
        service.over.set()
        assert answer.result(30).status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ForbiddenImageError, 403),
        (LabelStudioError, 502),
        (LateAnswerError, 502),
        (ConnectionError, 503),
        (QueueFullError, 503),
        (ConnectionRefusedError, 503),
        (InvalidImageError, 422),
        (InvalidTaskError, 422),
        (InvalidLabelConfigError, 422),
        (PermissionError, 507),
        (OSError, 507),
    ],
)
def test_each_failure_has_its_status(error, status):
    """The sentence is in the answer."""
    answer = app_around(FailingService(error("what is wrong"))).post(
        "/predict", json={"tasks": [], "label_config": ""}
    )
    assert (answer.status_code, answer.json()) == (status, {"detail": "what is wrong"})


def test_half_a_surrogate_pair_is_quoted():
    """JSON may hold it, and UTF-8 may not."""
    answer = app_around(FailingService(InvalidTaskError("region \ud800"))).post(
        "/predict", json={"tasks": [], "label_config": ""}
    )
    assert (answer.status_code, answer.json()) == (422, {"detail": "region \ud800"})


def test_mistake_of_ours_is_no_fault_of_the_request():
    """A ValueError that nobody foresaw."""
    answer = app_around(FailingService(ValueError("secret"))).post(
        "/predict", json={"tasks": [], "label_config": ""}
    )
    assert answer.status_code == 500
    assert "secret" not in answer.text


def body_of(size):
    """Make JSON of exactly this many bytes."""
    return b'{"action": "%s"}' % (b"x" * (size - 14))


def chunks(body, size=100):
    """Cut a body into pieces, which makes httpx leave out Content-Length."""
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("form", [bytes, chunks], ids=["at once", "in chunks"])
@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
def test_body_is_counted(form, size, status):
    """With and without Content-Length, to the byte."""
    service = FailingService()
    answer = app_around(service).post(
        "/webhook", content=form(body_of(size)), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert service.events == (status == 200)


def test_long_body_gets_a_sentence():
    """With the limit and the setting."""
    answer = app_around(FailingService()).post(
        "/webhook", content=chunks(body_of(5000)), headers={"Content-Type": "application/json"}
    )
    assert "more than 0.001 MB: raise MAX_BODY_MB" in answer.json()["detail"]


def test_rest_of_a_long_body_is_not_read():
    """The limit bounds the memory, so the sender must not be heard to the end."""
    sent = []

    def endless():
        while len(sent) < 100:
            sent.append(1)
            yield b" " * 500

    async def receive():
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def send(message):
        answers.append(message)

    pieces, answers = endless(), []
    scope = {"type": "http", "method": "POST", "path": "/webhook", "query_string": b"",
             "headers": [(b"host", b"127.0.0.1")]}  # fmt: skip
    anyio.run(app_around(FailingService()).app, scope, receive, send)
    assert (answers[0]["status"], len(sent)) == (413, 3)
