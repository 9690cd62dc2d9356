"""`GuideBackend` under label-studio-ml's own Flask application, against a Label Studio."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import types
import warnings
from functools import partial
from pathlib import Path

import httpx
import pytest
from label_studio_ml.model import LabelStudioMLManager
from label_studio_stand_in import LABEL_CONFIG, LabelStudioStandIn, draft, prompt, stroke

from backend import Guide, GuideSettings, TrainingSettings, model
from backend.annotation.client import LabelStudioClient
from backend.annotation.webhook_secret import HEADER, webhook_secret
from backend.model import GuideBackend, app_options
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.trials.processes import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Flask 1.1.2, which 1.0.9 pins
    from label_studio_ml import api

STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))
SMALL = TrainingSettings(encoder_weights="random", crop_px=64)
QUICK_GUIDE = partial(Guide, settings=GuideSettings(training=SMALL))
PROJECT = "1.1700000000"
on_old_flask = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as above, at every call

MODEL_VERSION = "tem-guide-v0"


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one task."""
    return LabelStudioStandIn(loopback)


@pytest.fixture
def environ(label_studio, tmp_path, monkeypatch):
    """The environment of a deployment."""
    variables = {
        "LABEL_STUDIO_URL": label_studio.server.url,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "MODEL_DIR": str(tmp_path / "state"),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def bind(environ):
    """Bind a service to a subclass, as a process does that makes its own."""
    services = []

    def bind(make_guide=QUICK_GUIDE):
        client = LabelStudioClient(environ["LABEL_STUDIO_URL"], "0" * 40, timeout_s=5)
        services.append(GuideService(Settings(), client, make_guide))
        return type("Bound", (GuideBackend,), {"service": services[-1]})

    yield bind
    for service in services:
        service.close()


@pytest.fixture
def start(bind, monkeypatch):
    """Start label-studio-ml's application around a bound class; it keeps its model in a global."""
    monkeypatch.setattr(LabelStudioMLManager, "_current_model", {})

    def start():
        return api.init_app(bind(), **app_options(Settings())).test_client()

    return start


def ask_body(task):
    """Make the body of an interactive `/predict`."""
    params = {"login": None, "password": None, "context": {"result": [prompt()]}}
    return {"tasks": [task], "project": PROJECT, "label_config": LABEL_CONFIG, "params": params}


def materials_of(answer):
    """Return the materials that the one prediction of an answer has masks of."""
    (prediction,) = answer["results"]
    masks = [region for region in prediction["result"] if region["from_name"] == "seg"]
    return {region["value"]["brushlabels"][0] for region in masks}


@on_old_flask
def test_health_answers(start):
    """As label-studio-ml words it."""
    assert start().get("/health").get_json()["status"] == "UP"


@on_old_flask
def test_setup_and_ask_give_masks(start, label_studio):
    """Label Studio connects, then the annotator draws and asks."""
    app, task = start(), label_studio.task(drafts=[draft(*STROKES, prompt())])
    setup = app.post("/setup", json={"project": PROJECT, "schema": LABEL_CONFIG})
    answer = app.post("/predict", json=ask_body(task))
    assert (setup.status_code, answer.status_code) == (200, 200)
    assert materials_of(answer.get_json()) == {"Si", "Oxide"}


@on_old_flask
def test_answer_names_our_version(start, label_studio):
    """Each prediction does; the application's own version is not ours to choose."""
    app, task = start(), label_studio.task(drafts=[draft(*STROKES, prompt())])
    app.post("/setup", json={"project": PROJECT, "schema": LABEL_CONFIG})
    (prediction,) = app.post("/predict", json=ask_body(task)).get_json()["results"]
    assert prediction["model_version"] == MODEL_VERSION


def test_batch_without_a_prompt_gives_what_is_known(bind, label_studio):
    """Before any stroke: nothing."""
    (prediction,) = bind()(label_config=LABEL_CONFIG).predict([label_studio.task()])
    assert prediction["result"] == []


@on_old_flask
def test_mistake_is_told(start, label_studio):
    """The sentence is in the answer."""
    app, task = start(), label_studio.task(data={"image": "http://example.com/a.png"})
    app.post("/setup", json={"project": PROJECT, "schema": LABEL_CONFIG})
    answer = app.post("/predict", json=ask_body(task | {"drafts": [draft(*STROKES, prompt())]}))
    assert answer.status_code == 500
    assert "is not on" in answer.get_json()["detail"]


def versions(label_studio):
    """Return the versions of the predictions that Label Studio holds."""
    return [prediction["model_version"] for prediction in label_studio.predictions]


def test_fit_as_version_2_calls_it(bind, label_studio):
    """`fit(event, data)` returns when the prediction is in Label Studio."""
    event = label_studio.submit(*STROKES)
    assert bind()().fit(event["action"], event) == {"model_version": MODEL_VERSION}
    assert versions(label_studio) == [MODEL_VERSION]


def test_event_as_version_1_hands_it_over(bind, label_studio, tmp_path):
    """Through its job manager, which would call `fit` with the event twice."""
    LabelStudioMLManager.initialize(bind(), model_dir=str(tmp_path / "jobs"))
    manager, event = LabelStudioMLManager.get_job_manager(), label_studio.submit(*STROKES)
    manager.job(LabelStudioMLManager.model_class, event.pop("action"), event, "123")
    assert versions(label_studio) == [MODEL_VERSION]
    assert json.loads((tmp_path / "jobs/123/job_result.json").read_text()) == {
        "model_version": MODEL_VERSION
    }


def test_train_of_old_versions_is_ignored(bind, label_studio):
    """It streams tasks and a folder, and names no event."""
    assert bind()().fit(iter([{"id": 7}]), "workdir") == {"model_version": MODEL_VERSION}
    assert versions(label_studio) == []


@pytest.mark.parametrize("event", ["ANNOTATIONS_DELETED", "PROJECT_UPDATED"])
def test_event_without_a_lesson_is_taken(bind, label_studio, event):
    """Nothing to learn is no mistake."""
    assert bind()().fit(event, {"action": event, "project": {"id": 1}}) == {
        "model_version": MODEL_VERSION
    }
    assert versions(label_studio) == []


def test_failed_training_is_told(bind, label_studio):
    """Not hidden in a thread: label-studio-ml logs it."""
    event = label_studio.submit({**STROKES[0], "original_width": 99}, STROKES[1])
    with pytest.raises(ValueError, match="was the image replaced"):
        bind()().fit(event["action"], event)


def test_overtaken_submission_is_no_mistake(bind, label_studio):
    """Three submissions of one task: the second is cancelled, and all three return."""
    busy, release = threading.Event(), threading.Event()

    def slow_guide(*args, **kwargs):
        busy.set()
        release.wait(10)
        return QUICK_GUIDE(*args, **kwargs)

    event, backend, answers = label_studio.submit(*STROKES), bind(slow_guide)(), []

    def fit():
        answers.append(backend.fit(event["action"], event))

    threads = [threading.Thread(target=fit) for _ in range(3)]
    threads[0].start()
    assert busy.wait(10)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(1)
    release.set()
    for thread in threads:
        thread.join(10)
    assert answers == [{"model_version": MODEL_VERSION}] * 3


@pytest.mark.usefixtures("environ")
def test_unbound_class_takes_its_service_from_the_environment(label_studio):
    """One for the process."""
    model._service_from_environment.cache_clear()
    backends = [GuideBackend(label_config=LABEL_CONFIG) for _ in range(2)]
    (prediction,) = backends[0].predict([label_studio.task()])
    assert prediction["result"] == []
    assert backends[0]._service() is backends[1]._service()
    backends[0]._service().close()
    model._service_from_environment.cache_clear()


class SecondVersionBase:
    """What label-studio-ml 2.x gives to a backend, as far as ours uses it."""

    def __init__(self, project_id=None, label_config=None):
        self.cache = {}
        self.project_id, self.label_config = project_id, label_config
        self.setup()

    def set(self, key, value):
        """Keep a value of the project."""
        self.cache[key] = value


@pytest.fixture
def second(monkeypatch):
    """Our module as it is under label-studio-ml 2.x, which the package index does not have."""
    base = types.ModuleType("label_studio_ml.model")
    base.LabelStudioMLBase, base.TRAIN_EVENTS = SecondVersionBase, ()
    package = types.ModuleType("label_studio_ml")
    package.model = base
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", base)
    spec = importlib.util.spec_from_file_location("second_model", model.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("environ")
def test_second_version_learns_our_version(second):
    """Its `/setup` answers from its own cache."""
    backend = second.GuideBackend("1", LABEL_CONFIG)
    assert backend.cache == {"model_version": MODEL_VERSION}
    assert (backend.project_id, backend.label_config) == ("1", LABEL_CONFIG)


@pytest.mark.usefixtures("environ")
def test_second_version_hands_over_our_events(second):
    """It looks them up in its module; its application takes no folder."""
    assert "ANNOTATIONS_DELETED" in second.label_studio_ml_model.TRAIN_EVENTS
    assert second.app_options(Settings()) == {}


def wait_until(condition, process, timeout_s=120):
    """Wait for another process."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the server stopped"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def is_up(url):
    """Tell whether a server answers."""
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def post(url, body, **options):
    """Call the application."""
    return httpx.post(url, json=body, trust_env=False, **options)


def test_entry_serves_a_deployment(environ, label_studio, tmp_path):
    """A submission goes through `backend._wsgi`, its spawned process and back to Label Studio."""
    port = free_port()
    url, serve = f"http://127.0.0.1:{port}", "from backend._wsgi import app; app.run(port={})"
    password = {"BASIC_AUTH_USER": "ls", "BASIC_AUTH_PASS": "pass-w0rd", "LOG_LEVEL": "DEBUG"}
    quiet = {**os.environ, **environ, **password, "OMP_NUM_THREADS": "1"}
    secret = {HEADER: webhook_secret("ls", "pass-w0rd")}
    command = [sys.executable, "-c", serve.format(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=quiet, stdout=log, stderr=log)  # noqa: S603 - ours
        try:
            wait_until(lambda: is_up(url), process)
            event = label_studio.submit(*STROKES)
            for headers in ({}, {HEADER: "guessed"}):
                assert post(f"{url}/webhook", event, headers=headers).status_code == 401
            assert post(f"{url}/predict", {"tasks": []}, headers=secret).status_code == 401
            assert post(f"{url}/versions", {"project": "1"}, auth=("ls", "pass-w0rd")).is_success
            assert post(f"{url}/webhook", event, headers=secret).status_code == 201
            wait_until(lambda: versions(label_studio) == [MODEL_VERSION], process)
        finally:
            process.terminate()
            process.wait(20)
    assert list(Path(environ["MODEL_DIR"]).glob("tasks/7-*/prediction.npz"))
    logged = (tmp_path / "log").read_text()
    assert "wrong user or password" in logged
    assert "pass-w0rd" not in logged
    assert secret[HEADER] not in logged
