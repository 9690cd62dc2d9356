"""Three workers on one Redis and one state folder, as on three hosts; one is killed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial

import numpy as np
import pytest
from label_studio_stand_in import (
    HALVES,
    LABEL_CONFIG,
    MATERIALS,
    SIDE_PX,
    TICK,
    LabelStudioStandIn,
    draft,
    masks,
    prompt,
    stroke,
    submitted,
)
from loopback import Answer, loopback_server
from workers import overlaps, running_workers

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import parse_label_config
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import parse_results, parse_task
from backend.learning import networks
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.state.store import GuideStore, state_key
from backend.work.training_process import WAITS_FOR_A_WORKER

TASKS = (1, 2, 3)
STROKES = [stroke("s1", "Si", 20), stroke("s2", "Oxide", 80), stroke("s3", "Si", 35)]
ASK = {"result": [prompt()]}
FINISHED = 9
LEASE_S = 10


@pytest.fixture(scope="module")
def label_studio():
    """A Label Studio that shows all tasks with one image each."""
    with loopback_server() as server:
        stand_in = LabelStudioStandIn(server)
        for number in TASKS:
            stand_in.set_task(number)
        yield stand_in


@pytest.fixture
def settings(label_studio, redis, tmp_path):
    """What the backend and its workers are told."""
    return Settings(
        label_studio_url=label_studio.server.url,
        label_studio_api_key="0" * 40,
        model_dir=tmp_path / "state",
        redis_url=redis.url,
        worker_lease_s=LEASE_S,
        answer_timeout_s=120,
    )


@pytest.fixture
def environ(settings):
    """The same for processes."""
    return {
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "MODEL_DIR": str(settings.model_dir),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "WORKER_LEASE_S": str(LEASE_S),
    }


@pytest.fixture
def start_workers(environ, tmp_path):
    """Run so many workers for the length of a block."""
    return partial(running_workers, folder=tmp_path / "logs", settings=environ)


@pytest.fixture
def service(settings):
    """The web side."""
    client = LabelStudioClient(settings.label_studio_url, "0" * 40, timeout_s=5)
    service = GuideService(settings, client)
    yield service
    service.close()


@pytest.fixture
def store(settings, service):
    """What is in the state folder, read as another process would."""
    assert service
    store = GuideStore(settings.model_dir)
    yield store
    store.close()


def body_of(label_studio, number, strokes=STROKES, *, asks=True):
    """Make the body of a task with strokes in its draft."""
    results = [*strokes, prompt()] if asks else list(strokes)
    body = label_studio.tasks[number]
    return {**body, "annotations": [], "predictions": [], "drafts": [draft(*results)]}


def ask(service, label_studio, number, strokes=STROKES):
    """Ask for a task; return the answer."""
    (answer,) = service.predict([body_of(label_studio, number, strokes)], LABEL_CONFIG, ASK)
    return answer


def materials_of(answer):
    """Name the materials that an answer has masks of."""
    masks = [region for region in answer["result"] if region["from_name"] == "seg"]
    return {region["value"]["brushlabels"][0] for region in masks}


def key_of(settings, label_studio, number):
    """Name the state of a task."""
    task = parse_task(body_of(label_studio, number), "image")
    return state_key(settings.label_studio_url, task, MATERIALS)


def scribbles_of(strokes=STROKES):
    """What strokes are as a label map."""
    config = parse_label_config(LABEL_CONFIG)
    return rasterize(parse_results(strokes), config.materials, (SIDE_PX, SIDE_PX))


def trained_steps(path):
    """How far the network in the file of a guide is; 0 without a file."""
    return networks.load_tensors(path)[1]["trained_steps"] if path.exists() else 0


def wait_until(condition, timeout_s=600):
    """Wait for workers."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def working_on(workers, name):
    """A worker that is in the middle of a job of this name; None if none is."""
    for worker in workers:
        spans = worker.spans() if worker.process.poll() is None else []
        if spans and spans[-1].end is None and spans[-1].key.startswith(name):
            return worker
    return None


