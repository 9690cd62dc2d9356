"""The shared model in Label Studio: untouched tasks get its predictions, others keep theirs."""

import threading
import time

import numpy as np
import pytest
import torch
from label_studio_stand_in import (
    LABEL_CONFIG,
    LabelStudioStandIn,
    draft,
    prompt,
    stroke,
    submitted,
    two_halves,
)
from loopback import Answer
from taught_network import taught_network

from backend import Guide, GuideSettings, TrainingSettings
from backend.annotation.client import LabelStudioClient
from backend.annotation.task_columns import state_column
from backend.learning import networks
from backend.learning.registry import Registry
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.work.handover import Job
from tests.test_registry import CARD

SMALL = GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=128))
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))


@pytest.fixture(scope="module")
def network():
    """A network that has learned the image of the one task."""
    image = networks.pad_image(two_halves().astype(np.float32) / 255)
    return taught_network(image, (image > np.float32(0.5)).astype(np.uint8))


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one task, which lists it and takes changes."""
    stand_in = LabelStudioStandIn(loopback)
    stand_in.tasks[7] = {**stand_in.task(), "total_annotations": 0}
    project = {"id": 1, "label_config": LABEL_CONFIG}
    loopback.answer("PATCH", "/api/projects/1/", Answer(project))
    return stand_in


@pytest.fixture
def registry(tmp_path):
    """The shared models of the backend."""
    return Registry(tmp_path / "models")


@pytest.fixture
def service(label_studio, tmp_path):
    """A service on an empty state folder."""

    def make(*arguments, **options):
        return Guide(*arguments, settings=SMALL, **options)

    settings = Settings(
        label_studio_url=label_studio.server.url,
        label_studio_api_key="0" * 40,
        model_dir=tmp_path,
    )
    client = LabelStudioClient(settings.label_studio_url, "0" * 40, timeout_s=5)
    service = GuideService(settings, client, make)
    yield service
    service.close()


@pytest.fixture
def published(registry, network):
    """The network is published as the first version."""
    return registry.publish(registry.add(network, CARD).version)


def wait_until(condition, timeout_s=60):
    """Wait for the worker."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def publish_other(registry):
    """Publish a model of other materials."""
    torch.manual_seed(0)
    other = CARD.__class__(**{**vars(CARD), "materials": ("Si", "Metal")})
    registry.publish(registry.add(networks.SharedNetwork(2, "random"), other).version)


def requests_when_quiet(label_studio):
    """How many requests came, once there have been none for a while."""
    counts = [-1, len(label_studio.server.requests)]
    while counts[-1] != counts[-2]:
        time.sleep(1)
        counts.append(len(label_studio.server.requests))
    return counts[-1]


def served(label_studio):
    """The version that the project was told to serve last; "" if none."""
    patched = [r for r in label_studio.server.requests if r.method == "PATCH"]
    told = [r.json()["model_version"] for r in patched if r.path == "/api/projects/1/"]
    return told[-1] if told else ""


@pytest.mark.usefixtures("published")
def test_opened_task_is_segmented_without_a_stroke(service, label_studio):
    """By the published model, whose version the prediction names; managers see it too."""
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    masks = {r["value"]["brushlabels"][0] for r in answer["result"] if r["from_name"] == "seg"}
    assert masks == {"Si", "Oxide"}
    assert answer["model_version"] == service.model_version == "tem-guide-v1"
    assert answer["score"] > 0.8
    columns = label_studio.shown[7]
    wait_until(lambda: "guide_strokes" in columns)
    assert (columns["guide_state"], columns["guide_model"]) == ("new", "tem-guide-v1")
    assert columns["guide_uncertainty"] == pytest.approx(1 - answer["score"], abs=1e-3)


def test_without_a_model_an_opened_task_stays_empty(service, label_studio):
    """As before."""
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    assert (answer["result"], answer["model_version"]) == ([], "tem-guide-v0")


def test_model_of_other_materials_is_not_used(service, label_studio, registry, caplog):
    """The log says which it does not know; the guide works without it."""
    publish_other(registry)
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    (answer,) = service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    assert answer["result"]
    assert "knows Si, Metal but not Oxide" in caplog.text
    wait_until(lambda: label_studio.shown[7].get("guide_model") == "tem-guide-v0")


