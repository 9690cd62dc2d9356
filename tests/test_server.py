"""The routes as Label Studio calls them, with a real guide, on good and on bad input."""

import logging
import threading
import time
from functools import partial

import numpy as np
import pytest
from fastapi.testclient import TestClient
from label_studio_stand_in import (
    LABEL_CONFIG,
    MATERIALS,
    LabelStudioStandIn,
    draft,
    png,
    prompt,
    stroke,
    submitted,
    two_halves,
)
from loopback import Answer

from backend import Guide, GuideSettings, TrainingSettings
from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import write_label_config
from backend.annotation.rle import decode_mask
from backend.serving.server import create_app
from backend.serving.service import GuideService
from backend.settings import Settings

SMALL = TrainingSettings(encoder_weights="random", crop_px=64)
SMALL_GUIDE = partial(Guide, settings=GuideSettings(training=SMALL))
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one task."""
    return LabelStudioStandIn(loopback)


@pytest.fixture
def settings(label_studio, tmp_path):
    """Settings for it; nothing is waited for long."""
    return Settings(
        label_studio_url=label_studio.server.url,
        label_studio_api_key="0" * 40,
        model_dir=tmp_path / "state",
        draft_timeout_s=0.3,
    )


@pytest.fixture
def start(settings):
    """Start the application; each call is a restart on the same state folder."""
    clients = []

    def start(make_guide=SMALL_GUIDE, **changes):
        changed = settings.model_copy(update=changes)
        client = LabelStudioClient(changed.label_studio_url, "0" * 40, timeout_s=5)
        service = GuideService(changed, client, make_guide)
        app = create_app(changed, service)
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        clients.append(client)
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__()


def ask(app, task, *, asks=True):
    """Call `/predict` as the editor does when the prompt was drawn."""
    context = {"result": [prompt()]} if asks else None
    body = {"tasks": [task], "label_config": LABEL_CONFIG, "params": {"context": context}}
    return app.post("/predict", json=body)


def results_of(answer):
    """Return the regions of the one prediction of an answer."""
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["results"]
    return prediction["result"]


def masks_of(answer):
    """Decode the masks of an answer by material: (64, 64) bool each."""
    return {
        result["value"]["brushlabels"][0]: decode_mask(result["value"]["rle"], (64, 64)) > 127
        for result in results_of(answer)
        if result["from_name"] == "seg"
    }


def test_asking_gives_a_mask_for_each_material(start, label_studio):
    """Two strokes and a prompt become two exclusive masks that cover the image."""
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    masks = masks_of(answer)
    assert (masks["Si"] ^ masks["Oxide"]).all()
    assert masks["Si"][:28].mean() > 0.95
    assert masks["Oxide"][36:].mean() > 0.95


def test_late_stroke_is_waited_for(start, label_studio):
    """The draft of the request lacks the second stroke; the polled one has it, and the prompt."""
    late = Answer([draft(*STROKES, prompt())])
    label_studio.server.answer("GET", "/api/tasks/7/drafts", Answer([draft(STROKES[0])]), late)
    answer = ask(start(draft_timeout_s=5), label_studio.task(drafts=[draft(STROKES[0])]))
    assert set(masks_of(answer)) == {"Si", "Oxide"}


def test_missing_draft_is_said(start, label_studio):
    """When no draft ever holds the prompt, older strokes are used and the first region says so."""
    label_studio.server.answer("GET", "/api/tasks/7/drafts", Answer([draft(*STROKES)]))
    results = results_of(ask(start(), label_studio.task(drafts=[draft(*STROKES)])))
    assert any("not saved yet" in str(result.get("meta")) for result in results)


def test_every_answer_has_fresh_ids(start, label_studio):
    """A repeated region id can crash the editor."""
    app, task = start(), label_studio.task(drafts=[draft(*STROKES, prompt())])
    first, second = ({r["id"] for r in results_of(ask(app, task))} for _ in range(2))
    assert first.isdisjoint(second)


def test_accepted_mask_with_a_scribble_label_is_no_stroke(start, label_studio):
    """✓ with a label active attaches `scribble` to our masks: they must not be learned from."""
    app = start()
    results = results_of(ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())])))
    ours = next(r["id"] for r in results if r["from_name"] == "seg")
    echo = stroke(ours, "Oxide", 20, origin="manual")
    answer = ask(app, label_studio.task(drafts=[draft(*STROKES, echo, prompt())]))
    assert masks_of(answer)["Si"][:28].mean() > 0.95


def test_prediction_survives_a_restart(start, label_studio):
    """After a restart the task opens with the masks of the last answer."""
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    reopened = ask(start(), label_studio.task(), asks=False)
    np.testing.assert_equal(masks_of(reopened), masks_of(answer))


def test_scribbles_survive_a_restart(start, label_studio):
    """An ask whose draft has not arrived is answered from the strokes of before the restart."""
    ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert set(masks_of(ask(start(), label_studio.task()))) == {"Si", "Oxide"}


def weights_of(settings):
    """Wait until the network of the task is trained and kept; return its file."""
    wait_until(lambda: list(settings.model_dir.glob("tasks/7-*/guide.safetensors")))
    return next(settings.model_dir.glob("tasks/7-*/guide.safetensors"))


def test_training_goes_on_after_the_answer(start, label_studio, settings):
    """The network learns while nobody asks, and what is stored gets its opinion too."""
    ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    (prediction,) = settings.model_dir.glob("tasks/7-*/prediction.npz")
    answered = prediction.read_bytes()
    weights_of(settings)
    assert prediction.read_bytes() != answered


def test_guide_goes_on_from_its_weights_after_a_restart(start, label_studio, settings):
    """The network is loaded, not begun anew."""
    task = label_studio.task(drafts=[draft(*STROKES, prompt())])
    ask(start(), task)
    weights_of(settings)
    loaded = []

    class Listening(Guide):
        def load(self, path):
            super().load(path)
            loaded.append(path)

    make_guide = partial(Listening, **SMALL_GUIDE.keywords)
    ask(start(make_guide), task)
    assert [path.name for path in loaded] == ["guide.safetensors"]


def test_damaged_weights_cost_nothing_but_a_warning(start, label_studio, settings, caplog):
    """A truncated checkpoint is not fatal."""
    task = label_studio.task(drafts=[draft(*STROKES, prompt())])
    ask(start(), task)
    weights_of(settings).write_bytes(b"half")
    assert set(masks_of(ask(start(), task))) == {"Si", "Oxide"}
    assert "starts afresh" in caplog.text


def test_opening_a_task_without_strokes_gives_nothing(start, label_studio):
    """No stroke, no shared model: an empty prediction, never an error."""
    assert results_of(ask(start(), label_studio.task(), asks=False)) == []


def test_asking_without_a_stroke_recommends_first_strokes(start, label_studio):
    """No masks, but boxes and a sentence."""
    results = results_of(ask(start(), label_studio.task(drafts=[draft(prompt())])))
    assert {result["from_name"] for result in results} == {"uncertain"}
    assert "at least two materials" in str(results[0]["meta"])


def test_one_material_gives_no_mask(start, label_studio):
    """One material everywhere would be a wrong picture."""
    answer = ask(start(), label_studio.task(drafts=[draft(STROKES[0], prompt())]))
    assert masks_of(answer) == {}
    assert len(results_of(answer)) > 0


def test_submission_replaces_the_prediction(start, label_studio):
    """The fallback loop: Submit, train in the background, push, delete the older one."""
    label_studio.predictions.append({"id": 1, "model_version": "tem-guide-v1", "task": 7})
    app = start()
    assert app.post("/webhook", json=label_studio.submit(*STROKES)).json() == {"status": "queued"}
    wait_until(lambda: [p["id"] for p in label_studio.predictions] == [2])
    labels = [r["value"].get("brushlabels") for r in label_studio.predictions[0]["result"]]
    assert labels[:2] == [["Si"], ["Oxide"]]


def test_prediction_of_others_is_kept(start, label_studio):
    """Only versions of this backend are deleted."""
    label_studio.predictions.append({"id": 1, "model_version": "someone else", "task": 7})
    start().post("/webhook", json=label_studio.submit(*STROKES))
    wait_until(lambda: [p["id"] for p in label_studio.predictions] == [1, 2])


@pytest.mark.parametrize(
    "submission",
    [{"was_cancelled": True}, {"ground_truth": True}, {"result": []}],
    ids=["skipped", "finished", "without strokes"],
)
def test_submission_without_weak_labels_trains_nothing(start, label_studio, submission, caplog):
    """A skipped, finished or empty annotation is left alone."""
    caplog.set_level(logging.INFO)
    start().post("/webhook", json=label_studio.submit(*STROKES, **submission))
    wait_until(lambda: "nothing to learn" in caplog.text)
    assert label_studio.predictions == []


@pytest.mark.parametrize("event", ["PROJECT_UPDATED", "NEVER_HEARD_OF", ""])
def test_other_events_are_ignored(start, event, caplog):
    """Any event is answered with 200."""
    caplog.set_level(logging.INFO)
    answer = start().post("/webhook", json={"action": event, "project": {"id": 1}})
    assert answer.json() == {"status": "ignored"}
    assert f"webhook {event}" in caplog.text


def test_webhook_without_ids_is_refused(start):
    """A sentence and 422, not a crash in the worker."""
    answer = start().post("/webhook", json={"action": "ANNOTATION_CREATED"})
    assert answer.status_code == 422
    assert "annotation.id" in answer.json()["detail"]


@pytest.mark.parametrize("number", [True, -1, 2**63, 10**40, 1.5, "3", None, [], {}])
@pytest.mark.parametrize(
    "event", ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "START_TRAINING", "TASKS_CREATED"]
)
def test_webhook_with_an_impossible_number_is_refused(start, event, number):
    """Whatever stands in the place of an id; nothing is queued."""
    named = {"id": number}
    body = {"action": event, "annotation": named, "task": named, "project": named}
    answer = start().post("/webhook", json=body)
    assert answer.status_code == 422
    assert ".id" in answer.json()["detail"]


@pytest.mark.parametrize("project", ["9" * 5000, "9" * 19, "", ".", "\u0663.5", "-3.2", "x"])
def test_project_with_an_impossible_number_is_ignored(start, project):
    """Label Studio wants its answer all the same."""
    assert start().post("/setup", json={"project": project}).status_code == 200


def test_health_setup_and_webhook_do_not_wait_for_a_training(start, label_studio):
    """While the worker is busy, all three answer."""
    busy, release = threading.Event(), threading.Event()

    def slow_guide(*args, **kwargs):
        busy.set()
        assert release.wait(30), "a request waited for the training"
        return SMALL_GUIDE(*args, **kwargs)

    app = start(slow_guide)
    app.post("/webhook", json=label_studio.submit(*STROKES))
    assert busy.wait(10)
    assert app.get("/health").json()["status"] == "UP"
    setup = app.post("/setup", json={"project": "1.2", "schema": LABEL_CONFIG})
    assert setup.json() == {"model_version": "tem-guide-v0"}
    assert app.post("/webhook", json=label_studio.submit(*STROKES)).status_code == 200
    assert label_studio.predictions == []
    release.set()
    wait_until(lambda: label_studio.predictions)


def test_slow_training_is_answered_with_the_last_prediction(start, label_studio):
    """The hard stop: the best mask so far and a sentence."""
    task = label_studio.task(drafts=[draft(*STROKES, prompt())])
    ask(start(), task)

    def slow_guide(*args, **kwargs):
        time.sleep(1)
        return SMALL_GUIDE(*args, **kwargs)

    answer = ask(start(slow_guide, answer_timeout_s=0.1), task)
    assert "Still training" in str(results_of(answer))


def test_ask_too_many_gets_the_last_answer_and_keeps_its_strokes(start, label_studio, settings):
    """At once, with a sentence; when the others are done, the same strokes are learned."""
    task = label_studio.task(drafts=[draft(*STROKES, prompt())])
    before = masks_of(ask(start(), task))
    busy, release = threading.Event(), threading.Event()

    def slow_guide(*args, **kwargs):
        busy.set()
        assert release.wait(30), "the ask waited"
        return SMALL_GUIDE(*args, **kwargs)

    app = start(slow_guide, max_waiting=1)
    app.post("/webhook", json=label_studio.submit(*STROKES))
    assert busy.wait(10)
    label_studio.server.answer("GET", "/api/tasks/8/", Answer(label_studio.task(id=8)))
    label_studio.server.answer("GET", "/api/annotations/4/", Answer(submitted(4, *STROKES)))
    other = {"action": "ANNOTATION_CREATED", "annotation": {"id": 4}, "task": {"id": 8}}
    assert app.post("/webhook", json=other).json() == {"status": "queued"}
    wait_until(lambda: "tem_guide_jobs_waiting 1.0" in app.get("/metrics").text)  # it was fetched
    (kept,) = settings.model_dir.glob("tasks/7-*/scribbles.png")
    strokes = kept.read_bytes()
    newer = draft(*STROKES, stroke("s3", "Si", 40), prompt())
    changed = label_studio.task(drafts=[{**newer, "updated_at": "2026-11-22T09:00:00Z"}])
    answer = ask(app, changed)
    assert "Too many wait: your strokes are kept" in str(results_of(answer))
    np.testing.assert_equal(masks_of(answer), before)
    assert kept.read_bytes() != strokes
    release.set()
    wait_until(lambda: "Too many" not in str(results_of(ask(app, changed))))


@pytest.mark.parametrize(
    ("reference", "status", "sentence"),
    [
        ("/data/upload/1/missing.png", 422, "has no image"),
        ("http://example.com/a.png", 403, "is not on"),
        ("../../etc/passwd", 403, "IMAGE_ROOT"),
        ("data:image/png;base64,AAAA", 422, "no readable image"),
    ],
)
def test_bad_image_gets_a_sentence(start, label_studio, reference, status, sentence, caplog):
    """Missing, elsewhere, outside the folder, or not an image."""
    task = label_studio.task(data={"image": reference}, drafts=[draft(*STROKES, prompt())])
    answer = ask(start(), task)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert sentence in caplog.text


def test_tiny_image_gets_a_sentence(start, label_studio):
    """An image of 1 x 1."""
    tiny = Answer(png(np.zeros((1, 1), np.uint8)))
    label_studio.server.answer("GET", "/data/upload/1/a.png", tiny)
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert answer.status_code == 422
    assert "1 x 1 px" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["rgb", "16 bit"])
def test_color_and_16_bit_images_work(start, label_studio, kind):
    """They become grey."""
    gray = two_halves()
    image = np.stack([gray] * 3, axis=2) if kind == "rgb" else gray.astype(np.uint16) * 200
    label_studio.server.answer("GET", "/data/upload/1/a.png", Answer(png(image)))
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert set(masks_of(answer)) == {"Si", "Oxide"}


def test_strokes_of_another_image_size_are_refused(start, label_studio):
    """The image under a task was replaced: a wrong mask would be worse than none."""
    wide = stroke("s3", "Si", 20, original_width=128)
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, wide, prompt())]))
    assert answer.status_code == 422
    assert "was the image replaced" in answer.json()["detail"]


def test_strokes_outside_the_image_are_clipped(start, label_studio):
    """A stroke that leaves the image counts as far as it lies inside."""
    outside = stroke("s3", "Si", 20)
    outside["value"]["touches"][0]["relativePoints"] = [-500, 20, 300, 20]
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, outside, prompt())]))
    assert set(masks_of(answer)) == {"Si", "Oxide"}


def test_unknown_label_is_no_stroke(start, label_studio, caplog):
    """A material that was removed from the config is ignored with a sentence."""
    caplog.set_level(logging.INFO)
    gone = stroke("s3", "Ruthenium", 50)
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, gone, prompt())]))
    assert set(masks_of(answer)) == {"Si", "Oxide"}
    assert "s3 is ignored" in caplog.text


@pytest.mark.parametrize("rle", [[1, 2, 3], [0] * 9])
def test_malformed_rle_costs_its_own_stroke_only(start, label_studio, caplog, rle):
    """The sentence names the region; the other strokes are learned."""
    caplog.set_level(logging.INFO)
    broken = stroke("s3", "Si", 20)
    broken["value"] = {"format": "rle", "rle": rle, "brushlabels": ["Si"]}
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, broken, prompt())]))
    assert set(masks_of(answer)) == {"Si", "Oxide"}
    assert "scribble s3 is ignored" in caplog.text


def test_strokes_of_another_size_do_not_replace_those_on_disk(start, label_studio, settings):
    """The image under a task was replaced: what was drawn before may still be wanted."""
    app = start()
    ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())]))
    (kept,) = settings.model_dir.glob("tasks/7-*/scribbles.png")
    before = kept.read_bytes()
    wide = [
        stroke("s5", "Si", 20, original_width=128),
        stroke("s6", "Oxide", 40, original_width=128),
    ]
    assert ask(app, label_studio.task(drafts=[draft(*wide, prompt())])).status_code == 422
    assert kept.read_bytes() == before


def test_erasing_all_strokes_takes_the_answer_back(start, label_studio, settings):
    """No mask is made up of strokes that are gone, now or when the task is opened again."""
    app = start()
    ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())]))
    weights_of(settings)
    ask(app, label_studio.task(drafts=[draft(STROKES[0], prompt())]))
    assert masks_of(ask(app, label_studio.task(), asks=False)) == {}


def test_one_bad_task_of_a_batch_costs_itself_only(start, label_studio, caplog):
    """Label Studio sends all tasks of a project in one call."""
    app = start()
    good = label_studio.task(drafts=[draft(*STROKES, prompt())])
    ask(app, good)
    body = {"tasks": [{"id": 9, "data": {}}, good], "label_config": LABEL_CONFIG}
    answers = app.post("/predict", json=body).json()["results"]
    assert [len(answer["result"]) > 0 for answer in answers] == [False, True]
    assert "task 9 gets no prediction" in caplog.text


@pytest.mark.parametrize(("path", "body"), [("/predict", {"tasks": 3}), ("/webhook", [1])])
def test_malformed_body_gets_a_sentence(start, caplog, path, body):
    """Which part is wrong, in the answer and in the log."""
    answer = start().post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("the request cannot be understood: body")
    assert "cannot be understood" in caplog.text


def test_label_config_without_the_controls_is_refused(start):
    """At connect time, with the names of what is missing."""
    answer = start().post(
        "/setup", json={"schema": '<View><Image name="image" value="$image"/></View>'}
    )
    assert answer.status_code == 422
    assert "scribble" in answer.json()["detail"]


def test_label_studio_down_is_said(start, label_studio):
    """502 with a sentence; the stroke is in Label Studio's draft still."""
    app = start(label_studio_url="http://127.0.0.1:9")
    answer = ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert answer.status_code == 502
    assert "does not answer" in answer.json()["detail"]


