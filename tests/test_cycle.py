"""One round of the cycle, on a stand-in of Label Studio: export, training, publication, status."""

import json

import pytest
from label_studio_stand_in import HALVES, TICK, LabelStudioStandIn, masks, submitted

from backend import cycle
from backend.learning.registry import Registry
from backend.store import GuideStore
from backend.training_process import TrainingStatus


@pytest.fixture
def label_studio(loopback):
    """A Label Studio whose one task is finished."""
    stand_in = LabelStudioStandIn(loopback)
    stand_in.set_task(3, submitted(30, *masks(HALVES), TICK))
    return stand_in


@pytest.fixture
def folder(label_studio, tmp_path, monkeypatch):
    """The state folder of a backend whose trainings are short."""
    variables = {
        "LABEL_STUDIO_URL": label_studio.server.url, "LABEL_STUDIO_API_KEY": "0" * 40,
        "MODEL_DIR": str(tmp_path), "TRAIN_STEPS": "3", "TRAIN_CROP_PX": "128",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    GuideStore(tmp_path).close()
    return tmp_path


def test_finished_ground_truth_becomes_a_published_model(folder):
    """And the status tells so; what was under way is removed."""
    assert cycle.main(["1"]) == 0
    status = TrainingStatus.read(folder / "training.json")
    assert (status.state, status.project, status.progress) == ("published", 1, 1.0)
    assert "1 tasks added" in status.sentence
    assert Registry(folder / "models").published().materials == ("Si", "Oxide")
    manifest = json.loads((folder / "ground-truth" / "project-1" / "manifest.json").read_text())
    assert len(manifest["images"]) == 1
    assert not list((folder / "models-training").glob("*"))


def test_without_ground_truth_nothing_is_trained(folder, label_studio):
    """In one sentence."""
    label_studio.set_task(3, submitted(30, *masks(HALVES)))
    assert cycle.main(["1"]) == 0
    status = TrainingStatus.read(folder / "training.json")
    assert (status.state, status.sentence) == (
        "not published", "no annotation is finished: tick Finished GT and submit",
    )  # fmt: skip
    assert Registry(folder / "models").published() is None


def test_failure_is_told(folder, monkeypatch):
    """The published model stays; the sentence says what to do."""
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert cycle.main(["1"]) == 1
    status = TrainingStatus.read(folder / "training.json")
    assert status.state == "failed"
    assert "does not answer" in status.sentence