def test_worker_that_is_killed_is_replaced_without_loss(
    service, settings, start_workers, store, label_studio
):
    """Three annotators, three workers, one killed in a training: all are answered and learned."""
    with start_workers(3) as workers, ThreadPoolExecutor(len(TASKS)) as annotators:
        answers = [annotators.submit(ask, service, label_studio, number) for number in TASKS]
        assert all(materials_of(answer.result()) == set(MATERIALS) for answer in answers)
        wait_until(lambda: working_on(workers, "train"))
        victim = working_on(workers, "train")
        cut_off = victim.spans()[-1]
        victim.kill()
        killed = {victim.number: datetime.now(timezone.utc)}
        again = ask(service, label_studio, int(cut_off.task))
        assert materials_of(again) == set(MATERIALS)
        wait_until(lambda: service.jobs.requests() == [])
        spans = [span for worker in workers for span in worker.spans()]

    assert overlaps(spans, killed) == []
    assert {span.worker for span in spans} == {1, 2, 3}
    after = [s for s in spans if s.task == cut_off.task and s.start > killed[victim.number]]
    assert {s.key.split()[0] for s in after} >= {"ask", "train"}
    for number in TASKS:
        key = key_of(settings, label_studio, number)
        np.testing.assert_array_equal(store.load_scribbles(key), scribbles_of())
        # those since the guide was last on disk are lost with its worker, or with a lease that
        # a busy machine did not renew
        assert trained_steps(store.guide_path(key)) >= 30
        assert len(store.turns(key)) == 1 + (str(number) == cut_off.task)


def test_ask_that_died_with_its_worker_is_answered_by_another(
    service, settings, start_workers, store, label_studio
):
    """Within the time that an annotator waits."""
    with start_workers(2) as workers:
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(service, label_studio, TASKS[0]))
        )
        asking.start()
        wait_until(lambda: working_on(workers, "open") or working_on(workers, "ask"))
        (working_on(workers, "open") or working_on(workers, "ask")).kill()
        asking.join()
    assert materials_of(answers[0]) == set(MATERIALS)
    key = key_of(settings, label_studio, TASKS[0])
    np.testing.assert_array_equal(store.load_scribbles(key), scribbles_of())


def test_redis_that_goes_costs_no_stroke(
    service, settings, start_workers, store, redis, label_studio
):
    """The last prediction and a sentence meanwhile; when it is back all goes on."""
    number = TASKS[1]
    key = key_of(settings, label_studio, number)
    with start_workers(1) as (worker,):
        first = ask(service, label_studio, number, STROKES[:2])
        redis.stop()
        answer = ask(service, label_studio, number)
        assert materials_of(answer) == materials_of(first) == set(MATERIALS)
        assert "Redis" in str(answer["result"])
        assert "your strokes are kept" in str(answer["result"])
        np.testing.assert_array_equal(store.load_scribbles(key), scribbles_of())
        redis.start()
        wait_until(lambda: "Redis" not in str(ask(service, label_studio, number)["result"]))
        assert worker.process.poll() is None
        assert worker.stop() == 0
    assert len(store.turns(key)) >= 2


def test_training_of_the_shared_model_goes_on_elsewhere(service, environ, tmp_path, label_studio):
    """One of two workers that train is killed; then others segment the untouched tasks."""
    label_studio.server.answer("PATCH", "/api/projects/1/", Answer({"id": 1}))
    label_studio.set_task(FINISHED, submitted(30, *masks(HALVES), TICK))
    environ = {**environ, "TRAIN_STEPS": "8", "TRAIN_CROP_PX": "128", "TRAIN_FOLDS": "2"}
    start = {"label_config": LABEL_CONFIG, "project": {"id": 1}}
    service.handle_event("START_TRAINING", start)
    assert service.training.sentence == WAITS_FOR_A_WORKER
    assert service.handle_event("START_TRAINING", start) is None
    with running_workers(2, tmp_path / "training", environ, ["--train"]) as workers:
        wait_until(lambda: service.training.state == "training")
        working_on(workers, "training").kill()
        wait_until(lambda: service.training.state == "published")
        spans = [span for worker in workers for span in worker.spans()]
        assert [span.key for span in spans] == ["training", "training"]
    with running_workers(2, tmp_path / "logs", environ) as workers:
        wait_until(lambda: "/api/projects/1/" in label_studio.server.paths("PATCH"))
        wait_until(lambda: service.jobs.requests() == [])
    assert service.model_version == "tem-guide-v1"
    segmented = {prediction["task"]: prediction for prediction in label_studio.predictions}
    assert set(segmented) == set(TASKS)
    assert {p["model_version"] for p in segmented.values()} == {"tem-guide-v1"}


def test_annotator_is_told_that_no_worker_runs(service, store, settings, label_studio):
    """After the wait; the strokes are kept."""
    service._settings = settings.model_copy(update={"answer_timeout_s": 0.1})
    answer = ask(service, label_studio, TASKS[0])
    assert "No worker is running" in str(answer["result"])
    key = key_of(settings, label_studio, TASKS[0])
    np.testing.assert_array_equal(store.load_scribbles(key), scribbles_of())


def test_worker_without_redis_is_told_what_to_set(environ, tmp_path):
    """In a sentence, and it ends."""
    del environ["REDIS_URL"]
    with running_workers(1, tmp_path / "logs", environ) as (worker,):
        assert worker.process.wait(120) == 2
    assert "REDIS_URL is not set" in worker.log.read_text()
