"""The application with a password, for a Label Studio of one task with two strokes."""

from __future__ import annotations

from functools import partial

from label_studio_stand_in import LABEL_CONFIG, draft, prompt, stroke

from backend import Guide, GuideSettings, TrainingSettings
from backend.annotation.client import LabelStudioClient
from backend.serving.server import create_app
from backend.serving.service import GuideService
from backend.settings import Settings

USER, PASSWORD = "ls", "pw-of-nothing"
SMALL_GUIDE = partial(
    Guide,
    settings=GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=64)),
)


def watched_settings(url, folder):
    """Make settings with a password."""
    return Settings(
        label_studio_url=url, label_studio_api_key="0" * 40, model_dir=folder / "state",
        draft_timeout_s=0.3, basic_auth_user=USER, basic_auth_pass=PASSWORD,
    )  # fmt: skip


def watched_app(settings):
    """Make the application, whose guides are small."""
    client = LabelStudioClient(settings.label_studio_url, "0" * 40, timeout_s=5)
    return create_app(settings, GuideService(settings, client, SMALL_GUIDE))


def ask(app, label_studio):
    """Ask for an answer to two strokes."""
    strokes = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))
    task = label_studio.task(drafts=[draft(*strokes, prompt())])
    body = {"tasks": [task], "label_config": LABEL_CONFIG, "project": "1.7",
            "params": {"context": {"result": [prompt()]}}}  # fmt: skip
    answer = app.post("/predict", json=body)
    assert answer.json()["results"][0]["result"], answer.text
