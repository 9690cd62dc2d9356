"""What is submitted: fetched from Label Studio, put on disk, and handed over to be learned.

Done as errands, since Label Studio may take its time and no answer should wait for that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from backend.annotation.label_config import LabelConfig, parse_label_config
from backend.annotation.task_columns import TaskColumns
from backend.annotation.tasks import Annotation, Region, Task, parse_annotation, parse_task
from backend.work.handover import Job, Pending, subject_of, to_arguments
from backend.work.resources import Resources
from backend.work.strokes import drawn_regions, keep_scribbles

logger = logging.getLogger(__name__)


class Submissions:
    """Takes in what annotators submit."""

    def __init__(self, resources: Resources) -> None:
        """Take what the process has, and serve the job."""
        self._resources = resources
        resources.jobs.serve("learn submission", self._take_in)

    def _take_in(self, annotation_id: int, task_id: int, number: int) -> Pending | None:
        """Keep the strokes of a submission; hand over the learning, and return it."""
        client = self._resources.client
        body = client.task(task_id)
        config = parse_label_config(client.project(body["project"])["label_config"])
        task = parse_task(body, config.image_key)
        annotation = parse_annotation(client.annotation(annotation_id))
        regions = drawn_regions(self._resources, task_id, annotation, config)
        if annotation.finished:
            self._show_finished(task, config, regions)
            return self._hand_over("release", task, config)
        if annotation.was_cancelled or not regions:
            logger.info("annotation %d of task %d: nothing to learn", annotation_id, task_id)
            return None
        if self._is_to_be_kept(task, config, number):
            keep_scribbles(self._resources, task, config, regions, annotation.moment)
        drawn = _told_of(annotation, regions)
        return self._hand_over("learn submitted", task, config, **drawn)

    def _is_to_be_kept(self, task: Task, config: LabelConfig, number: int) -> bool:
        """Whether no newer request has strokes on disk, which stay there."""
        if self._resources.jobs.is_newest(subject_of(task.id), number):
            return True
        return self._resources.store.load_scribbles(self._resources.key(task, config)) is None

    def _hand_over(self, name: str, task: Task, config: LabelConfig, **more: object) -> Pending:
        job = Job(
            name,
            f"{name} {task.id}",
            subject_of(task.id),
            {**to_arguments(task, config), **more},
            failure=f"task {task.id}: what was submitted has not reached its guide",
        )
        return self._resources.jobs.submit(job)

    def _show_finished(self, task: Task, config: LabelConfig, regions: Sequence[Region]) -> None:
        logger.info("task %d is finished: nothing to learn", task.id)
        turns = self._resources.store.turns(self._resources.key(task, config))
        uncertainty = turns[-1].uncertainty if turns else None
        model = turns[-1].model if turns else self._resources.model_version
        columns = TaskColumns("finished", model, uncertainty, len(turns), len(regions))
        self._resources.show_soon(task, columns.as_data())


def _told_of(annotation: Annotation, regions: Sequence[Region]) -> dict[str, object]:
    """What the learner is told of strokes on disk."""
    return {"strokes": len(regions), "is_drawn": True, "annotator": annotation.user or ""}
