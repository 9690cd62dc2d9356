"""What Prometheus reads, through the real application."""

import re

import pytest
from fastapi.testclient import TestClient
from label_studio_stand_in import LABEL_CONFIG, LabelStudioStandIn
from prometheus_client.parser import text_string_to_metric_families
from watched import PASSWORD, USER, ask, watched_app, watched_settings

from backend.work.training_process import STATUS_NAME, TrainingStatus


@pytest.fixture
def settings(loopback, tmp_path):
    """Settings for a Label Studio of one task."""
    return watched_settings(loopback.url, tmp_path)


@pytest.fixture(autouse=True)
def label_studio(loopback):
    """A Label Studio with one task, two strokes on it."""
    return LabelStudioStandIn(loopback)


@pytest.fixture
def start(settings):
    """Start an application; a second one shares the process, but no numbers."""
    clients = []

    def start():
        app = watched_app(settings)
        clients.append(TestClient(app, raise_server_exceptions=False))
        clients[-1].auth = (USER, PASSWORD)
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__()


def numbers(app):
    """Read `/metrics` as Prometheus does: values by name and labels."""
    answer = app.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name.removeprefix("tem_guide_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_answer_is_measured(start, label_studio):
    """As a request and as an answer; its guide is open then."""
    app = start()
    ask(app, label_studio)
    now = numbers(app)
    assert now["request_seconds_count", "/predict", "200"] == 1
    assert now["answer_seconds_count",] == 1
    assert 0 < now["answer_seconds_sum",] <= now["request_seconds_sum", "/predict", "200"]
    assert (now["open_guides",], now["workers",]) == (1, 1)
    assert now["jobs_waiting",] == now["oldest_wait_seconds",] == 0


def test_opening_a_task_is_no_answer(start, label_studio):
    """Nor is what Label Studio asks for after Submit."""
    app = start()
    for context in (None, {"result": []}):
        body = {"tasks": [label_studio.task()], "label_config": LABEL_CONFIG}
        app.post("/predict", json={**body, "params": {"context": context}})
    assert numbers(app)["answer_seconds_count",] == 0


def test_refused_and_unknown_requests_get_no_labels_of_their_own(start):
    """A scan of the port must not fill the memory of Prometheus."""
    app = start()
    for number in range(3):
        app.get(f"/nothing/{number}")
        app.get("/metrics", auth=(USER, "wrong"))
    app.post("/predict", content=b"{")
    counted = {key[1:]: n for key, n in numbers(app).items() if key[0] == "request_seconds_count"}
    assert counted == {("none", "404"): 3, ("none", "401"): 3, ("/predict", "422"): 1}


def test_only_who_knows_the_password_may_read(start):
    """As on every other route that tells something."""
    app = start()
    for path in ("/metrics", "/status"):
        answer = app.get(path, auth=(USER, "wrong"))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert "tem_guide" not in answer.text


def test_training_and_problems_are_told(start, settings):
    """How far the training is; one that nobody watches has failed."""
    app = start()
    TrainingStatus("published", 1, "2026-11-30T10:00:00+00:00", 1.0).write(
        settings.model_dir / STATUS_NAME
    )
    app.post("/setup", json={"project": "1.7", "schema": "<View>"})
    now = numbers(app)
    assert (now["training_running",], now["training_progress_ratio",]) == (0, 1)
    assert now["problems_total", "InvalidLabelConfigError"] == 1
    assert now["published_model_version",] == 0


def test_process_and_folder_are_measured(start):
    """On Linux; the folder holds at least the database of turns."""
    now = numbers(start())
    assert now["process_resident_memory_bytes",] > 50e6
    assert now["state_bytes",] > 1000
    assert now["state_free_bytes",] > 0


def test_two_applications_share_no_numbers(start):
    """Each has a registry of its own."""
    one, two = start(), start()
    one.get("/health")
    assert numbers(one)["request_seconds_count", "/health", "200"] == 1
    assert ("request_seconds_count", "/health", "200") not in numbers(two)


def test_no_label_names_a_task(start, label_studio):
    """Their number has no limit."""
    app = start()
    ask(app, label_studio)
    text = app.get("/metrics").text
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"route", "status", "le"}
