"""Finished annotations of a project come to disk, and a second export brings only what changed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from label_studio_stand_in import (
    HALVES,
    LABEL_CONFIG,
    MATERIALS,
    TICK,
    LabelStudioStandIn,
    masks,
    png,
    stroke,
    submitted,
    two_halves,
)
from loopback import Answer

from backend.annotation.client import LabelStudioClient
from backend.annotation.dataset_files import Dataset, Legend
from backend.annotation.export import Source, export_project
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import parse_label_config
from backend.annotation.tasks import SentRegion
from backend.errors import InvalidDatasetError, LabelStudioError
from backend.learning.labeled_images import folder_images

CONFIG = parse_label_config(LABEL_CONFIG)
FLIPPED = HALVES[::-1]


@pytest.fixture
def label_studio(loopback):
    """Label Studio with project 1, which has no task yet."""
    return LabelStudioStandIn(loopback)


@pytest.fixture
def export(label_studio, tmp_path):
    """Export project 1 into one folder, again and again; return what became of the tasks."""
    with LabelStudioClient(label_studio.server.url, "0123456789abcdef") as client:

        def export(sent=None, project=1):
            images = ImageSource(client, None, 10**6)
            source = Source(client, images, project, CONFIG, *([sent] if sent else []))
            dataset = Dataset(tmp_path / "set", Legend(MATERIALS, ("#ff0000", "#00ff00")))
            return list(export_project(source, dataset))

        yield export


def finish(number, label_map=HALVES, **changes):
    """Submit masks of two materials with the tick."""
    return submitted(number, *masks(label_map), TICK, **changes)


def exported(tmp_path):
    """Read the dataset as training does: class per pixel by name."""
    return {image.name: image.truth for image in folder_images(tmp_path / "set", 100)}


def manifest(tmp_path):
    """Read the entries of the manifest, by task."""
    entries = json.loads((tmp_path / "set" / "manifest.json").read_text())["images"]
    assert entries == sorted(entries, key=lambda entry: entry["name"])
    return {entry["task"]: entry for entry in entries}


def told(outcomes):
    """List task and fate of each outcome, but of those that are not finished yet."""
    fates = [(outcome.task, outcome.kind) for outcome in outcomes]
    return [fate for fate in fates if fate[1] != "unfinished"]


def files(tmp_path):
    """What is in the dataset, with the moment of its last change."""
    return {
        str(path.relative_to(tmp_path)): path.stat().st_mtime_ns
        for path in (tmp_path / "set").rglob("*.*")
    }


def test_finished_annotations_become_a_dataset(label_studio, export, tmp_path):
    """By tick or by flag; skipped and unfinished ones do not count."""
    label_studio.set_task(3, finish(30))
    label_studio.set_task(4, submitted(40, *masks(FLIPPED), ground_truth=True))
    label_studio.set_task(5, submitted(50, *masks(HALVES)))
    label_studio.set_task(6, finish(60, was_cancelled=True))
    label_studio.set_task(8)

    outcomes = export()

    assert told(outcomes) == [(3, "added"), (4, "added")]
    assert [outcome.task for outcome in outcomes if outcome.kind == "unfinished"] == [5, 6, 8]
    truths = exported(tmp_path)
    assert sorted(truths) == ["project-1-task-3", "project-1-task-4"]
    assert (truths["project-1-task-3"] == HALVES).all()
    assert (truths["project-1-task-4"] == FLIPPED).all()


def test_counter_of_annotations_is_not_believed(label_studio, export, tmp_path):
    """Label Studio can leave it at 0 where a task changed while its annotation was submitted."""
    label_studio.set_task(3, finish(30))
    label_studio.tasks[3]["total_annotations"] = 0
    assert told(export()) == [(3, "added")]
    assert sorted(exported(tmp_path)) == ["project-1-task-3"]


def test_image_keeps_its_bytes(label_studio, export, tmp_path):
    """A grey PNG is what the annotator saw."""
    label_studio.set_task(3, finish(30))

    export()

    written = (tmp_path / "set" / "images" / "project-1-task-3.png").read_bytes()
    assert written == png(two_halves())


def test_color_images_become_grey(label_studio, export, tmp_path):
    """Else training could not read them beside the others."""
    label_studio.set_task(3, finish(30), image=png(np.stack([two_halves()] * 3, axis=2)))

    export()

    (image,) = folder_images(tmp_path / "set", 9)
    assert (image.image == two_halves()).all()


def test_manifest_tells_where_a_mask_comes_from(label_studio, export, tmp_path):
    """Whose annotation it is, how its pixels were made, how large one is, and what took them."""
    partly = np.where(np.arange(64) < 16, 255, HALVES).astype(np.uint8)  # a quarter is unlabeled
    edited = masks(partly)
    edited[1]["origin"] = "prediction-changed"
    label_studio.set_task(3, submitted(30, *edited, TICK), pixel_size_nm=0.25, equipment="TEM 2")

    export()

    entry = manifest(tmp_path)[3]
    assert entry | {"image_sha256": 0, "mask_sha256": 0, "exported_at": 0} == {
        "name": "project-1-task-3",
        "label_studio": label_studio.server.url,
        "project": 1,
        "task": 3,
        "annotation": 30,
        "updated_at": "2026-11-22T08:40:30.5Z",
        "annotator": "2",
        "annotator_title": "Ann Bee ann@example.com, 2",
        "chosen": "the only finished one",
        "other_annotations": [],
        "agreement": None,
        "materials": ["Si", "Oxide"],
        "share_by_origin": {
            "scribble": 0,
            "accepted": 0.375,
            "changed": 0.375,
            "painted": 0,
            "unlabeled": 0.25,
        },
        "overlap_px": 0,
        "pixel_size_nm": 0.25,
        "equipment": "TEM 2",
        "notices": [],
        "import_record": None,
        "original_sha256": None,
        "pixel_size_x_nm": 0.25,
        "pixel_size_y_nm": 0.25,
        "pixel_size_source": "pixel_size_nm",
        "image_sha256": 0,
        "mask_sha256": 0,
        "exported_at": 0,
    }


def test_unknown_origin_is_counted_as_such(label_studio, export, tmp_path):
    """Label Studio may invent one."""
    label_studio.set_task(3, submitted(30, *masks(HALVES, origin="imported"), TICK))

    export()

    assert manifest(tmp_path)[3]["share_by_origin"]["unknown"] == 1


@pytest.mark.parametrize("told_size", ["wide", 0, -1, True, [1], float("inf")])
def test_pixel_size_that_is_none_is_not_guessed(label_studio, export, tmp_path, told_size):
    """No nanometre without a recorded calibration."""
    label_studio.set_task(3, finish(30), pixel_size_nm=told_size)

    (outcome,) = export()

    assert manifest(tmp_path)[3]["pixel_size_nm"] is None
    assert "it is no length in nm" in outcome.notices[0]


def test_pixels_that_are_not_square_keep_both_sides(label_studio, export, tmp_path):
    """With their source, as an import writes them; one number would be wrong."""
    told = {"pixel_size_x_nm": 0.4, "pixel_size_y_nm": 0.2, "pixel_size_source": "metadata: axes"}
    label_studio.set_task(3, finish(30), **told)

    (outcome,) = export()

    assert outcome.notices == ()
    assert manifest(tmp_path)[3].items() >= {**told, "pixel_size_nm": None}.items()


def test_implausible_pixel_size_is_left_out(label_studio, export, tmp_path):
    """A meter is a slip of units; it is told."""
    label_studio.set_task(3, finish(30), pixel_size_nm=1e9)

    (outcome,) = export()

    assert manifest(tmp_path)[3]["pixel_size_nm"] is None
    assert "1e+09 x 1e+09 nm is not plausible" in outcome.notices[0]


def test_overlaps_are_resolved_and_reported(label_studio, export, tmp_path):
    """The later mask wins, and a scribble over both."""
    first, second = masks(HALVES)
    first["value"] = masks(np.zeros_like(HALVES))[0]["value"]  # Si everywhere
    label_studio.set_task(3, submitted(30, stroke("s1", "Si", 75), first, second, TICK))

    (outcome,) = export()

    truth = exported(tmp_path)["project-1-task-3"]
    assert (truth[5, 32], truth[60, 32], truth[48, 32]) == (0, 1, 0)
    assert manifest(tmp_path)[3]["overlap_px"] == 64 * 32
    assert outcome.notices == ("2048 pixels were given to several materials: the last won",)


def test_flagged_annotation_is_chosen_and_compared(label_studio, export, tmp_path):
    """Of several finished ones; how far they agree is told."""
    half_flipped = HALVES.copy()
    half_flipped[:, :32] = FLIPPED[:, :32]
    flagged = submitted(30, *masks(HALVES), ground_truth=True)
    label_studio.set_task(3, flagged, finish(31, half_flipped))

    (outcome,) = export()

    entry = manifest(tmp_path)[3]
    assert (entry["annotation"], entry["other_annotations"]) == (30, [31])
    assert (entry["chosen"], entry["agreement"]) == (
        "the one of 2 that is flagged as ground truth",
        0.5,
    )
    assert outcome.sentence == (
        "annotation 30, the one of 2 that is flagged as ground truth; all agree on 50.0% of the "
        "labels"
    )


def test_annotation_that_cannot_be_compared_is_named(label_studio, export, tmp_path):
    """It costs the chosen one nothing."""
    label_studio.set_task(3, finish(30, HALVES[:32]), finish(31))

    (outcome,) = export()

    assert outcome.kind == "added"
    assert "annotation 30 is not compared: region mask" in outcome.notices[0]
    assert manifest(tmp_path)[3]["agreement"] is None


def test_relabeling_by_auto_accept_is_undone(label_studio, export, tmp_path):
    """With what the backend remembers of its answers."""
    masks_sent = masks(HALVES)
    box = {**masks_sent[0], "id": "box1"}
    bug = [{**one, "value": {**one["value"], "brushlabels": ["Oxide"]}} for one in masks_sent]
    boxes = [{**box, "value": {"brushlabels": ["Oxide"]}}]
    label_studio.set_task(3, submitted(30, *bug, *boxes, TICK))
    remembered = {
        "mask0": SentRegion("mask0", "seg", "Si", "a"),
        "mask1": SentRegion("mask1", "seg", "Oxide", "a"),
        "box1": SentRegion("box1", "uncertain", "Uncertain", "a"),
    }

    def sent(task, ids):
        assert (task, ids) == (3, {"mask0", "mask1", "box1", "status1"})
        return remembered

    (outcome,) = export(sent)

    assert (exported(tmp_path)["project-1-task-3"] == HALVES).all()
    assert "switch it off" in " ".join(outcome.notices)


def test_what_the_data_does_not_tell_is_null(label_studio, export, tmp_path):
    """Pixel size and equipment are never guessed."""
    label_studio.set_task(3, finish(30))

    export()

    entry = manifest(tmp_path)[3]
    assert (entry["pixel_size_nm"], entry["equipment"]) == (None, None)


def test_second_export_touches_nothing(label_studio, export, tmp_path):
    """Not even the manifest."""
    label_studio.set_task(3, finish(30))
    export()
    before = files(tmp_path)

    outcomes = export()

    assert told(outcomes) == [(3, "kept")]
    assert files(tmp_path) == before


def test_second_export_adds_updates_and_removes(label_studio, export, tmp_path):
    """What is new, changed, no longer finished, or deleted."""
    for task in (2, 3, 4, 5):
        label_studio.set_task(task, finish(task * 10))
    export()
    before = files(tmp_path)
    label_studio.set_task(3, finish(30, FLIPPED, updated_at="2026-11-23T08:00:00Z"))
    label_studio.set_task(4, submitted(40, *masks(HALVES)))
    label_studio.delete_task(5)
    label_studio.set_task(6, finish(60))

    outcomes = export()

    assert told(outcomes) == [
        (2, "kept"),
        (3, "updated"),
        (6, "added"),
        (4, "removed"),
        (5, "removed"),
    ]
    assert [one.sentence for one in outcomes if one.kind == "removed"] == [
        "it is no longer finished in Label Studio",
        "it was deleted in Label Studio",
    ]
    truths = exported(tmp_path)
    assert [name[-1] for name in truths] == ["2", "3", "6"] == [str(t) for t in manifest(tmp_path)]
    assert (truths["project-1-task-3"] == FLIPPED).all()
    assert not (tmp_path / "set" / "masks" / "project-1-task-4.png").exists()
    kept = "set/images/project-1-task-2.png"
    assert files(tmp_path)[kept] == before[kept]


def test_changed_content_is_seen_without_a_changed_date(label_studio, export, tmp_path):
    """The image of a task was replaced, or the backend's memory has come to light."""
    label_studio.set_task(3, finish(30))
    export()
    label_studio.set_task(3, finish(30), image=png(255 - two_halves()))

    assert told(export()) == [(3, "updated")]
    (image,) = folder_images(tmp_path / "set", 9)
    assert (image.image == 255 - two_halves()).all()