@pytest.mark.usefixtures("published")
def test_turns_are_counted_for_managers(service, label_studio):
    """With strokes, uncertainty and state; finished when the annotator says so."""
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    for _ in range(2):
        service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    columns = label_studio.shown[7]
    wait_until(lambda: columns.get("guide_turns") == 2 and "guide_strokes" in columns)
    assert (columns["guide_state"], columns["guide_strokes"]) == ("scribbled", 2)
    service.handle_event(
        "ANNOTATION_CREATED", label_studio.submit(*STROKES, ground_truth=True)
    ).result(60)
    wait_until(lambda: columns["guide_state"] == "finished")
    assert columns["guide_turns"] == 2


def test_untouched_tasks_get_new_predictions_after_a_publication(
    service, label_studio, registry, network
):
    """And the project orders by them."""
    label_studio.predictions.append({"id": 1, "model_version": "tem-guide-v0", "task": 7})
    registry.publish(registry.add(network, CARD).version)
    service._shared.renew_when_idle(1)
    wait_until(lambda: served(label_studio) == "tem-guide-v1")
    (prediction,) = label_studio.predictions
    assert (prediction["id"], prediction["model_version"]) == (2, "tem-guide-v1")


@pytest.mark.usefixtures("published")
def test_project_is_renewed_page_by_page(service, label_studio, monkeypatch):
    """The version is served once, after the last; no answer waits for a page that is late."""
    for name in ("annotation.client", "work.shared_predictions"):
        monkeypatch.setattr(f"backend.{name}.TASKS_A_PAGE", 1)
    label_studio.tasks[8] = {**label_studio.tasks[7], "id": 8}
    pages, gate = label_studio.server.routes["GET", "/api/tasks/"], threading.Event()

    def list_late(request):
        assert gate.wait(60)
        return pages(request)

    label_studio.server.routes["GET", "/api/tasks/"] = list_late
    service._shared.renew_when_idle(1)
    body = label_studio.task(id=9, drafts=[draft(*STROKES, prompt())])
    (answer,) = service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    assert answer["result"]
    assert label_studio.predictions == []
    gate.set()
    wait_until(lambda: served(label_studio))
    assert [prediction["task"] for prediction in label_studio.predictions] == [7, 8]
    assert label_studio.server.paths("PATCH").count("/api/projects/1/") == 1


@pytest.mark.usefixtures("published")
def test_task_that_is_worked_on_keeps_its_answer(service, label_studio):
    """Strokes count more than the model; it is still found in the order by uncertainty."""
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    (answer,) = service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    service._shared.renew_when_idle(1)
    wait_until(lambda: served(label_studio))
    (prediction,) = label_studio.predictions
    assert prediction["score"] == pytest.approx(answer["score"], abs=0.05)
    assert prediction["model_version"] == "tem-guide-v1"
    wait_until(lambda: label_studio.shown[7].get("guide_state") == "scribbled")


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("told_by", ["counter", "column"])
def test_finished_task_gets_no_new_prediction(service, label_studio, told_by):
    """Nobody needs it, and it would take time; either may lag behind in Label Studio."""
    if told_by == "counter":
        label_studio.tasks[7]["total_annotations"] = 1
    else:
        label_studio.tasks[7]["data"] |= state_column("finished")
    service._shared.renew_when_idle(1)
    wait_until(lambda: served(label_studio))
    assert label_studio.predictions == []


@pytest.mark.usefixtures("published")
def test_new_task_is_segmented_when_it_is_imported(service, label_studio):
    """Those that have a prediction are left alone."""
    label_studio.tasks[8] = {**label_studio.tasks[7], "id": 8, "total_predictions": 1}
    service.handle_event("TASKS_CREATED", {"tasks": [{"id": 7}], "project": {"id": 1}})
    wait_until(lambda: served(label_studio))
    assert [prediction["task"] for prediction in label_studio.predictions] == [7]


def test_model_published_by_hand_is_found_when_the_project_opens(
    service, label_studio, registry, network
):
    """Also after a rollback; what is served already is not done again."""
    service.project_opened("1.1795335132")  # before there is a model
    one, two = (registry.add(network, CARD) for _ in range(2))
    for version in (one, two):
        registry.publish(version.version)
        service.project_opened("1.1795335132")
        wait_until(lambda: served(label_studio) == service.model_version)
    registry.roll_back()
    service.project_opened("1.1795335132")
    wait_until(lambda: served(label_studio) == "tem-guide-v1")
    asked = requests_when_quiet(label_studio)
    service.project_opened("1.1795335132")
    service.project_opened("")  # an old Label Studio may not tell
    time.sleep(0.3)
    assert len(label_studio.server.requests) == asked


