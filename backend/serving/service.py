"""Joins the rooms: what happens when an annotator asks, opens a task or submits. Knows no HTTP.

An ask: wait for the draft that holds the prompt → keep its strokes → hand the turn over → answer
with what was stored. A submission: the same in the background, and the prediction is pushed to
Label Studio. What takes time is done by the `Learner`, in this process or elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.tasks import (
    Annotation,
    Json,
    Task,
    parse_draft,
    parse_prompts,
    parse_task,
)
from backend.errors import InvalidTaskError, LabelStudioError, QueueError, QueueFullError
from backend.learning.guide import Guide
from backend.settings import Settings
from backend.work.handover import Job, Jobs, LocalJobs, Pending, idle_job, subject_of, to_arguments
from backend.work.learner import Learner
from backend.work.redis_jobs import RedisJobs
from backend.work.resources import open_resources
from backend.work.shared_predictions import SharedPredictions
from backend.work.strokes import drawn_regions, keep_scribbles
from backend.work.training_process import TrainingProcess, TrainingStatus

logger = logging.getLogger(__name__)

_LEARNING_EVENTS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"}
_KNOWN_EVENTS = {"ANNOTATIONS_CREATED", "PROJECT_UPDATED", "TASKS_DELETED"}

_NUMBERS = 2**63
"""Numbers of tasks and projects are smaller, in Label Studio's database as in ours."""

TRAINING = "training"
"""Key of the one job that trains the shared model."""

_TAKEN_OVER = "A newer request took over: ask again."
_STILL_TRAINING = "Still training: ask again in a moment."
_TOO_MANY = "Too many wait: your strokes are kept, ask again in a minute."
_NO_WORKER = "No worker is running: your strokes are kept, tell who runs the backend."
_TWO_MATERIALS = "Paint a stroke in at least two materials, then ask again."