def test_new_comparison_updates_the_manifest_alone(label_studio, export, tmp_path):
    """A second annotator finished the task, with an older annotation."""
    label_studio.set_task(3, finish(31))
    export()
    before = files(tmp_path)
    label_studio.set_task(3, finish(31), finish(30))

    assert told(export()) == [(3, "updated")]
    changed = {name for name, moment in files(tmp_path).items() if moment != before[name]}
    assert changed == {"set/manifest.json"}


BAD_TASKS = {
    "other size": ({"label_map": HALVES[:32]}, {}, "made on an image of (32, 64) pixels"),
    "one class": ({"label_map": np.zeros_like(HALVES)}, {}, "its mask shows Si only"),
    "all data bar": ({}, {"databar_rows": "600"}, "its image has 64 rows: correct it"),
    "odd data bar": ({}, {"databar_rows": "many"}, "no number of rows: correct it"),
    "no image": ({}, {"image": b"GIF"}, "the 3 bytes are no readable image"),
}


@pytest.mark.parametrize(("how", "data", "reason"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_bad_task_does_not_stop_the_others(label_studio, export, tmp_path, how, data, reason):
    """It is skipped with a sentence."""
    label_studio.set_task(3, finish(30, **how), **data)
    label_studio.set_task(4, finish(40))

    bad, good = export()

    assert told([bad, good]) == [(3, "skipped"), (4, "added")]
    assert reason in bad.sentence
    assert list(exported(tmp_path)) == ["project-1-task-4"]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([TICK], "no mask was accepted or painted"),
        ([stroke("s1", "Si", 75), TICK], "no mask was accepted or painted"),
        ([{"id": "x"}, TICK], "annotation 30, region x: from_name"),
        (
            [*masks(HALVES, value={"rle": [1, 2, 3], "brushlabels": ["Si"]}), TICK],
            "cut short in its header",
        ),
    ],
)
def test_annotation_without_ground_truth_is_skipped(label_studio, export, results, reason):
    """Ticked by mistake, or malformed."""
    label_studio.set_task(3, submitted(30, *results))

    (outcome,) = export()

    assert outcome.kind == "skipped"
    assert reason in outcome.sentence


