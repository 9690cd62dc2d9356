"""Annotators at work while the shared model is trained, each in a real process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from label_studio_stand_in import (
    HALVES,
    LABEL_CONFIG,
    TICK,
    LabelStudioStandIn,
    draft,
    masks,
    prompt,
    stroke,
    submitted,
)
from loopback import Answer

from backend.trials.demo_servers import BACKEND_USER, backend_server, load_keys
from backend.trials.processes import free_port

SHORT = {"TRAIN_STEPS": "2", "TRAIN_FOLDS": "2", "TRAIN_CROP_PX": "128", "OMP_NUM_THREADS": "1"}
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))
QUICK_S = 2.0  # typically milliseconds; a machine that also runs other tests is slow at times


@dataclass
class Seen:
    """What somebody saw who worked until the training had ended."""

    health_s: list[float] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)
    told: list[dict] = field(default_factory=list)  # by `/training`


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with two finished tasks, and one that is drawn on."""
    stand_in = LabelStudioStandIn(loopback)
    for number in (3, 4):
        stand_in.set_task(number, submitted(10 * number, *masks(HALVES), TICK))
    project = {"id": 1, "label_config": LABEL_CONFIG}
    loopback.answer("PATCH", "/api/projects/1/", Answer(project))
    return stand_in


@pytest.fixture
def backend(label_studio, tmp_path):
    """A backend that works for it."""
    keys = load_keys(tmp_path)
    url = label_studio.server.url
    with (
        backend_server(tmp_path, free_port(), keys, url, SHORT) as address,
        httpx.Client(
            base_url=address.url,
            auth=(BACKEND_USER, keys.backend_password),
            timeout=120,
            trust_env=False,
        ) as client,
    ):
        yield client


def work_until_trained(backend, body):
    """Ask again and again, look at `/health` and `/training`, until the training has ended."""
    seen = Seen()
    deadline = time.monotonic() + 400
    while not seen.told or seen.told[-1]["state"] in ("exporting", "training"):
        assert time.monotonic() < deadline, seen.told[-1]
        asked = {"tasks": [body], "label_config": LABEL_CONFIG, "project": "1.5",
                 "params": {"context": {"result": [prompt()]}}}  # fmt: skip
        (answer,) = backend.post("/predict", json=asked).raise_for_status().json()["results"]
        seen.answers.append(answer)
        for _ in range(5):
            started = time.monotonic()
            backend.get("/health").raise_for_status()
            seen.health_s.append(time.monotonic() - started)
        seen.told.append(backend.get("/training").raise_for_status().json())
    return seen


@pytest.mark.timeout(600)
def test_annotators_go_on_while_the_shared_model_is_trained(backend, label_studio, tmp_path):
    """Answers come, `/health` stays quick, progress is told, and the strokes are kept."""
    start = {"action": "START_TRAINING", "project": {"id": 1}}
    backend.post("/webhook", json=start).raise_for_status()
    backend_told = backend.get("/training").json
    while backend_told()["state"] == "never started":
        time.sleep(0.05)
        backend_told = backend.get("/training").json

    seen = work_until_trained(backend, label_studio.task(drafts=[draft(*STROKES, prompt())]))

    assert seen.told[-1]["state"] == "published", seen.told[-1]
    progress = [told["progress"] for told in seen.told if told["state"] == "training"]
    assert progress == sorted(progress)
    assert progress[-1] > 0
    during = seen.answers[: len(progress)]
    assert len(during) > 1
    for answer in during:
        assert {r["value"].get("brushlabels", [""])[0] for r in answer["result"]} >= {"Si", "Oxide"}
    assert np.median(seen.health_s) < QUICK_S / 20
    assert max(seen.health_s) < QUICK_S
    assert list((tmp_path / "backend").rglob("scribbles.png"))
