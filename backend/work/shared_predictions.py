"""The shared model at work on untouched tasks: when they open, and after a publication.

Label Studio is asked and told in errands, a page of tasks each, so that no answer waits for it.
Untouched is also a task whose annotation was deleted. If the only model is taken back, version 0
serves, which knows nothing of them.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, replace
from itertools import islice

import numpy as np

from backend.annotation.client import TASKS_A_PAGE
from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.task_columns import (
    UNCERTAINTY,
    TaskColumns,
    is_finished,
    state_column,
    state_if_unfinished,
)
from backend.annotation.tasks import Json, Task, parse_annotation, parse_task
from backend.arrays import UNLABELED
from backend.errors import InvalidTaskError, QueueError
from backend.learning.shared_model import SharedModel
from backend.microscope.images import decode_image
from backend.work.handover import Job, idle_job, read_arguments, subject_of, to_arguments
from backend.work.resources import VERSION_PREFIX, Resources, to_store

logger = logging.getLogger(__name__)

_VERSIONS = f"{VERSION_PREFIX}-v"


class SharedPredictions:
    """Segments untouched tasks with the published model, and keeps Label Studio up to date."""

    def __init__(self, resources: Resources) -> None:
        """Take what the process has, and serve the jobs."""
        self._resources = resources
        self._up_to_date: dict[int, str] = {}  # projects, and the version each serves
        resources.jobs.serve("segment", self._segment_task)
        resources.jobs.serve("renew task", self._renew_task)
        resources.jobs.serve("renew", self._renew)
        resources.jobs.serve("keep up", self._keep_up)
        resources.jobs.serve("reopen", self._reopen)
        resources.jobs.serve("show renewed", self._show_renewed)
        resources.jobs.serve("follow", self._hand_over)
        resources.jobs.serve("serve version", self._serve_version)

    def predict_ahead(self, task: Task, config: LabelConfig, deadline: float) -> None:
        """Let the shared model segment a task that nobody has drawn on, if there is time left."""
        key = self._resources.key(task, config)
        shared = self._shared_if_untouched(task, config, key)
        if shared is None:
            return
        known = self._resources.store.load_prediction(key)
        if known and known.model == shared.card.name:
            return
        job = Job("segment", f"segment {task.id}", subject_of(task.id), to_arguments(task, config))
        try:
            segmenting = self._resources.jobs.submit(job)
            segmenting.result(timeout=max(0, deadline - time.monotonic()))
        except (CancelledError, FutureTimeoutError):
            logger.info("task %d: the shared model has not segmented it yet", task.id)
        except QueueError as error:
            logger.warning("task %d: the shared model has not segmented it: %s", task.id, error)

    def _segment_task(self, task: Json, config: Json) -> None:
        self._segment(*read_arguments(task, config))

    def _segment(self, task: Task, config: LabelConfig) -> None:
        """Keep what the shared model believes of a task, without keeping its guide."""
        key = self._resources.key(task, config)
        shared = self._shared_if_untouched(task, config, key)
        if shared is None:
            return
        guide = self._resources.make_guide(
            decode_image(self._resources.images.read(task.image)),
            len(config.materials),
            class_names=config.materials,
            shared=shared,
        )
        prediction = guide.update(np.full(guide.shape, UNLABELED, np.uint8))
        stored = to_store(prediction, shared)
        self._resources.store.save_prediction(key, stored)
        model = self._resources.model_version
        columns = TaskColumns("new", model, uncertainty=1 - stored.score)
        self._resources.show_soon(task, columns.as_data())

    def _shared_if_untouched(self, task: Task, config: LabelConfig, key: str) -> SharedModel | None:
        """The model for a task nobody has drawn on; if none serves, its answer is withdrawn."""
        if self._resources.store.load_scribbles(key) is not None:
            return None
        shared = self._resources.shared(config)
        if shared is None:
            self._withdraw(task, key)
        return shared

    def _withdraw(self, task: Task, key: str) -> None:
        """Forget what a model said of an untouched task, if it was taken back and none serves."""
        known = self._resources.store.load_prediction(key)
        if known is None or not known.model or not self._resources.published.is_none:
            return
        self._resources.store.forget_prediction(key)
        columns = TaskColumns("new", self._resources.model_version).as_data()
        self._resources.show_soon(task, {**columns, UNCERTAINTY: None})

    def keep_up(self, project_id: int) -> None:
        """Renew a project, when idle, unless it serves the published model already.

        So nothing is missed that was published or rolled back by hand, nor a renewal that a stop
        of the backend has cut off.
        """
        if self._up_to_date.get(project_id) == self._resources.model_version:
            return
        failure = f"project {project_id} has old predictions"
        self._resources.when_idle(_project_job("keep up", "keep up", project_id, failure))

    def renew_when_idle(self, project_id: int, *, only_new: bool = False) -> None:
        """Let the published model segment all tasks that nobody has finished.

        Their predictions are pushed to Label Studio, and in the end the project is told to order
        by them. Where somebody has drawn, it is the guide's own answer that is pushed.

        Args:
            project_id: Number in Label Studio.
            only_new: Leave out tasks that have a prediction.
        """
        self._resources.when_idle(_renewal(project_id, only_new=only_new))

    def reopen_when_idle(self, project_id: int) -> None:
        """Look for tasks that are not finished any more, since annotations were deleted."""
        failure = f"tasks of project {project_id} may be shown as finished that are not"
        self._resources.when_idle(_project_job("reopen", "reopen", project_id, failure))

    def _reopen(self, project_id: int) -> None:
        """Show such tasks as they are; those without annotation get predictions again."""
        client = self._resources.client
        config = parse_label_config(client.project(project_id)["label_config"])
        for body in client.tasks(project_id):
            state = state_if_unfinished(body)
            if state is None or self._is_finished_still(body["id"]):
                continue
            client.show_in_task(project_id, body["id"], state_column(state))
            if not body.get("total_annotations"):
                self._renew_task_when_idle(body, config)

    def _is_finished_still(self, task_id: int) -> bool:
        annotations = self._resources.client.annotations(task_id)
        try:
            return any(parse_annotation(one).finished for one in annotations)
        except InvalidTaskError as error:
            logger.warning("task %d goes on being shown as finished: %s", task_id, error)
            return True

    def _keep_up(self, project_id: int) -> None:
        version = self._resources.model_version
        told = str(self._resources.client.project(project_id).get("model_version") or "")
        never_had_one = self._resources.published.is_none and not told.startswith(_VERSIONS)
        if told == version or never_had_one:
            self._up_to_date[project_id] = version
        else:
            self._renew(project_id, only_new=False)

    def _renew(self, project_id: int, *, only_new: bool, behind: int = 0) -> None:
        """Queue a job for each task of a page, and one that follows them."""
        client, version = self._resources.client, self._resources.model_version
        config = parse_label_config(client.project(project_id)["label_config"])
        if not only_new:
            self._up_to_date[project_id] = version
        is_withdrawn = self._resources.published.is_none and not only_new
        if self._resources.shared(config) is None and not is_withdrawn:
            return
        page = list(islice(client.tasks(project_id, behind), TASKS_A_PAGE))
        for body in page:
            is_done = body.get("total_annotations") or is_finished(body)
            if not is_done and not (only_new and body.get("total_predictions")):
                self._renew_task_when_idle(body, config)
        if len(page) == TASKS_A_PAGE:
            self._follow(_renewal(project_id, only_new=only_new, behind=page[-1]["id"]))
            return
        failure = f"project {project_id} does not order by the new predictions"
        self._follow(_project_job("serve version", "version", project_id, failure))

    def _follow(self, job: Job) -> None:
        """Hand a job over when what waits for idle moments now is done."""
        arguments = {"job": asdict(job)}
        self._resources.when_idle(
            Job("follow", f"follow {job.key}", job.subject, arguments, "idle", job.failure)
        )

    def _hand_over(self, job: Json) -> None:
        self._resources.when_idle(Job(**job))

    def _serve_version(self, project_id: int) -> None:
        self._resources.client.serve_version(project_id, self._resources.model_version)

    def _renew_task_when_idle(self, body: Json, config: LabelConfig) -> None:
        try:
            task = parse_task(body, config.image_key)
        except InvalidTaskError as error:
            logger.warning("task %s keeps its old prediction: %s", body.get("id"), error)
            return
        key, failure = f"renew {task.id}", f"task {task.id} keeps its old prediction"
        self._resources.when_idle(idle_job("renew task", key, task, config, failure))

    def _renew_task(self, task: Json, config: Json) -> None:
        of, under = read_arguments(task, config)
        self._segment(of, under)  # unless somebody works on it
        key, failure = f"renewed {of.id}", f"task {of.id} keeps its old prediction"
        self._resources.when_idle(
            replace(idle_job("show renewed", key, of, under, failure), lane="errand", subject=key)
        )

    def _show_renewed(self, task: Json, config: Json) -> None:
        of, under = read_arguments(task, config)
        answer = self._resources.answer_stored(of, under)
        if answer["result"] or self._has_withdrawn(of.id):
            self._resources.client.replace_predictions(of.id, **answer, prefix=VERSION_PREFIX)

    def _has_withdrawn(self, task_id: int) -> bool:
        """Whether Label Studio has a prediction of ours, while no model serves: not to stay."""
        if not self._resources.published.is_none:
            return False
        told = {
            str(one.get("model_version")) for one in self._resources.client.predictions(task_id)
        }
        ours = {version for version in told if version.startswith(_VERSIONS)}
        return bool(ours - {self._resources.model_version})


def _renewal(project_id: int, *, only_new: bool, behind: int = 0) -> Job:
    """Renew the page of tasks behind one."""
    which = "new tasks" if only_new else "tasks"
    failure = f"{which} of project {project_id} have no new predictions"
    page = {"only_new": only_new, "behind": behind}
    return _project_job("renew", f"renew {which} of", project_id, failure, **page)


def _project_job(name: str, key: str, project_id: int, failure: str, **page: int) -> Job:
    """An errand for a project, named by the number behind its key."""
    arguments = {"project_id": project_id, **page}
    return Job(name, f"{key} {project_id}", f"project {project_id}", arguments, "errand", failure)
