"""The command that exports ground truth, against a small Label Studio on loopback."""

from __future__ import annotations

import pytest
from label_studio_stand_in import (
    HALVES,
    TICK,
    LabelStudioStandIn,
    masks,
    submitted,
)
from loopback import Answer
from pycocotools.coco import COCO

from backend.annotation.label_config import write_label_config
from backend.annotation.tasks import SentRegion
from backend.learning.labeled_images import folder_images
from backend.state.store import GuideStore
from scripts.export_ground_truth import main


@pytest.fixture
def label_studio(loopback, tmp_path, monkeypatch):
    """Label Studio with one finished task in project 1; the environment names it."""
    monkeypatch.setenv("LABEL_STUDIO_URL", loopback.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    stand_in = LabelStudioStandIn(loopback)
    stand_in.set_task(3, submitted(30, *masks(HALVES), TICK))
    return stand_in


@pytest.fixture
def export(label_studio, tmp_path):
    """Run the command on project 1 and one folder."""
    assert label_studio.tasks
    return lambda *more, project="1": main([project, "--out", str(tmp_path / "set"), *more])


def test_user_reads_what_became_of_each_task(label_studio, export, tmp_path, capsys):
    """A line each, but of those that are not finished yet, then a sum."""
    GuideStore(tmp_path / "state").close()
    assert export() == 0
    label_studio.set_task(3, submitted(30, *masks(HALVES[:32]), TICK, updated_at="later"))
    label_studio.set_task(4, submitted(40, *masks(HALVES), masks(HALVES[::-1])[0], TICK))
    label_studio.set_task(5, submitted(50, *masks(HALVES)))
    label_studio.set_task(6)

    capsys.readouterr()
    assert export() == 0

    assert capsys.readouterr().out.splitlines() == [
        "skipped task 3: region mask0 was made on an image of (32, 64) pixels (height, width), "
        "this one has (64, 64); what was exported earlier is removed, its annotation has changed",
        "added task 4: annotation 40, the only finished one",
        "  mask mask0 has a second label 'Si': it is ignored",
        "1 added, 0 updated, 0 kept, 0 removed, 1 skipped, 2 unfinished; "
        f"see {tmp_path / 'set/manifest.json'}",
    ]


def test_data_manager_shows_what_is_exported(label_studio, export):
    """Again by each export: the backend may have said "finished" late."""
    for _ in range(2):
        label_studio.shown.clear()
        assert export() == 0
        assert label_studio.shown == {3: {"guide_state": "exported"}}


@pytest.mark.parametrize(
    ("strokes", "annotations", "state"),
    [(0, [], "new"), (4, [], "scribbled"), (0, [submitted(30, *masks(HALVES))], "scribbled")],
)
def test_data_manager_shows_what_is_finished_no_longer(
    label_studio, export, strokes, annotations, state
):
    """Its annotation was deleted, or the tick taken away; else it would count as done for ever."""
    label_studio.set_task(4, submitted(40, *masks(HALVES), TICK))
    assert export() == 0
    label_studio.set_task(3, *annotations, guide_state="exported", guide_strokes=strokes)
    for _ in range(2):
        label_studio.shown.clear()
        assert export() == 0
        assert label_studio.shown[3] == {"guide_state": state}


def test_data_manager_does_not_call_exported_what_was_removed(label_studio, export):
    """It is finished, but cannot be used."""
    label_studio.set_task(4, submitted(40, *masks(HALVES), TICK))
    assert export() == 0
    bad = submitted(30, *masks(HALVES[:32]), TICK, updated_at="later")
    label_studio.set_task(3, bad, guide_state="exported")
    assert export() == 0
    assert label_studio.shown[3] == {"guide_state": "finished"}


def test_memory_of_the_backend_repairs_labels(label_studio, export, tmp_path, capsys):
    """While the backend has its database open, Auto-Accept's relabeling is undone."""
    store = GuideStore(tmp_path / "state")
    remembered = [
        SentRegion(f"mask{i}", "seg", name, "a") for i, name in enumerate(("Si", "Oxide"))
    ]
    store.remember_sent(3, [*remembered, SentRegion("box", "uncertain", "Uncertain", "a")])
    bug = [{**one, "value": {**one["value"], "brushlabels": ["Oxide"]}} for one in masks(HALVES)]
    box = {**bug[0], "id": "box"}
    label_studio.set_task(3, submitted(30, *bug, box, TICK))

    assert export() == 0

    store.close()
    (image,) = folder_images(tmp_path / "set", 9)
    assert (image.truth == HALVES).all()
    assert "Auto-Accept relabels what it accepts, switch it off" in capsys.readouterr().out


def test_missing_memory_of_the_backend_is_told(export, tmp_path, capsys):
    """The export goes on without."""
    assert export() == 0

    assert "holds no state of a backend (MODEL_DIR)" in capsys.readouterr().out
    assert not (tmp_path / "state").exists()


def test_damaged_memory_of_the_backend_is_an_error(export, tmp_path, capsys):
    """Falling back in silence could export wrong labels."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_bytes(b"no database" * 100)

    assert export() == 1
    assert "state.db cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "set" / "images").exists()


def test_project_without_finished_annotations_is_no_error(label_studio, export, tmp_path, capsys):
    """Nothing is written, and the user learns what to do."""
    label_studio.tasks.clear()

    assert export() == 0

    assert "Project 1 has no finished annotation: tick Finished GT" in capsys.readouterr().out
    assert not (tmp_path / "set").exists()


def test_coco_file_is_written_and_kept_up_to_date(label_studio, export, tmp_path, capsys):
    """Once it is there, an export without the option would leave an old one behind."""
    assert export("--coco") == 0
    label_studio.set_task(4, submitted(40, *masks(HALVES), TICK))
    assert export() == 0

    coco = COCO(tmp_path / "set" / "annotations.json")
    assert len(coco.imgs) == 2
    assert "4 masks in" in capsys.readouterr().out


def test_coco_file_is_asked_for(export, tmp_path):
    """It needs an extra that not everybody has."""
    assert export() == 0
    assert not (tmp_path / "set" / "annotations.json").exists()


def test_missing_extra_is_named(export, monkeypatch, capsys):
    """Before anything is exported."""
    monkeypatch.setattr("scripts.export_ground_truth.find_spec", lambda _: None)

    with pytest.raises(SystemExit) as ended:
        export("--coco")
    assert ended.value.code == 2
    assert "pip install 'tem-guide[export]'" in capsys.readouterr().err


def test_other_materials_are_a_mistake(label_studio, export, capsys):
    """The dataset is of another project."""
    assert export() == 0
    xml = write_label_config(["Si", "Nitride"])
    label_studio.server.answer("GET", "/api/projects/1/", Answer({"id": 1, "label_config": xml}))

    assert export() == 2
    assert "has the materials Si, Oxide, the project Si, Nitride" in capsys.readouterr().err


def test_unsuitable_project_is_a_mistake(label_studio, export, capsys):
    """The sentence names what its labeling config lacks."""
    label_studio.server.answer(
        "GET", "/api/projects/1/", Answer({"id": 1, "label_config": "<View/>"})
    )

    assert export() == 2
    assert 'lacks <BrushLabels name="scribble">' in capsys.readouterr().err


def test_folder_that_is_a_file_is_a_mistake(export, tmp_path, capsys):
    """Nothing of it is touched."""
    (tmp_path / "set").write_text("mine")

    assert export() == 2
    assert str(tmp_path / "set") in capsys.readouterr().err
    assert (tmp_path / "set").read_text() == "mine"


def test_unknown_project_ends_in_a_sentence(export, capsys):
    """Label Studio does not have it."""
    assert export(project="4") == 1
    assert "answered 404 (/api/projects/4/: Not found.)" in capsys.readouterr().err


def test_label_studio_that_is_down_is_named(export, monkeypatch, capsys):
    """Port 9 of loopback answers nobody."""
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")

    assert export() == 1
    assert "Label Studio at http://127.0.0.1:9 does not answer" in capsys.readouterr().err


def test_missing_setting_is_named(export, monkeypatch, capsys):
    """As the environment variable to set."""
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")

    assert export() == 2
    assert capsys.readouterr().err.startswith("LABEL_STUDIO_API_KEY: set it")
