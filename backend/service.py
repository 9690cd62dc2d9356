"""Joins the rooms: what happens when an annotator asks, opens a task or submits. Knows no HTTP.

An ask: wait for the draft that holds the prompt → keep its strokes → train on the worker → answer.
A submission: the same in the background, and the prediction is pushed to Label Studio.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.predictions import to_results
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.task_columns import TaskColumns
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
from backend.cd_guidance import CDGuidance, Drawn, read_cd_recipe
from backend.errors import InvalidTaskError, LabelStudioError
from backend.feature_cache import FeatureCache
from backend.guide_cache import GuideCache
from backend.jobs import LatestOnly, NewestRequests
from backend.learning.guide import Guide, Prediction
from backend.learning.registry import Registry
from backend.learning.shared_model import PublishedModel
from backend.microscope.images import decode_image
from backend.resources import VERSION_PREFIX, Resources, log_failure, started_by, to_store
from backend.settings import Settings
from backend.shared_predictions import SharedPredictions
from backend.store import GuideStore, StoredPrediction, Turn
from backend.training_process import TrainingProcess, TrainingStatus

logger = logging.getLogger(__name__)

TRAINING_STEPS = 40
"""Of the network after each answer, as long as nobody asks."""
ROUND_STEPS = 1
"""Trained at once: somebody who asks meanwhile waits for it, a quarter of a second."""
OPINION_STEPS = 10
"""After so many the network is asked for its opinion, which joins the answers from then on."""

_LEARNING_EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}
_KNOWN_EVENTS = {"ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", "TASKS_DELETED"}

_TAKEN_OVER = "A newer request took over: ask again."
_STILL_TRAINING = "Still training: ask again in a moment."
_DRAWN_ELSEWHERE = (
    "drawn on an image of another size: was the image replaced? Import it as a new task"
)


@dataclass(frozen=True)
class Outcome:
    """What one training gave."""

    prediction: Prediction
    stored: StoredPrediction  # what is kept of it: its boxes are those to be shown


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

        Raises:
            ValueError: The CD recipe of the settings cannot be used.
        """
        recipe = read_cd_recipe(settings.cd_recipe)
        self._settings = settings
        self._client = client
        self._store = GuideStore(settings.model_dir)
        self._jobs = LatestOnly()
        self._newest = NewestRequests()
        self._resources = Resources(
            client,
            ImageSource(client, settings.image_root, int(settings.max_image_mb * 1e6)),
            self._store,
            self._jobs,
            PublishedModel(Registry(settings.registry)),
            make_guide,
        )
        self._cds = CDGuidance(self._resources, recipe, settings.cd_timeout_s)
        self._shared = SharedPredictions(self._resources)
        self._training = TrainingProcess(settings.model_dir)
        self._guides = GuideCache(settings.guide_cache_mb * 1e6, self._let_go)
        self._features = FeatureCache(
            settings.model_dir / "features", settings.feature_cache_mb * 1e6
        )

    def close(self) -> None:
        """Finish the training that runs, put the guides on disk, and close the state."""
        self._training.close()
        self._jobs.close()
        self._guides.close()
        self._store.close()

    @property
    def model_version(self) -> str:
        """Names the shared model that starts guides, 0 before there is one."""
        return self._resources.model_version

    def check_label_config(self, label_config: str) -> None:
        """Make sure that the guide understands a labeling config.

        Raises:
            InvalidLabelConfigError: It names the controls that are missing.
        """
        parse_label_config(label_config)

    def project_opened(self, project: str) -> None:
        """Bring a project up to date in the background; named as Label Studio does: "3.17953"."""
        number = project.partition(".")[0]
        if number.isdecimal():
            self._shared.keep_up(int(number))

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
        if context is not None and not prompt_ids:  # what Label Studio asks for after Submit
            return [self._resources.answer(0, [], 0) for _ in tasks]
        if not prompt_ids:
            deadline = time.monotonic() + self._settings.answer_timeout_s
            answers = [self._answer_known(task, config, deadline) for task in tasks]
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
        if event == "START_TRAINING":
            project_id = _id_in(body, "project")
            return self._jobs.submit("training", lambda: self._start_training(project_id))
        if event == "TASKS_CREATED":  # else they would come last in the order by uncertainty
            new_in = _id_in(body, "project")
            self._resources.when_idle(
                ("created", new_in),
                lambda: self._shared.renew(new_in, only_new=True),
                f"new tasks of project {new_in} have no predictions",
            )
            return None
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
        training.add_done_callback(lambda f: log_failure(f"task {task_id} was not learned", f))
        return training

    @property
    def training(self) -> TrainingStatus:
        """How far the training of the shared model is."""
        return self._training.status

    def _start_training(self, project_id: int) -> None:
        if self._training.start(project_id, lambda: self._shared.renew(project_id)):
            logger.info("project %d: the training of the shared model has started", project_id)
        else:
            logger.info("project %d: a training runs already", project_id)

    def _answer_ask(self, task: Task, config: LabelConfig, prompt_ids: set[str]) -> Json:
        if any(prompt_ids <= annotation.region_ids for annotation in task.annotations):
            return self._resources.answer(task.id, [], 0)  # Label Studio asks again after Submit
        is_newest = self._newest.enter(task.id)
        self._jobs.submit(("open", task.id), lambda: self._open_guide(task, config))  # meanwhile
        annotation, notice = self._newest_annotation(task, prompt_ids)
        if not is_newest():  # its strokes may be older than those that are already on disk
            return self._resources.answer_stored(task, config, _TAKEN_OVER)
        regions = self._weak_labels(task.id, annotation, config) if annotation else ()
        scribbles = self._keep_scribbles(task, config, regions)
        strokes = len(regions)
        if scribbles is None and notice:  # the draft was not seen, so the strokes may still exist
            scribbles = self._store.load_scribbles(self._resources.key(task, config))
        turn = self._jobs.submit(
            ("ask", task.id), lambda: self._learn(task, config, scribbles, strokes)
        )
        try:
            outcome = turn.result(timeout=self._settings.answer_timeout_s)
        except CancelledError:
            logger.info("task %d: a newer request took over", task.id)
            return self._resources.answer_stored(task, config, _TAKEN_OVER)
        except FutureTimeoutError:
            logger.warning("task %d: the answer takes too long, the last one is sent", task.id)
            return self._resources.answer_stored(task, config, _STILL_TRAINING)
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
        if annotation.finished:
            turns = self._store.turns(self._resources.key(task, config))
            uncertainty = turns[-1].uncertainty if turns else None
            model = turns[-1].model if turns else self._resources.model_version
            columns = TaskColumns("finished", model, uncertainty, len(turns), len(regions))
            self._resources.show_when_idle(task_id, columns)
        if annotation.was_cancelled or annotation.finished or not regions:
            logger.info("annotation %d of task %d: nothing to learn", annotation_id, task_id)
            return
        if is_newest():
            scribbles = self._keep_scribbles(task, config, regions)
        else:  # a newer request has strokes on disk, or will have, and those stay there
            scribbles = self._rasterize(task, config, regions)
        outcome = self._learn(task, config, scribbles, len(regions))
        answer = self._answer_turn(task_id, config, outcome)
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
        scribbles = self._rasterize(task, config, regions)
        if scribbles is None:
            return None
        key = self._resources.key(task, config)
        before = self._store.load_scribbles(key)
        if before is not None and before.shape != scribbles.shape:  # those on disk must stay
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        self._store.save_scribbles(key, scribbles)
        return scribbles

    def _rasterize(
        self, task: Task, config: LabelConfig, regions: Sequence[Region]
    ) -> LabelMap | None:
        shapes = {region.shape for region in regions if region.shape}
        if len(shapes) > 1:
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        return rasterize(regions, config.materials, shapes.pop()) if shapes else None

    def _learn(
        self, task: Task, config: LabelConfig, scribbles: LabelMap | None, strokes: int
    ) -> Outcome:
        """Train the task's guide on the strokes, if there are any."""
        guide = self._open_guide(task, config)
        if scribbles is None:
            scribbles = np.full(guide.shape, UNLABELED, np.uint8)
        if scribbles.shape != guide.shape:
            raise InvalidTaskError(f"task {task.id}: its strokes were {_DRAWN_ELSEWHERE}")
        key = self._resources.key(task, config)
        prediction = guide.update(scribbles)
        drawn = Drawn(task, config, scribbles)
        guidance = self._cds.now(drawn, prediction)
        stored = replace(
            to_store(prediction, guide.shared), spots=guidance.spots, notes=guidance.notes
        )
        drawn_px = int(np.count_nonzero(scribbles != UNLABELED))
        self._store.save_prediction(key, stored)
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        turn = Turn(task.id, at, strokes, drawn_px, 1 - stored.score, started_by(guide))
        turns = self._store.record_turn(key, turn)
        columns = TaskColumns(
            "scribbled", turn.model, turn.uncertainty, turns, strokes, *guidance.told
        )
        self._resources.show_when_idle(task.id, columns)
        if guidance.is_late:
            self._cds.when_idle(drawn, prediction)
        if guide.can_learn:
            self._train_when_idle(drawn, TRAINING_STEPS)
        logger.info(
            "task %d, turn %d: %d strokes, %d px are drawn, mean uncertainty %.3f",
            task.id, turns, strokes, drawn_px, turn.uncertainty,
        )  # fmt: skip
        return Outcome(prediction, stored)

    def _train_when_idle(self, drawn: Drawn, steps: int) -> None:
        """Go on training between two asks, in rounds; the next answer is the better for it."""
        key = self._resources.key(drawn.task, drawn.config)

        def train() -> None:
            guide = self._guides.get(key)  # a job that held it would keep it in memory
            if guide is None or not guide.can_learn:  # let go, or the strokes were erased
                return
            guide.train(min(ROUND_STEPS, steps))
            left = steps - ROUND_STEPS
            if left <= 0 or left % OPINION_STEPS == 0:
                prediction = guide.predict()
                self._store.save_prediction(key, to_store(prediction, guide.shared))
                self._cds.when_idle(drawn, prediction)
            self._guides.keep(key, guide)
            if left > 0:
                self._train_when_idle(drawn, left)
            else:
                guide.save(self._store.guide_path(key))

        self._resources.when_idle(("train", key), train, f"task {key} was not learned")

    def _open_when_idle(self, body: Json, config: LabelConfig) -> None:
        """Prepare for the first ask while the annotator draws; of several tasks, for the newest."""
        self._resources.when_idle(
            "open",
            lambda: self._open_guide(parse_task(body, config.image_key), config),
            f"task {body.get('id')} was not opened ahead",
        )

    def _open_guide(self, task: Task, config: LabelConfig) -> Guide:
        """Return the guide of a task: from memory, else made from image and stored weights."""
        key = self._resources.key(task, config)
        guide = self._guides.get(key)
        if guide is not None:
            return guide
        content = self._resources.images.read(task.image)
        guide = self._resources.make_guide(
            decode_image(content),
            len(config.materials),
            class_names=config.materials,
            describe=self._features.features,
            shared=self._resources.shared(config),
        )
        weights = self._store.guide_path(key)
        if weights.exists():
            try:
                guide.load(weights)
            except ValueError as error:
                logger.warning("task %d starts afresh: %s", task.id, error)
        guide.prepare()
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

    def _answer_turn(
        self, task_id: int, config: LabelConfig, turn: Outcome, notice: str = ""
    ) -> Json:
        prediction, stored = turn.prediction, turn.stored
        if (prediction.label_map == UNLABELED).all():
            notice = notice or "Paint a stroke in at least two materials, then ask again."
        results = to_results(
            prediction.label_map,
            stored.spots,
            config,
            probabilities=prediction.probabilities,
            notes=(*((notice,) if notice else ()), *stored.notes),
        )
        return self._resources.answer(task_id, results, stored.score)

    def _answer_known(self, body: Json, config: LabelConfig, deadline: float) -> Json:
        """Answer one task of a batch; one that cannot be read must not cost the others theirs."""
        try:
            task = parse_task(body, config.image_key)
            self._shared.predict_ahead(task, config, deadline)
            return self._resources.answer_stored(task, config)
        except (ValueError, PermissionError, ConnectionError) as error:
            logger.warning("task %s gets no prediction: %s", body.get("id"), error)
            return {"result": [], "score": 0, "model_version": self._resources.model_version}


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