@pytest.mark.parametrize("status", [404, 403, 500])
def test_image_that_cannot_be_fetched_is_skipped(label_studio, export, status):
    """As long as Label Studio itself goes on answering."""
    label_studio.set_task(3, finish(30))
    label_studio.set_task(4, finish(40))
    label_studio.server.answer("GET", "/data/upload/1/3.png", Answer(status=status))

    assert told(export()) == [(3, "skipped"), (4, "added")]


def test_image_elsewhere_is_skipped(label_studio, export):
    """It is never fetched."""
    label_studio.set_task(3, finish(30))
    label_studio.tasks[3]["data"]["image"] = "http://elsewhere.test/a.png"

    (outcome,) = export()

    assert outcome.kind == "skipped"
    assert "is not on http://127.0.0.1" in outcome.sentence


def test_task_without_an_image_is_skipped(label_studio, export):
    """Its data was made for another project."""
    label_studio.set_task(3, finish(30))
    label_studio.tasks[3]["data"] = {"text": "no image"}

    (outcome,) = export()

    assert (outcome.kind, outcome.sentence.startswith("task 3 has no image")) == ("skipped", True)


def test_what_was_exported_stays_while_its_annotation_does(label_studio, export, tmp_path):
    """An image that is away for a while costs the dataset nothing."""
    label_studio.set_task(3, finish(30))
    label_studio.set_task(4, finish(40))
    export()
    label_studio.server.answer("GET", "/data/upload/1/3.png", Answer(status=500))
    label_studio.server.answer("GET", "/api/tasks/4/annotations/", Answer(status=500))

    outcomes = export()

    assert told(outcomes) == [(3, "skipped"), (4, "skipped")]
    assert all(one.sentence.endswith("what was exported earlier stays") for one in outcomes)
    assert len(exported(tmp_path)) == 2


