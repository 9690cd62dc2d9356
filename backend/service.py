"""Joins the rooms: what happens when an annotator asks, opens a task or submits. Knows no HTTP.

An ask: wait for the draft that holds the prompt → keep its strokes → train on the worker → answer.
A submission: the same in the background, and the prediction is pushed to Label Studio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.predictions import sent_regions, to_results
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.tasks import (
    Annotation,
    Json,
    Region,
    Task,
    parse_annotation,
    parse_draft,
    parse_prompts,
    parse_task,
)
from backend.arrays import UNLABELED, LabelMap
from backend.errors import InvalidTaskError, LabelStudioError
from backend.feature_cache import FeatureCache
from backend.guide_cache import GuideCache
from backend.jobs import LatestOnly, NewestRequests
from backend.learning.guide import Guide, Prediction
from backend.learning.spots import Spot
from backend.microscope.images import decode_image
from backend.settings import Settings
from backend.store import GuideStore, StoredPrediction, state_key

logger = logging.getLogger(__name__)

VERSION_PREFIX = "tem-guide"
MODEL_VERSION = f"{VERSION_PREFIX}-v1"

TRAINING_STEPS = 40
"""Of the network after each answer, as long as nobody asks."""
ROUND_STEPS = 1
"""Trained at once: somebody who asks meanwhile waits for it, a quarter of a second."""
OPINION_STEPS = 10
"""After so many the network is asked for its opinion, which joins the answers from then on."""

_LEARNING_EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}
_KNOWN_EVENTS = {"ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", "START_TRAINING",
                 "TASKS_CREATED", "TASKS_DELETED"}  # fmt: skip

_WHOLE_IMAGE = Spot(0, 0, 1, 1, 1.0, "nothing is known yet")  # of an image of 1 x 1
_TAKEN_OVER = "A newer request took over: ask again."
_DRAWN_ELSEWHERE = (
    "drawn on an image of another size: was the image replaced? Import it as a new task"
)


@dataclass(frozen=True)
class Turn:
    """The outcome of one training."""

    prediction: Prediction
    score: float  # confidence of the whole, 0 to 1
    materials_drawn: int


class GuideService:
    """Answers Label Studio with what the guides of its tasks believe."""

    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        make_guide: Callable[..., Guide] = Guide,
    ) -> None:
        """Open the state folder; the worker thread starts with the first training.

        Args:
            settings: Timeouts, limits and folders.
            client: The Label Studio it works for.
            make_guide: Makes the guide of an image, called like `Guide`.
        """
        self._settings = settings
        self._client = client
        max_bytes = int(settings.max_image_mb * 1e6)
        self._images = ImageSource(client, settings.image_root, max_bytes)
        self._store = GuideStore(settings.model_dir)
        self._jobs = LatestOnly()
        self._newest = NewestRequests()
        self._make_guide = make_guide
        self._guides = GuideCache(settings.guide_cache_mb * 1e6, self._let_go)
        self._features = FeatureCache(
            settings.model_dir / "features", settings.feature_cache_mb * 1e6
        )

    def close(self) -> None:
        """Finish the training that runs, put the guides on disk, and close the state."""
        self._jobs.close()
        self._guides.close()
        self._store.close()

    def check_label_config(self, label_config: str) -> str:
        """Return the model version, after making sure that the guide understands the config.

        Raises:
            InvalidLabelConfigError: It names the controls that are missing.
        """
        parse_label_config(label_config)
        return MODEL_VERSION

    def predict(self, tasks: Sequence[Json], label_config: str, context: object) -> list[Json]:
        """Answer a `/predict`: train and answer if a prompt was drawn, else tell what is known.

        Args:
            tasks: Label Studio's tasks; an interactive call has one.
            label_config: The project's labeling config, XML.
            context: The prompts of an interactive call, else None.

        Returns:
            One prediction for each task, in Label Studio's form.

        Raises:
            ValueError: A task, prompt, image or config that cannot be used; says what to do.
            ForbiddenImageError: The image is not where images may lie.
            LabelStudioError: The image cannot be fetched from Label Studio.
        """
        config = parse_label_config(label_config)
        prompt_ids = {region.id for region in parse_prompts(context)}
        if not prompt_ids:
            answers = [self._answer_known(task, config) for task in tasks]
            if len(tasks) == 1:  # somebody opens it; a batch is "Retrieve Predictions"
                self._open_when_idle(tasks[0], config)
            return answers
        parsed = [parse_task(task, config.image_key) for task in tasks]
        return [self._answer_ask(task, config, prompt_ids) for task in parsed]

    def handle_event(self, event: str, body: Json) -> Future[Any] | None:
        """Take note of a webhook; all work is queued.

        Args:
            event: Label Studio's `action`.
            body: A hint only: what is trained from is fetched from Label Studio again.

        Returns:
            The training that was queued, if any.

        Raises:
            InvalidTaskError: The body lacks the ids of its annotation and task.
        """
        if event not in _LEARNING_EVENTS:
            known = "nothing to do" if event in _KNOWN_EVENTS else "unknown event, ignored"
            logger.info("webhook %s: %s", event, known)
            return None
        annotation_id, task_id = _id_in(body, "annotation"), _id_in(body, "task")
        is_newest = self._newest.enter(task_id)
        training = self._jobs.submit(
            ("submission", task_id),
            lambda: self._learn_submission(annotation_id, task_id, is_newest),
        )
        training.add_done_callback(lambda f: _log_failure(f"task {task_id} was not learned", f))
        return training

    def _answer_ask(self, task: Task, config: LabelConfig, prompt_ids: set[str]) -> Json:
        is_newest = self._newest.enter(task.id)
        self._jobs.submit(("open", task.id), lambda: self._open_guide(task, config))  # meanwhile
        annotation, notice = self._newest_annotation(task, prompt_ids)
        if not is_newest():  # its strokes may be older than those that are already on disk
            return self._answer_stored(task, config, _TAKEN_OVER)
        regions = self._weak_labels(task.id, annotation, config) if annotation else ()
        scribbles = self._keep_scribbles(task, config, regions)
        if scribbles is None and notice:  # the draft was not seen, so the strokes may still exist
            scribbles = self._store.load_scribbles(self._key(task, config))
        turn = self._jobs.submit(("ask", task.id), lambda: self._learn(task, config, scribbles))
        try:
            outcome = turn.result(timeout=self._settings.answer_timeout_s)
        except CancelledError:
            logger.info("task %d: a newer request took over", task.id)
            return self._answer_stored(task, config, _TAKEN_OVER)
        except FutureTimeoutError:
            logger.warning("task %d: the answer takes too long, the last one is sent", task.id)
            return self._answer_stored(task, config, "Still training: ask again in a moment.")
        return self._answer_turn(task.id, config, outcome, notice)

    def _newest_annotation(self, task: Task, prompt_ids: set[str]) -> tuple[Annotation | None, str]:
        """Find the draft that holds the prompt and so every stroke; say if there is none yet."""
        known = task.newest_scribbled(prompt_ids)
        if known is not None and known.region_ids.issuperset(prompt_ids):
            return known, ""
        try:
            draft = self._client.wait_for_draft(task.id, prompt_ids, self._settings.draft_timeout_s)
        except LabelStudioError as error:
            logger.warning("task %d: drafts cannot be read: %s", task.id, error)
            return known, "Label Studio did not hand over the newest strokes: ask again."
        if draft is None:
            logger.warning("task %d: no draft holds the prompt, older strokes are used", task.id)
            return known, "The newest strokes were not saved yet: ask again."
        return parse_draft(draft), ""

    def _learn_submission(
        self, annotation_id: int, task_id: int, is_newest: Callable[[], bool]
    ) -> None:
        """Train from a submitted annotation and replace the task's prediction."""
        body = self._client.task(task_id)
        label_config = self._client.project(body["project"])["label_config"]
        config = parse_label_config(label_config)
        task = parse_task(body, config.image_key)
        annotation = parse_annotation(self._client.annotation(annotation_id))
        regions = self._weak_labels(task_id, annotation, config)
        if annotation.was_cancelled or annotation.finished or not regions:
            logger.info("annotation %d of task %d: nothing to learn", annotation_id, task_id)
            return
        if not is_newest():
            logger.info("annotation %d of task %d: newer strokes are known", annotation_id, task_id)
            return
        scribbles = self._keep_scribbles(task, config, regions)
        answer = self._answer_turn(task_id, config, self._learn(task, config, scribbles))
        self._client.replace_predictions(task_id, **answer, prefix=VERSION_PREFIX)
        logger.info("task %d: a new prediction is in Label Studio", task_id)

    def _weak_labels(
        self, task_id: int, annotation: Annotation, config: LabelConfig
    ) -> tuple[Region, ...]:
        sent = self._store.sent(task_id, annotation.region_ids)
        regions, ignored = weak_labels(annotation.regions, config, sent)
        for sentence in ignored:
            logger.info("task %d: %s", task_id, sentence)
        return regions

    def _keep_scribbles(
        self, task: Task, config: LabelConfig, regions: Sequence[Region]
    ) -> LabelMap | None:
        """Rasterize strokes and put them on disk; None, and nothing overwritten, without any."""
        shapes = {region.shape for region in regions if region.shape}
        if not shapes:
            return None
        if len(shapes) > 1:
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        key, shape = self._key(task, config), shapes.pop()
        before = self._store.load_scribbles(key)
        if before is not None and before.shape != shape:  # those on disk must not be lost
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        scribbles = rasterize(regions, config.materials, shape)
        self._store.save_scribbles(key, scribbles)
        return scribbles

    def _learn(self, task: Task, config: LabelConfig, scribbles: LabelMap | None) -> Turn:
        """Train the task's guide on the strokes, if there are any."""
        guide = self._open_guide(task, config)
        if scribbles is None:
            scribbles = np.full(guide.shape, UNLABELED, np.uint8)
        if scribbles.shape != guide.shape:
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        key = self._key(task, config)
        prediction = guide.update(scribbles)
        stored = _to_store(prediction)
        drawn = np.unique(scribbles[scribbles != UNLABELED])
        self._store.save_prediction(key, stored)
        if guide.can_learn:
            self._train_when_idle(key, TRAINING_STEPS)
        logger.info(
            "task %d: %d px of %d materials are drawn, mean uncertainty %.3f",
            task.id, np.count_nonzero(scribbles != UNLABELED), len(drawn), 1 - stored.score,
        )  # fmt: skip
        return Turn(prediction, stored.score, len(drawn))

    def _train_when_idle(self, key: str, steps: int) -> None:
        """Go on training between two asks, in rounds; the next answer is the better for it."""

        def train() -> None:
            guide = self._guides.get(key)  # a job that held it would keep it in memory
            if guide is None or not guide.can_learn:  # let go, or the strokes were erased
                return
            guide.train(min(ROUND_STEPS, steps))
            left = steps - ROUND_STEPS
            if left <= 0 or left % OPINION_STEPS == 0:
                self._store.save_prediction(key, _to_store(guide.predict()))
            self._guides.keep(key, guide)
            if left > 0:
                self._train_when_idle(key, left)
            else:
                guide.save(self._store.guide_path(key))

        with suppress(RuntimeError):  # the server is shutting down
            training = self._jobs.submit(("train", key), train, when_idle=True)
            training.add_done_callback(lambda f: _log_failure(f"task {key} was not learned", f))

    def _open_when_idle(self, body: Json, config: LabelConfig) -> None:
        """Prepare for the first ask while the annotator draws; of several tasks, for the newest."""
        with suppress(RuntimeError):  # the server is shutting down
            opening = self._jobs.submit(
                "open",
                lambda: self._open_guide(parse_task(body, config.image_key), config),
                when_idle=True,
            )
            sentence = f"task {body.get('id')} was not opened ahead"
            opening.add_done_callback(lambda f: _log_failure(sentence, f))

    def _open_guide(self, task: Task, config: LabelConfig) -> Guide:
        """Return the guide of a task: from memory, else made from image and stored weights."""
        key = self._key(task, config)
        guide = self._guides.get(key)
        if guide is not None:
            return guide
        content = self._images.read(task.image)
        guide = self._make_guide(
            decode_image(content),
            len(config.materials),
            class_names=config.materials,
            describe=self._features.features,
        )
        weights = self._store.guide_path(key)
        if weights.exists():
            try:
                guide.load(weights)
            except ValueError as error:
                logger.warning("task %d starts afresh: %s", task.id, error)
        self._guides.keep(key, guide)
        return guide

    def _let_go(self, key: str, guide: Guide) -> None:
        """Put on disk what a guide that leaves memory has learned since it was last there."""
        if guide.is_saved:
            return
        try:
            guide.save(self._store.guide_path(key))
        except OSError as error:  # must not cost another task its answer
            logger.warning("task %s: what it learned is lost: %s", key, error)

    def _answer_turn(self, task_id: int, config: LabelConfig, turn: Turn, notice: str = "") -> Json:
        prediction = turn.prediction
        if turn.materials_drawn < 2:  # noqa: PLR2004 - nothing to tell apart
            notice = notice or "Paint a stroke in at least two materials, then ask again."
        results = to_results(
            prediction.label_map,
            prediction.spots,
            config,
            probabilities=prediction.probabilities,
            notice=notice,
        )
        return self._answer(task_id, results, turn.score)

    def _answer_known(self, body: Json, config: LabelConfig) -> Json:
        """Answer one task of a batch; one that cannot be read must not cost the others theirs."""
        try:
            return self._answer_stored(parse_task(body, config.image_key), config)
        except InvalidTaskError as error:
            logger.warning("task %s gets no prediction: %s", body.get("id"), error)
            return {"result": [], "score": 0, "model_version": MODEL_VERSION}

    def _answer_stored(self, task: Task, config: LabelConfig, notice: str = "") -> Json:
        """Answer with the latest prediction; with nothing when there is none."""
        stored = self._store.load_prediction(self._key(task, config))
        if stored is None and notice:  # a box is the only thing that can carry words
            nothing = np.full((1, 1), UNLABELED, np.uint8)
            stored = StoredPrediction(nothing, np.ones((1, 1), np.float32), (_WHOLE_IMAGE,))
        if stored is None:
            return self._answer(task.id, [], 0)
        results = to_results(stored.label_map, stored.spots, config, notice=notice)
        return self._answer(task.id, results, stored.score)

    def _key(self, task: Task, config: LabelConfig) -> str:
        return state_key(self._settings.label_studio_url, task, config.materials)

    def _answer(self, task_id: int, results: list[Json], score: float) -> Json:
        self._store.remember_sent(task_id, sent_regions(results))
        return {"result": results, "score": score, "model_version": MODEL_VERSION}


def _to_store(prediction: Prediction) -> StoredPrediction:
    return StoredPrediction(prediction.label_map, prediction.uncertainty, prediction.spots)


def _log_failure(sentence: str, work: Future[Any]) -> None:
    """Say why work failed that nobody waits for."""
    error = None if work.cancelled() else work.exception()
    if error is not None:
        logger.error("%s: %s: %s", sentence, type(error).__name__, error)


def _id_in(body: Json, name: str) -> int:
    """Return `body[name]["id"]`.

    Raises:
        InvalidTaskError: It is missing or no integer.
    """
    entry = body.get(name)
    found = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(found, int):
        raise InvalidTaskError(f"the webhook names no {name}: its body lacks {name}.id")
    return found
