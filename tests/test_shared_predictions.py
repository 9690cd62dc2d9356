"""The shared model in Label Studio: untouched tasks get its predictions, others keep theirs."""

import time

import numpy as np
import pytest
import torch
from label_studio_stand_in import (
    HALVES,
    LABEL_CONFIG,
    LabelStudioStandIn,
    draft,
    prompt,
    stroke,
    two_halves,
)
from loopback import Answer

from backend import Guide, GuideSettings, TrainingSettings
from backend.annotation.client import LabelStudioClient
from backend.learning import networks
from backend.learning.image_network import ImageNetwork
from backend.learning.registry import Registry
from backend.service import GuideService
from backend.settings import Settings
from tests.test_registry import CARD

SMALL = GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=64))
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))


@pytest.fixture(scope="module")
def network():
    """A network that has learned the image of the one task."""
    image = networks.pad_image(two_halves().astype(np.float32) / 255)
    teacher = ImageNetwork(image, 2, TrainingSettings(crop_px=64), seed=0)
    truth = networks.pad_scribbles(HALVES)
    teacher.train(truth, np.full((2, *image.shape), 0.5, np.float32), steps=40)
    network = networks.build_network(2, "random")
    network.load_state_dict(teacher.weights())
    return network.eval()


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one task, which lists it and takes changes."""
    stand_in = LabelStudioStandIn(loopback)
    stand_in.tasks[7] = {**stand_in.task(), "total_annotations": 0}
    loopback.answer("PATCH", "/api/tasks/7/", Answer(stand_in.task()))
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


def columns_of(label_studio):
    """What was written into the data of the task, the newest last."""
    patched = [r for r in label_studio.server.requests if r.method == "PATCH"]
    bodies = [r.json() for r in patched if r.path == "/api/tasks/7/"]
    return [body["data"] for body in bodies if "data" in body]


@pytest.mark.usefixtures("published")
def test_opened_task_is_segmented_without_a_stroke(service, label_studio):
    """By the published model, whose version the prediction names; managers see it too."""
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    masks = {r["value"]["brushlabels"][0] for r in answer["result"] if r["from_name"] == "seg"}
    assert masks == {"Si", "Oxide"}
    assert answer["model_version"] == service.model_version == "tem-guide-v1"
    assert answer["score"] > 0.8
    wait_until(lambda: columns_of(label_studio))
    columns = columns_of(label_studio)[-1]
    assert columns["image"] == "/data/upload/1/a.png"
    assert (columns["guide_state"], columns["guide_model"]) == ("new", "tem-guide-v1")
    assert columns["guide_uncertainty"] == pytest.approx(1 - answer["score"], abs=1e-3)


def test_without_a_model_an_opened_task_stays_empty(service, label_studio):
    """As before."""
    (answer,) = service.predict([label_studio.task()], LABEL_CONFIG, None)
    assert (answer["result"], answer["model_version"]) == ([], "tem-guide-v0")


def test_model_of_other_materials_is_not_used(service, label_studio, registry, caplog):
    """The log says which it does not know; the guide works without it."""
    torch.manual_seed(0)
    other = CARD.__class__(**{**vars(CARD), "materials": ("Si", "Metal")})
    registry.publish(registry.add(networks.build_network(2, "random"), other).version)
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    (answer,) = service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    assert answer["result"]
    assert "knows Si, Metal but not Oxide" in caplog.text


@pytest.mark.usefixtures("published")
def test_turns_are_counted_for_managers(service, label_studio):
    """With strokes, uncertainty and state; finished when the annotator says so."""
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    for _ in range(2):
        service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    wait_until(
        lambda: columns_of(label_studio) and columns_of(label_studio)[-1]["guide_turns"] == 2
    )
    columns = columns_of(label_studio)[-1]
    assert (columns["guide_state"], columns["guide_strokes"]) == ("scribbled", 2)
    service.handle_event(
        "ANNOTATION_CREATED", label_studio.submit(*STROKES, ground_truth=True)
    ).result(60)
    wait_until(lambda: columns_of(label_studio)[-1]["guide_state"] == "finished")
    assert columns_of(label_studio)[-1]["guide_turns"] == 2


def test_untouched_tasks_get_new_predictions_after_a_publication(
    service, label_studio, registry, network
):
    """And the project orders by them."""
    label_studio.predictions.append({"id": 1, "model_version": "tem-guide-v0", "task": 7})
    registry.publish(registry.add(network, CARD).version)
    service._shared.renew(1)
    wait_until(lambda: "/api/projects/1/" in label_studio.server.paths("PATCH"))
    (prediction,) = label_studio.predictions
    assert (prediction["id"], prediction["model_version"]) == (2, "tem-guide-v1")
    served = [r for r in label_studio.server.requests if r.path == "/api/projects/1/"][-1]
    assert served.json()["model_version"] == "tem-guide-v1"


@pytest.mark.usefixtures("published")
def test_task_that_is_worked_on_keeps_its_prediction(service, label_studio):
    """Strokes count more than the model."""
    body = label_studio.task(drafts=[draft(*STROKES, prompt())])
    service.predict([body], LABEL_CONFIG, {"result": [prompt()]})
    service._shared.renew(1)
    wait_until(lambda: "/api/projects/1/" in label_studio.server.paths("PATCH"))
    assert label_studio.predictions == []


def test_start_training_starts_it(service, monkeypatch):
    """In the background; a second click while it runs changes nothing."""
    started = []
    monkeypatch.setattr(
        service._training, "start", lambda project, _: started.append(project) or True
    )
    service.handle_event("START_TRAINING", {"project": {"id": 4}}).result(10)
    assert started == [4]
    assert service.training.state == "never started"