def test_old_mask_goes_when_its_annotation_became_unusable(label_studio, export, tmp_path):
    """Nobody stands by it any more."""
    label_studio.set_task(3, finish(30))
    label_studio.set_task(4, finish(40))
    export()
    changed = finish(30, np.zeros_like(HALVES), updated_at="2026-11-23T08:00:00Z")
    label_studio.set_task(3, changed)

    skipped, _ = export()

    assert skipped.kind == "skipped"
    assert "what was exported earlier is removed" in skipped.sentence
    assert list(exported(tmp_path)) == ["project-1-task-4"]
    assert list(manifest(tmp_path)) == [4]


def test_project_without_finished_annotations_makes_no_dataset(label_studio, export, tmp_path):
    """Nothing at all is written."""
    label_studio.set_task(3, submitted(30, *masks(HALVES)))

    assert told(export()) == []
    assert not (tmp_path / "set").exists()


def test_nothing_is_removed_when_nothing_is_finished(label_studio, export, tmp_path):
    """The wrong key or project must not empty a dataset."""
    label_studio.set_task(3, finish(30))
    export()
    before = files(tmp_path)
    label_studio.set_task(3, submitted(30, *masks(HALVES)))

    assert told(export()) == []
    assert files(tmp_path) == before


def test_label_studio_that_stops_leaves_a_dataset(label_studio, export, tmp_path):
    """What was exported until then is in the manifest; the next export goes on."""
    for task in (3, 4, 5):
        label_studio.set_task(task, finish(task * 10))
    label_studio.server.answer("GET", "/data/upload/1/4.png", Answer(status=502))
    project = label_studio.server.routes["GET", "/api/projects/1/"]
    label_studio.server.answer("GET", "/api/projects/1/", Answer(status=502))

    with pytest.raises(LabelStudioError, match="502"):
        export()

    assert list(manifest(tmp_path)) == [3]
    assert list(exported(tmp_path)) == ["project-1-task-3"]
    label_studio.server.routes["GET", "/api/projects/1/"] = project
    label_studio.set_task(4, finish(40))
    assert told(export()) == [(3, "kept"), (4, "added"), (5, "added")]


