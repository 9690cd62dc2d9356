"""What is prepared before anybody asks, and what becomes of guides that memory is too small for."""

import gc
import threading
import time
import weakref
from functools import partial

import pytest
from label_studio_stand_in import LABEL_CONFIG, LabelStudioStandIn, draft, prompt, stroke

from backend import Guide, GuideSettings, TrainingSettings
from backend.annotation.client import LabelStudioClient
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.work import learner

SMALL = GuideSettings(training=TrainingSettings(encoder_weights="random", crop_px=64))
STROKES = (stroke("s1", "Si", 20), stroke("s2", "Oxide", 80))
ASK = {"result": [prompt()]}
ONE_GUIDE = {"guide_cache_mb": 0}  # the one used last is always kept


class NotedGuide(Guide):
    """A guide that notes what it was loaded from."""

    loaded = ()

    def load(self, path):
        """Note the path, and load."""
        super().load(path)
        self.loaded = (*self.loaded, path.name)


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with one image; its tasks come with the requests."""
    return LabelStudioStandIn(loopback)


@pytest.fixture
def settings(label_studio, tmp_path):
    """Settings for it."""
    return Settings(
        label_studio_url=label_studio.server.url,
        label_studio_api_key="0" * 40,
        model_dir=tmp_path / "state",
    )


@pytest.fixture
def made():
    """Guides that were made, the oldest first."""
    return []


@pytest.fixture
def start(settings, made):
    """Start the service; each call is a restart on the same state folder."""
    started = []

    def start(guide_class=NotedGuide, make_guide=None, **changes):
        def make(*arguments, **options):
            made.append(guide_class(*arguments, settings=SMALL, **options))
            return made[-1]

        changed = settings.model_copy(update=changes)
        client = LabelStudioClient(changed.label_studio_url, "0" * 40, timeout_s=5)
        started.append(GuideService(changed, client, make_guide or make))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def drawn_task(label_studio):
    """Make the body of a task with two strokes and a prompt."""
    return partial(label_studio.task, drafts=[draft(*STROKES, prompt())])


@pytest.fixture
def endless(monkeypatch):
    """Training does not end by itself, so what is saved is saved for another reason."""
    monkeypatch.setattr(learner, "TRAINING_STEPS", 10**6)


def materials_of(answers):
    """Name the materials that the one answer has masks of."""
    (answer,) = answers
    masks = [region for region in answer["result"] if region["from_name"] == "seg"]
    return {region["value"]["brushlabels"][0] for region in masks}


def has_trained(guide):
    """Its network has been made, and taken a step."""
    return "_network" in vars(guide) and guide._network.trained_steps > 0


def wait_until(condition, timeout_s=60):
    """Wait for the worker."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_guide_is_made_when_its_task_is_opened(start, made, label_studio, drawn_task):
    """The first ask finds its features computed."""
    running = start()
    running.predict([label_studio.task()], LABEL_CONFIG, None)
    wait_until(lambda: made)
    assert materials_of(running.predict([drawn_task()], LABEL_CONFIG, ASK)) == {"Si", "Oxide"}
    assert len(made) == 1


def test_prompt_that_was_submitted_asks_for_nothing(start, made, label_studio):
    """Label Studio asks again after Submit, with the prompts of the annotation."""
    body = label_studio.submit(*STROKES, prompt())
    annotation = {**body["annotation"], "result": [*STROKES, prompt()], "was_cancelled": False,
                  "ground_truth": False, "updated_at": "2026-11-22T08:40:00Z"}  # fmt: skip
    task = label_studio.task(annotations=[annotation])
    (answer,) = start().predict([task], LABEL_CONFIG, ASK)
    assert answer["result"] == []
    assert not made


def test_opening_waits_for_no_guide(start, label_studio):
    """Label Studio shows the task only when it has the answer."""
    release = threading.Event()

    def slow_guide(*arguments, **options):
        assert release.wait(30), "the answer waited for the guide"
        return NotedGuide(*arguments, settings=SMALL, **options)

    running = start(make_guide=slow_guide)
    (answer,) = running.predict([label_studio.task()], LABEL_CONFIG, None)
    release.set()
    assert answer["result"] == []


def test_task_whose_image_is_missing_still_opens(start, label_studio, caplog):
    """The mistake is in the log; who asks is told."""
    lost = label_studio.task(data={"image": "/data/upload/1/missing.png"})
    (answer,) = start().predict([lost], LABEL_CONFIG, None)
    wait_until(lambda: "task 7 was not opened ahead" in caplog.text)
    assert answer["result"] == []


def test_task_still_opens_while_the_server_shuts_down(start, label_studio):
    """No more work is taken, but what is known can be told."""
    running = start()
    running.jobs.close()
    (answer,) = running.predict([label_studio.task()], LABEL_CONFIG, None)
    assert answer["result"] == []


def test_batch_makes_no_guides(start, label_studio):
    """'Retrieve Predictions' asks for hundreds of tasks that nobody looks at."""
    before = threading.active_count()
    tasks = [label_studio.task(id=number) for number in (7, 8)]
    assert len(start().predict(tasks, LABEL_CONFIG, None)) == 2
    assert threading.active_count() == before, "the worker was given something to do"