class GuideService:
    """Answers Label Studio with what the guides of its tasks believe."""

    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        make_guide: Callable[..., Guide] = Guide,
        jobs: Jobs | None = None,
    ) -> None:
        """Open the state folder; the worker thread starts with the first job.

        Args:
            settings: Timeouts, limits and folders.
            client: The Label Studio it works for.
            make_guide: Makes the guide of an image, called like `Guide`.
            jobs: Where jobs are handed over; as the settings say if left out.

        Raises:
            ValueError: The CD recipe of the settings cannot be used.
        """
        self._settings = settings
        self._client = client
        self._jobs = jobs or _open_jobs(settings)
        self._resources = open_resources(settings, client, self._jobs, make_guide)
        self._learner = Learner(self._resources, settings)
        self._shared = SharedPredictions(self._resources)
        self._training = TrainingProcess(
            settings.model_dir,
            limit_s=settings.train_timeout_s,
            elsewhere=partial(self._jobs.is_elsewhere, TRAINING),
        )
        self._jobs.serve("train shared model", self._train_shared_model)

    def close(self) -> None:
        """Finish the training that runs, put the guides on disk, and close the state."""
        self._training.close()
        self._jobs.close()
        self._learner.close()
        self._resources.store.close()

    @property
    def model_version(self) -> str:
        """Names the shared model that starts guides, 0 before there is one."""
        return self._resources.model_version

    @property
    def jobs(self) -> Jobs:
        """Tells what waits and what runs."""
        return self._jobs

    @property
    def open_guides(self) -> int:
        """How many guides are in the memory of this process."""
        return self._learner.open_guides

    def check_label_config(self, label_config: str) -> None:
        """Make sure that the guide understands a labeling config.

        Raises:
            InvalidLabelConfigError: It names the controls that are missing.
        """
        parse_label_config(label_config)

    def project_opened(self, project: str) -> None:
        """Bring a project up to date in the background; named as Label Studio does: "3.17953"."""
        number = project.partition(".")[0]
        if number.isdecimal() and len(number) < len(str(_NUMBERS)):
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

    def handle_event(self, event: str, body: Json) -> Pending | None:
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
            if self._jobs.is_elsewhere(TRAINING):
                logger.info("project %d: a training runs already", project_id)
                return None
            return self._jobs.submit(_training_of(project_id))
        if event == "TASKS_CREATED":  # else they would come last in the order by uncertainty
            self._shared.renew_when_idle(_id_in(body, "project"), only_new=True)
            return None
        if event == "ANNOTATIONS_DELETED":  # of which tasks is not told
            self._shared.reopen_when_idle(_id_in(body, "project"))
            return None
        if event not in _LEARNING_EVENTS:
            known = "nothing to do" if event in _KNOWN_EVENTS else "unknown event, ignored"
            logger.info("webhook %s: %s", event, known)
            return None
        annotation_id, task_id = _id_in(body, "annotation"), _id_in(body, "task")
        subject = subject_of(task_id)
        arguments = {"annotation_id": annotation_id, "task_id": task_id}
        job = Job(
            "learn submission",
            f"submission {task_id}",
            f"submission {task_id}",
            {**arguments, "number": self._jobs.enter(subject)},
            "errand",
            f"task {task_id} was not learned",
        )
        return self._jobs.submit(job)

    @property
    def training(self) -> TrainingStatus:
        """How far the training of the shared model is."""
        return self._training.status

    def _train_shared_model(self, project_id: int) -> None:
        renew = partial(self._shared.renew_when_idle, project_id)
        if self._training.start(project_id, renew):
            logger.info("project %d: the training of the shared model has started", project_id)
        else:
            logger.info("project %d: a training runs already", project_id)

    def _answer_ask(self, task: Task, config: LabelConfig, prompt_ids: set[str]) -> Json:
        if any(prompt_ids <= annotation.region_ids for annotation in task.annotations):
            return self._resources.answer(task.id, [], 0)  # Label Studio asks again after Submit
        subject, arguments = subject_of(task.id), to_arguments(task, config)
        number = self._jobs.enter(subject)
        is_full = self._jobs.waiting.asked >= self._settings.max_waiting
        if not is_full:
            opening = Job("open", f"open {task.id}", subject, arguments, failure=_not_opened(task))
            self._jobs.submit(opening)  # meanwhile
        annotation, notice = self._newest_annotation(task, prompt_ids)
        if not self._jobs.is_newest(subject, number):  # older strokes than those on disk, perhaps
            return self._resources.answer_stored(task, config, _TAKEN_OVER)
        drawn = self._keep_drawn(task, config, annotation)
        drawn["is_drawn"] |= bool(notice)  # the draft was not seen: strokes may still exist
        asking = Job("learn", f"ask {task.id}", subject, arguments | drawn)
        try:
            turn = self._submit_unless(is_full, asking)
            turn.result(timeout=self._settings.answer_timeout_s)
        except (QueueError, QueueFullError) as error:
            logger.warning("task %d: %s", task.id, error)
            return self._resources.answer_stored(task, config, str(error))
        except CancelledError:
            logger.info("task %d: a newer request took over", task.id)
            return self._resources.answer_stored(task, config, _TAKEN_OVER)
        except FutureTimeoutError:
            logger.warning("task %d: the answer takes too long, the last one is sent", task.id)
            notice = _STILL_TRAINING if self._jobs.workers else _NO_WORKER
            return self._resources.answer_stored(task, config, notice)
        return self._resources.answer_stored(task, config, notice, if_undecided=_TWO_MATERIALS)

    def _submit_unless(self, is_full: bool, asking: Job) -> Pending:
        if is_full:
            raise QueueFullError(_TOO_MANY)
        return self._jobs.submit(asking)

    def _keep_drawn(self, task: Task, config: LabelConfig, annotation: Annotation | None) -> Json:
        """Put strokes on disk; tell how many there are, and whose, as the job wants it."""
        if annotation is None:
            return {"strokes": 0, "is_drawn": False, "annotator": ""}
        regions = drawn_regions(self._resources, task.id, annotation, config)
        kept = keep_scribbles(self._resources, task, config, regions, annotation.moment)
        who = annotation.user or ""
        return {"strokes": len(regions), "is_drawn": kept is not None, "annotator": who}

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

    def _open_when_idle(self, body: Json, config: LabelConfig) -> None:
        """Prepare for the first ask while the annotator draws; of several tasks, for the newest."""
        try:
            task = parse_task(body, config.image_key)
        except InvalidTaskError as error:  # who asks is told
            logger.warning("task %s was not opened ahead: %s", body.get("id"), error)
            return
        self._resources.when_idle(idle_job("open", "open", task, config, _not_opened(task)))

    def _answer_known(self, body: Json, config: LabelConfig, deadline: float) -> Json:
        """Answer one task of a batch; one that cannot be read must not cost the others theirs."""
        try:
            task = parse_task(body, config.image_key)
            self._shared.predict_ahead(task, config, deadline)
            return self._resources.answer_stored(task, config)
        except (ValueError, PermissionError, ConnectionError) as error:
            logger.warning("task %s gets no prediction: %s", body.get("id"), error)
            return {"result": [], "score": 0, "model_version": self._resources.model_version}


def _not_opened(task: Task) -> str:
    return f"task {task.id} was not opened ahead"


def _open_jobs(settings: Settings) -> Jobs:
    if settings.redis_url is None:
        return LocalJobs(settings.images_aside)
    url = settings.redis_url.get_secret_value()
    return RedisJobs(url, settings.train_timeout_s, settings.images_aside)


def _training_of(project_id: int) -> Job:
    return Job(
        "train shared model",
        TRAINING,
        TRAINING,
        {"project_id": project_id},
        "training",
        "a training did not begin, or did not end well",
    )


def _id_in(body: Json, name: str) -> int:
    """Return `body[name]["id"]`.

    Raises:
        InvalidTaskError: It is missing or no integer.
    """
    entry = body.get(name)
    found = entry.get("id") if isinstance(entry, dict) else None
    if type(found) is not int or not 0 <= found < _NUMBERS:  # true is an int to Python
        raise InvalidTaskError(f"the webhook names no {name}: its body lacks {name}.id")
    return found