def test_projects_of_the_same_materials_share_a_dataset(label_studio, export, tmp_path):
    """One does not remove what the other brought."""
    label_studio.set_task(3, finish(30))
    export()
    label_studio.tasks.clear()
    label_studio.set_task(9, finish(90))

    assert told(export(project=2)) == [(9, "added")]
    assert list(exported(tmp_path)) == ["project-1-task-3", "project-2-task-9"]


@pytest.mark.parametrize("other", ["http://other.test:8080", "http://127.0.0.1:1", "other.test"])
def test_same_project_number_of_another_label_studio_is_refused(
    label_studio, export, tmp_path, other
):
    """Its tasks would take the places of others; a second one on this host is another too."""
    label_studio.set_task(3, finish(30))
    export()
    path = tmp_path / "set" / "manifest.json"
    path.write_text(path.read_text().replace(label_studio.server.url, other))
    before = files(tmp_path)

    with pytest.raises(InvalidDatasetError, match=f"project 1 of the .* on {re.escape(other)}, "):
        export()
    assert files(tmp_path) == before


def test_manifest_that_tells_the_host_alone_is_accepted(label_studio, export, tmp_path):
    """Earlier versions wrote no more; the export brings it up to date."""
    label_studio.set_task(3, finish(30))
    export()
    path = tmp_path / "set" / "manifest.json"
    path.write_text(path.read_text().replace(label_studio.server.url, "127.0.0.1"))

    assert told(export()) == [(3, "updated")]
    assert manifest(tmp_path)[3]["label_studio"] == label_studio.server.url


def test_label_studio_is_never_made_to_predict(label_studio, export):
    """Reading a single task would ask the backend for it."""
    label_studio.set_task(3, finish(30))

    export()

    assert not any(path.startswith("/api/tasks/3/?") for path in label_studio.server.paths())
    assert "/api/tasks/3/" not in label_studio.server.paths()
