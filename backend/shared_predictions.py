"""The shared model at work on untouched tasks: when they open, and after a publication."""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError

import numpy as np

from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.task_columns import TaskColumns, is_finished
from backend.annotation.tasks import Json, Task, parse_task
from backend.arrays import UNLABELED
from backend.microscope.images import decode_image
from backend.resources import VERSION_PREFIX, Resources, to_store

logger = logging.getLogger(__name__)


class SharedPredictions:
    """Segments untouched tasks with the published model, and keeps Label Studio up to date."""

    def __init__(self, resources: Resources) -> None:
        """Take what the process has."""
        self._resources = resources
        self._up_to_date: dict[int, str] = {}  # projects, and the version each serves

    def predict_ahead(self, task: Task, config: LabelConfig, deadline: float) -> None:
        """Let the shared model segment a task that nobody has drawn on, if there is time left."""
        key = self._resources.key(task, config)
        known = self._resources.store.load_prediction(key)
        drawn = self._resources.store.load_scribbles(key) is not None
        shared = None if drawn else self._resources.shared(config)
        if shared is None or (known and known.model == shared.card.name):
            return
        segmenting = self._resources.jobs.submit(
            ("segment", task.id), lambda: self._segment(task, config)
        )
        try:
            segmenting.result(timeout=max(0, deadline - time.monotonic()))
        except (CancelledError, FutureTimeoutError):
            logger.info("task %d: the shared model has not segmented it yet", task.id)

    def _segment(self, task: Task, config: LabelConfig) -> None:
        """Keep what the shared model believes of a task, without keeping its guide."""
        key = self._resources.key(task, config)
        shared = self._resources.shared(config)
        if shared is None or self._resources.store.load_scribbles(key) is not None:
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
        self._resources.show_when_idle(
            task.id, TaskColumns("new", self._resources.model_version, uncertainty=1 - stored.score)
        )

    def keep_up(self, project_id: int) -> None:
        """Renew a project, when idle, unless it serves the published model already.

        So nothing is missed that was published or rolled back by hand, nor a renewal that a stop
        of the backend has cut off.
        """
        version = self._resources.model_version
        if not self._resources.published.version or self._up_to_date.get(project_id) == version:
            return

        def catch_up() -> None:
            if self._resources.client.project(project_id).get("model_version") == version:
                self._up_to_date[project_id] = version
            else:
                self.renew(project_id)

        self._resources.when_idle(
            ("keep up", project_id), catch_up, f"project {project_id} has old predictions"
        )

    def renew(self, project_id: int, *, only_new: bool = False) -> None:
        """Let the published model segment all tasks that nobody has finished, when idle.

        Their predictions are pushed to Label Studio, and in the end the project is told to order
        by them. Where somebody has drawn, it is the guide's own answer that is pushed.

        Args:
            project_id: Number in Label Studio.
            only_new: Leave out tasks that have a prediction.
        """
        version = self._resources.model_version
        config = parse_label_config(self._resources.client.project(project_id)["label_config"])
        if self._resources.shared(config) is not None:
            for body in self._resources.client.tasks(project_id):
                is_done = body.get("total_annotations") or is_finished(body)
                if not is_done and not (only_new and body.get("total_predictions")):
                    self._renew_when_idle(body, config)
            self._resources.when_idle(
                ("version", project_id),
                lambda: self._serve(project_id),
                f"project {project_id} does not order by the new predictions",
            )
        if not only_new:
            self._up_to_date[project_id] = version

    def _serve(self, project_id: int) -> None:
        self._resources.client.serve_version(project_id, self._resources.model_version)

    def _renew_when_idle(self, body: Json, config: LabelConfig) -> None:
        def renew() -> None:
            task = parse_task(body, config.image_key)
            self._segment(task, config)  # unless somebody works on it
            answer = self._resources.answer_stored(task, config)
            if answer["result"]:
                self._resources.client.replace_predictions(task.id, **answer, prefix=VERSION_PREFIX)

        task_id = body.get("id")
        self._resources.when_idle(
            ("renew", task_id), renew, f"task {task_id} keeps its old prediction"
        )