def test_refused_key_is_said(start, label_studio):
    """401 from Label Studio becomes a hint at the key."""
    label_studio.server.answer("GET", "/data/upload/1/a.png", Answer(status=401))
    answer = ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert answer.status_code == 502
    assert "LABEL_STUDIO_API_KEY" in answer.json()["detail"]


def test_server_goes_on_after_a_failure(start, label_studio):
    """The worker outlives a bad task."""
    app = start()
    bad = label_studio.task(data={"image": "/data/none"}, drafts=[draft(*STROKES, prompt())])
    assert ask(app, bad).status_code == 422
    assert set(masks_of(ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())])))) == {
        "Si", "Oxide"}  # fmt: skip


def test_prediction_of_another_image_is_not_served(start, label_studio):
    """The image under a task was replaced: a mask of the old one would look right."""
    ask(start(), label_studio.task(drafts=[draft(*STROKES, prompt())]))
    replaced = label_studio.task(data={"image": "/data/upload/1/b.png"})
    assert results_of(ask(start(), replaced, asks=False)) == []


def test_strokes_do_not_change_their_material_with_the_config(start, label_studio):
    """With the materials in another order, class indices of before mean something else."""
    app = start()
    ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())]))
    body = {"tasks": [label_studio.task()], "label_config": write_label_config(MATERIALS[::-1]),
            "params": {"context": None}}  # fmt: skip
    assert results_of(app.post("/predict", json=body)) == []


