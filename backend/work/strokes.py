"""What is drawn on a task: told apart from answers that came back, rasterized, and kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from backend.annotation.label_config import LabelConfig
from backend.annotation.scribbles import rasterize, weak_labels
from backend.annotation.tasks import Annotation, Region, Task
from backend.arrays import LabelMap
from backend.errors import InvalidTaskError
from backend.work.resources import Resources

logger = logging.getLogger(__name__)

DRAWN_ELSEWHERE = (
    "drawn on an image of another size: was the image replaced? Import it as a new task"
)


def drawn_regions(
    resources: Resources, task_id: int, annotation: Annotation, config: LabelConfig
) -> tuple[Region, ...]:
    """The regions of an annotation that teach the guide."""
    sent = resources.store.sent(task_id, annotation.region_ids)
    regions, ignored = weak_labels(annotation.regions, config, sent)
    for sentence in ignored:
        logger.info("task %d: %s", task_id, sentence)
    return regions


def keep_scribbles(
    resources: Resources,
    task: Task,
    config: LabelConfig,
    regions: Sequence[Region],
    moment: datetime,
) -> LabelMap | None:
    """Rasterize strokes and put them on disk, unless newer ones are there.

    Args:
        resources: Of the process.
        task: That they were drawn on.
        config: Names the materials.
        regions: The strokes.
        moment: When Label Studio saved them.

    Returns:
        The newest strokes on disk; None, and nothing is overwritten, if these are none.

    Raises:
        InvalidTaskError: They were drawn on an image of another size.
    """
    scribbles = to_scribbles(task, config, regions)
    if scribbles is None:
        return None
    key = resources.key(task, config)
    before = resources.store.load_scribbles(key)
    if before is not None and before.shape != scribbles.shape:  # those on disk must stay
        raise InvalidTaskError(f"task {task.id}: its strokes were {DRAWN_ELSEWHERE}")
    return resources.store.save_scribbles(key, scribbles, moment)


def to_scribbles(task: Task, config: LabelConfig, regions: Sequence[Region]) -> LabelMap | None:
    """Rasterize strokes; None without any.

    Raises:
        InvalidTaskError: They were drawn on images of several sizes.
    """
    shapes = {region.shape for region in regions if region.shape}
    if len(shapes) > 1:
        raise InvalidTaskError(f"task {task.id}: its strokes were {DRAWN_ELSEWHERE}")
    return rasterize(regions, config.materials, shapes.pop()) if shapes else None