def serve(label_studio, version):
    """Let the project tell that it serves a version."""
    project = {"id": 1, "label_config": LABEL_CONFIG, "model_version": version}
    label_studio.server.answer("GET", "/api/projects/1/", Answer(project))


@pytest.fixture
def predicted(service, label_studio, published):
    """The published model has segmented the one task, and the project orders by it."""
    service._shared.renew_when_idle(1)
    wait_until(lambda: served(label_studio) == "tem-guide-v1")
    serve(label_studio, "tem-guide-v1")
    assert label_studio.predictions[0]["result"]
    return published


@pytest.mark.usefixtures("predicted")
def test_answers_go_with_the_only_model(service, label_studio, registry):
    """Nobody stands by them: they must not stay under the name of version 0."""
    registry.roll_back()
    service.project_opened("1.1795335132")
    wait_until(lambda: served(label_studio) == "tem-guide-v0")
    (prediction,) = label_studio.predictions
    assert (prediction["result"], prediction["model_version"]) == ([], "tem-guide-v0")
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    assert (answer["result"], answer["model_version"]) == ([], "tem-guide-v0")
    columns = label_studio.shown[7]
    wait_until(
        lambda: columns["guide_model"] == "tem-guide-v0" and not columns["guide_uncertainty"]
    )


@pytest.mark.usefixtures("predicted")
def test_opened_task_shows_nothing_of_a_model_that_was_taken_back(service, label_studio, registry):
    """Also before its project was brought up to date."""
    registry.roll_back()
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    assert (answer["result"], answer["model_version"]) == ([], "tem-guide-v0")


@pytest.mark.usefixtures("predicted")
def test_answers_stay_while_it_cannot_be_read_which_model_serves(service, label_studio, registry):
    """A damaged file is no rollback."""
    (registry.folder / "published.json").write_text("{")
    service.project_opened("1.1795335132")
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    assert answer["result"]
    requests_when_quiet(label_studio)
    assert [one["model_version"] for one in label_studio.predictions] == ["tem-guide-v1"]
    assert served(label_studio) == "tem-guide-v1"


@pytest.mark.usefixtures("published")
def test_task_whose_annotation_was_deleted_is_untouched_again(service, label_studio):
    """Managers see it, and it has a prediction again; Label Studio does not tell which it is."""
    label_studio.set_task(8, guide_state="finished")
    label_studio.set_task(9, submitted(90, ground_truth=True), guide_state="exported")
    body = {"annotations": [{"id": 5}], "project": {"id": 1}}
    service.handle_event("ANNOTATIONS_DELETED", body)
    wait_until(lambda: label_studio.predictions)
    assert [one["task"] for one in label_studio.predictions] == [8]
    assert label_studio.shown[8]["guide_state"] == "new"
    assert 9 not in label_studio.shown


def test_full_queue_of_idle_jobs_is_told(service, monkeypatch, caplog):
    """What it costs is in the log, not only that a server shuts down, which costs nothing."""
    job = Job("nothing", "first", "first", {}, "idle", "task 7 keeps its old prediction")
    monkeypatch.setattr("backend.work.jobs.MAX_WAITING", 0)
    service._resources.when_idle(job)
    assert "task 7 keeps its old prediction: 0 jobs wait already" in caplog.text
    service.jobs.close()
    service._resources.when_idle(job)
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("published")
def test_project_that_serves_the_model_is_left_alone(service, label_studio):
    """After a restart of the backend, one look is enough."""
    serve(label_studio, "tem-guide-v1")
    service.project_opened("1.1795335132")
    wait_until(lambda: "/api/projects/1/" in label_studio.server.paths())
    time.sleep(0.3)
    assert (served(label_studio), label_studio.predictions) == ("", [])


def test_model_of_other_materials_renews_nothing(service, label_studio, registry, caplog):
    """Predictions of earlier models stay, and the project goes on serving them."""
    publish_other(registry)
    service._shared.renew_when_idle(1)
    wait_until(lambda: "knows Si, Metal but not Oxide" in caplog.text)
    time.sleep(0.3)
    assert (served(label_studio), label_studio.predictions) == ("", [])


def test_start_training_starts_it(service, monkeypatch):
    """In the background; a second click while it runs changes nothing."""
    started = []
    monkeypatch.setattr(
        service._training, "start", lambda project, _: started.append(project) or True
    )
    service.handle_event("START_TRAINING", {"project": {"id": 4}}).result(10)
    assert started == [4]
    assert service.training.state == "never started"