def test_empty_draft_does_not_wipe_stored_strokes(start, label_studio):
    """A second annotator asks before painting: the first one's strokes stay on disk."""
    app = start()
    ask(app, label_studio.task(drafts=[draft(*STROKES, prompt())]))
    assert masks_of(ask(app, label_studio.task(drafts=[draft(prompt())]))) == {}
    assert set(masks_of(ask(app, label_studio.task()))) == {"Si", "Oxide"}


def test_ask_does_not_cancel_a_waiting_submission(start, label_studio, tmp_path):
    """The submission's prediction is pushed, and newer strokes of an ask meanwhile stay."""
    app = start()
    event = label_studio.submit(*STROKES)
    submitted = label_studio.server.routes["GET", "/api/annotations/3/"]
    kept = []

    def answer_late(request):
        wait_until(lambda: list(tmp_path.rglob("scribbles.png")))  # those of the ask
        kept.extend(path.read_bytes() for path in tmp_path.rglob("scribbles.png"))
        return submitted(request)

    label_studio.server.routes["GET", "/api/annotations/3/"] = answer_late
    app.post("/webhook", json=event)
    ask(app, label_studio.task(drafts=[draft(*STROKES[1:], prompt())]))
    wait_until(lambda: label_studio.predictions)
    assert [path.read_bytes() for path in tmp_path.rglob("scribbles.png")] == kept


def test_versions_answer_both_methods(start):
    """Label Studio sends GET where older versions sent POST."""
    app = start()
    assert app.get("/versions").json() == app.post("/versions").json()


def wait_until(condition, timeout_s=20):
    """Wait for the background worker."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
