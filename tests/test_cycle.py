"""One round of the cycle, on a stand-in of Label Studio: export, training, publication, status."""

import json

import numpy as np
import pytest
from label_studio_stand_in import HALVES, TICK, LabelStudioStandIn, masks, submitted
from loopback import Answer

from backend.annotation.label_config import write_label_config
from backend.files import take_lock
from backend.learning.registry import Registry
from backend.settings import Settings
from backend.state.store import GuideStore
from backend.work import cycle
from backend.work.training_process import TrainingStatus


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
    card = Registry(folder / "models").published()
    assert card.materials == ("Si", "Oxide")
    assert card.origins["project-1-task-3"]["annotation"] == 30
    (manifest,) = (folder / "ground-truth").glob("project-1-*/manifest.json")
    assert len(json.loads(manifest.read_text())["images"]) == 1
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


@pytest.mark.parametrize("materials", [("Si", "Metal", "Oxide"), ("Oxide", "Si")])
def test_other_materials_go_to_a_dataset_of_their_own(folder, label_studio, materials):
    """One was added or moved: the class indices of the old masks mean other things now."""
    before = cycle.export(Settings(), 1)
    again = cycle.export(Settings(), 1)
    project = {"id": 1, "label_config": write_label_config(materials)}
    label_studio.server.answer("GET", "/api/projects/1/", Answer(project))
    after = cycle.export(Settings(), 1)

    assert (before.folder, before.sentence) == (again.folder, "1 tasks added")
    assert again.sentence == "1 tasks kept"
    assert (after.images, after.sentence) == (1, "1 tasks added")
    legends = [json.loads((one.folder / "legend.json").read_text()) for one in (before, after)]
    assert [tuple(legend["materials"]) for legend in legends] == [("Si", "Oxide"), materials]
    assert before.folder.parent == after.folder.parent == folder / "ground-truth"


def test_finished_annotations_that_cannot_be_used_are_told(folder, label_studio, caplog):
    """Each in the log, the first in the sentence: nobody would look for it otherwise."""
    for number in (3, 4):
        bad = submitted(10 * number, *masks(np.zeros_like(HALVES)), TICK)
        label_studio.set_task(number, bad)
    assert cycle.main(["1"]) == 0
    status = TrainingStatus.read(folder / "training.json")
    assert (status.state, status.sentence) == (
        "not published",
        "no finished annotation can be used: 2 tasks skipped (skipped: task 3: its mask shows Si "
        "only, and needs two materials or more, and others)",
    )
    assert "task 3 is not learned from: its mask shows Si only" in caplog.text
    assert "task 4 is not learned from: its mask shows Si only" in caplog.text


def test_skipped_task_is_told_beside_those_that_are_used(label_studio, folder):
    """What was left out may be why a model is no better."""
    label_studio.set_task(4, submitted(40, *masks(np.zeros_like(HALVES)), TICK))
    exported = cycle.export(Settings(), 1)
    assert exported.images == len(list(exported.folder.glob("images/*.png"))) == 1
    assert exported.sentence.startswith("1 tasks added, 1 tasks skipped (skipped: task 4: its mask")
    assert folder in exported.folder.parents


def test_second_training_on_a_state_folder_is_refused(folder, caplog):
    """It would delete the checkpoints of the first, and write over its status."""
    TrainingStatus("training", 7, "now", 0.5).write(folder / "training.json")
    with take_lock(folder / "training.lock"):
        assert cycle.main(["1"]) == 1
    assert "a training runs already" in caplog.text
    assert TrainingStatus.read(folder / "training.json").project == 7


@pytest.mark.usefixtures("folder")
def test_one_device_is_trained_on(monkeypatch):
    """For several, Lightning would run this program anew on each, and each would export."""
    asked = []

    def train_version(*arguments):
        asked.append(arguments[2])
        raise ValueError("that is all")

    monkeypatch.setattr(cycle, "train_version", train_version)
    assert cycle.main(["1"]) == 1
    assert [hardware.devices for hardware in asked] == [1]


def test_failure_is_told(folder, monkeypatch):
    """The published model stays; the sentence says what to do."""
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    assert cycle.main(["1"]) == 1
    status = TrainingStatus.read(folder / "training.json")
    assert status.state == "failed"
    assert "does not answer" in status.sentence