def test_only_the_task_opened_last_is_prepared(start, label_studio):
    """Somebody leafs through tasks: those left behind must not push others out of memory."""
    names, busy, release = [], threading.Event(), threading.Event()

    def slow_guide(image, classes, **options):
        names.append(options["class_names"])
        busy.set()
        assert release.wait(30)
        return NotedGuide(image, classes, settings=SMALL, **options)

    running = start(make_guide=slow_guide)
    running.predict([label_studio.task(id=1)], LABEL_CONFIG, None)
    assert busy.wait(30)
    for number in (2, 3, 4):
        running.predict([label_studio.task(id=number)], LABEL_CONFIG, None)
    release.set()
    wait_until(lambda: len(names) == 2)
    wait_until(lambda: running.jobs.waiting.idle == 0 and not running.jobs.running)
    assert len(names) == 2


def test_features_are_read_when_a_guide_is_made_again(start, made, settings, drawn_task):
    """Also after a restart: the file is used, not written anew."""
    start().predict([drawn_task()], LABEL_CONFIG, ASK)
    (path,) = settings.model_dir.glob("features/*")
    before = path.stat()
    start().predict([drawn_task()], LABEL_CONFIG, ASK)
    assert len(made) == 2
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns > before.st_mtime_ns


@pytest.mark.usefixtures("endless")
def test_guide_that_is_let_go_keeps_what_it_learned(start, made, settings, drawn_task):
    """Its network goes to disk in the middle of its training, and comes back with the next ask."""
    running = start(**ONE_GUIDE)
    running.predict([drawn_task()], LABEL_CONFIG, ASK)
    wait_until(lambda: has_trained(made[0]))
    running.predict([drawn_task(id=8)], LABEL_CONFIG, ASK)
    assert list(settings.model_dir.glob("tasks/7-*/guide.safetensors"))
    assert materials_of(running.predict([drawn_task()], LABEL_CONFIG, ASK)) == {"Si", "Oxide"}
    assert [guide.loaded for guide in made] == [(), (), ("guide.safetensors",)]


@pytest.mark.usefixtures("endless")
def test_guide_that_is_let_go_leaves_memory(start, made, drawn_task):
    """Its training, which would go on, does not hold it."""
    running = start(**ONE_GUIDE)
    running.predict([drawn_task()], LABEL_CONFIG, ASK)
    wait_until(lambda: has_trained(made[0]))
    gone = weakref.ref(made.pop())
    running.predict([drawn_task(id=8)], LABEL_CONFIG, ASK)
    wait_until(lambda: gc.collect() >= 0 and gone() is None)


@pytest.mark.usefixtures("endless")
def test_guide_of_a_finished_task_stops_learning(start, made, settings, label_studio, drawn_task):
    """It leaves the memory and the processor to those at work; what it has learned is on disk."""
    running = start()
    running.predict([drawn_task()], LABEL_CONFIG, ASK)
    wait_until(lambda: has_trained(made[0]))
    gone = weakref.ref(made.pop())
    body = label_studio.submit(*STROKES, ground_truth=True)
    running.handle_event(body["action"], body).result(30)
    wait_until(lambda: gc.collect() >= 0 and gone() is None)
    assert list(settings.model_dir.glob("tasks/7-*/guide.safetensors"))


def test_no_answer_waits_for_what_was_submitted_elsewhere(start, label_studio, drawn_task):
    """Label Studio takes its time to hand it over; it is learned and pushed when it comes."""
    running, gate, asked = start(), threading.Event(), threading.Event()
    body = label_studio.submit(*STROKES)
    submitted = label_studio.server.routes["GET", "/api/annotations/3/"]

    def hand_over_late(request):
        asked.set()
        assert gate.wait(60)
        return submitted(request)

    label_studio.server.routes["GET", "/api/annotations/3/"] = hand_over_late
    submission = running.handle_event(body["action"], body)
    assert asked.wait(60)
    answers = running.predict([drawn_task(id=8)], LABEL_CONFIG, ASK)
    assert materials_of(answers) == {"Si", "Oxide"}
    assert not submission.done()
    gate.set()
    learning = submission.result(60)
    learning.result(60).result(60)
    assert [prediction["task"] for prediction in label_studio.predictions] == [7]


@pytest.mark.usefixtures("endless")
def test_guides_that_fit_stay(start, made, drawn_task):
    """Asking by turns about two tasks makes two guides."""
    running = start()
    for number in (7, 8, 7, 8):
        running.predict([drawn_task(id=number)], LABEL_CONFIG, ASK)
    assert len(made) == 2


@pytest.mark.usefixtures("endless")
def test_full_disk_costs_other_tasks_nothing(start, made, drawn_task, caplog):
    """The training of the guide that is let go is lost, with a sentence."""

    class Unsavable(NotedGuide):
        def save(self, _path):
            raise OSError(28, "No space left on device")

    running = start(Unsavable, **ONE_GUIDE)
    running.predict([drawn_task()], LABEL_CONFIG, ASK)
    wait_until(lambda: has_trained(made[0]))
    answers = running.predict([drawn_task(id=8)], LABEL_CONFIG, ASK)
    assert materials_of(answers) == {"Si", "Oxide"}
    assert "what it learned is lost" in caplog.text
