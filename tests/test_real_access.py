"""Keys, passwords and secrets between a real Label Studio and the real backend."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from label_studio_stand_in import png, stroke, two_halves

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import write_label_config
from backend.annotation.projects import ensure_project, import_image
from backend.annotation.webhook_secret import HEADER
from backend.errors import ForbiddenImageError, LabelStudioError
from backend.microscope.images import decode_image
from backend.trials.team import training_status
from backend.work.training_process import ENDED
from scripts.connect import main as connect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

STROKES = [stroke("s1", "Si", 20), stroke("s2", "Oxide", 80)]


@pytest.fixture(scope="module")
def project(workplace):
    """A project with one image, and not connected yet."""
    config = write_label_config(["Si", "Oxide"])
    project, _ = ensure_project(workplace.client, "Who may do what", config)
    import_image(workplace.client, project, "halves.png", png(two_halves()))
    return project


@pytest.fixture(scope="module")
def task(workplace, project):
    """Its task."""
    return next(workplace.client.tasks(project))


@pytest.fixture(scope="module")
def personal_token(workplace):
    """A personal access token of the demo's user, beside its legacy token."""
    http = workplace.client.http
    both = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    assert http.post("/api/jwt/settings", json=both).is_success
    made = http.post("/api/token/")
    assert made.status_code == 201, made.text
    return made.json()["token"]


@pytest.fixture
def connected(workplace, project, monkeypatch):
    """Connect the project by the command, as a user does."""
    variables = {
        "LABEL_STUDIO_URL": workplace.url,
        "LABEL_STUDIO_API_KEY": workplace.keys.token,
        "BASIC_AUTH_USER": workplace.backend.user,
        "BASIC_AUTH_PASS": workplace.backend.password,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert connect([str(project), "--backend-url", workplace.backend.url]) == 0
    return project


def test_personal_access_token_opens_all_that_the_legacy_token_does(
    workplace, project, task, personal_token
):
    """Reading tasks and images, and writing predictions."""
    assert personal_token.count(".") == 2
    with LabelStudioClient(workplace.url, personal_token) as client:
        images = ImageSource(client, None, max_bytes=1_000_000)
        np.testing.assert_array_equal(
            decode_image(images.read(task["data"]["image"])), two_halves()
        )
        assert client.project(project) == workplace.client.project(project)
        made = client.replace_predictions(
            task["id"], result=[], score=0.5, model_version="personal-v1", prefix="personal"
        )
        assert made in [stored["id"] for stored in client.predictions(task["id"])]
        with pytest.raises(ForbiddenImageError):
            images.read(f"{workplace.url}/data/../api/users")


@pytest.mark.parametrize("key", ["0" * 40, "a.b.c"], ids=["legacy", "personal"])
def test_wrong_key_is_said(workplace, project, key):
    """By the name of its setting."""
    with (
        LabelStudioClient(workplace.url, key) as client,
        pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY"),
    ):
        client.project(project)


def test_command_gives_label_studio_the_password_and_webhooks_their_secret(workplace, connected):
    """No user of Label Studio can read the password; the secret of webhooks they can."""
    told = workplace.client.http.get("/api/ml/", params={"project": connected}).json()
    (connection,) = told
    assert (connection["auth_method"], connection["basic_auth_user"]) == (
        "BASIC_AUTH", workplace.backend.user,
    )  # fmt: skip
    assert connection["basic_auth_pass_is_set"]
    webhooks = workplace.client.http.get("/api/webhooks/", params={"project": connected}).json()
    assert [webhook["headers"] for webhook in webhooks] == [workplace.backend.webhook_headers]
    shown = json.dumps([told, webhooks])
    assert workplace.backend.password not in shown
    assert workplace.backend.authorization not in shown


@pytest.mark.usefixtures("connected")
def test_submission_reaches_the_backend_by_its_secret(workplace, task):
    """Label Studio sends the webhook, the backend trains and stores a prediction."""
    submit(workplace, task)
    wait_until(lambda: "tem-guide" in versions(workplace, task))


def test_webhook_without_the_secret_is_refused(workplace, connected, task):
    """Somebody took the header out: the submission stays, and nothing is learned."""
    (webhook,) = workplace.client.sdk.webhooks.list(project=str(connected))
    workplace.client.sdk.webhooks.update(webhook.id, url=webhook.url, headers={HEADER: "guessed"})
    drop_predictions(workplace, task)
    submitted = submit(workplace, task)
    time.sleep(5)
    assert versions(workplace, task) == ""
    assert workplace.client.annotation(submitted)["id"] == submitted


def test_start_training_carries_the_password(workplace, connected):
    """Label Studio's own call, which has no headers of ours."""
    (connection,) = workplace.client.sdk.ml.list(project=connected)
    workplace.client.sdk.ml.train(id=connection.id)
    wait_until(lambda: training_status(workplace.backend).project == connected)
    wait_until(lambda: training_status(workplace.backend).state in ENDED)


def submit(workplace, task):
    """Submit an annotation with two strokes, as the editor does; return its number."""
    body = {"result": STROKES, "lead_time": 1}
    made = workplace.client.http.post(f"/api/tasks/{task['id']}/annotations/", json=body)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def versions(workplace, task):
    """The versions of all predictions of a task, of whose backend ever."""
    stored = workplace.client.predictions(task["id"])
    return " ".join(str(p["model_version"]) for p in stored if p["model_version"] != "personal-v1")


def drop_predictions(workplace, task):
    """Delete all predictions of a task, once no training of it runs any more."""
    time.sleep(3)
    for stored in workplace.client.predictions(task["id"]):
        workplace.client.sdk.predictions.delete(stored["id"])


def wait_until(condition, timeout_s=400):
    """Wait for the backend's work."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.3)
