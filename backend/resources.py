"""What the parts of a backend process share: Label Studio, images, state, worker, shared model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import LabelConfig
from backend.annotation.predictions import sent_regions, to_results
from backend.annotation.task_columns import TaskColumns
from backend.annotation.tasks import Json, Task
from backend.arrays import UNLABELED
from backend.errors import RegistryError
from backend.jobs import LatestOnly
from backend.learning.guide import Guide, Prediction
from backend.learning.shared_model import PublishedModel, SharedModel
from backend.learning.spots import Spot
from backend.store import GuideStore, StoredPrediction, state_key

logger = logging.getLogger(__name__)

VERSION_PREFIX = "tem-guide"

_WHOLE_IMAGE = Spot(0, 0, 1, 1, 1.0, "nothing is known yet")  # of an image of 1 x 1


@dataclass(frozen=True)
class Resources:
    """Made once when the process starts; closed by who made it."""

    client: LabelStudioClient
    images: ImageSource
    store: GuideStore
    jobs: LatestOnly
    published: PublishedModel
    make_guide: Callable[..., Guide]

    @property
    def model_version(self) -> str:
        """Names the shared model that starts guides, 0 before there is one."""
        return _version_name(self.published.version)

    def shared(self, config: LabelConfig) -> SharedModel | None:
        """The shared model for a project's materials; None, and why in the log, without one."""
        try:
            return self.published.get(config.materials)
        except RegistryError as error:
            logger.warning("%s", error)
            return None

    def when_idle(self, key: Hashable, work: Callable[[], Any], failure: str) -> None:
        """Queue work that nobody waits for, behind all other; `failure` is logged if it fails."""
        with suppress(RuntimeError):  # the server is shutting down
            queued = self.jobs.submit(key, work, when_idle=True)
            queued.add_done_callback(lambda f: log_failure(failure, f))

    def show_when_idle(self, task_id: int, columns: TaskColumns) -> None:
        """Show managers how far a task is; Label Studio's Data Manager lists it."""
        self.when_idle(
            ("columns", task_id),
            lambda: self.client.show_in_task(task_id, columns.as_data()),
            f"task {task_id} is not up to date in the Data Manager",
        )

    def answer_stored(self, task: Task, config: LabelConfig, notice: str = "") -> Json:
        """Answer with the latest prediction; with nothing when there is none."""
        stored = self.store.load_prediction(self.key(task, config))
        if stored is None and notice:  # a box is the only thing that can carry words
            nothing = np.full((1, 1), UNLABELED, np.uint8)
            stored = StoredPrediction(nothing, np.ones((1, 1), np.float32), (_WHOLE_IMAGE,))
        if stored is None:
            return self.answer(task.id, [], 0)
        notes = (*((notice,) if notice else ()), *stored.notes)
        results = to_results(stored.label_map, stored.spots, config, notes=notes)
        return self.answer(task.id, results, stored.score)

    def key(self, task: Task, config: LabelConfig) -> str:
        """Name the state of a task under these materials."""
        return state_key(str(self.client.url), task, config.materials)

    def answer(self, task_id: int, results: list[Json], score: float) -> Json:
        """Answer with results, and remember them: what comes back is compared with them."""
        self.store.remember_sent(task_id, sent_regions(results))
        return {"result": results, "score": score, "model_version": self.model_version}


def to_store(prediction: Prediction, shared: SharedModel | None) -> StoredPrediction:
    """What is kept of a prediction."""
    name = shared.card.name if shared else ""
    return StoredPrediction(prediction.label_map, prediction.uncertainty, prediction.spots, name)


def started_by(guide: Guide) -> str:
    """Names the shared model that started a guide, which another may have replaced since."""
    return _version_name(guide.shared.card.version if guide.shared else 0)


def log_failure(sentence: str, work: Future[Any]) -> None:
    """Say why work failed that nobody waits for."""
    error = None if work.cancelled() else work.exception()
    if error is not None:
        logger.error("%s: %s: %s", sentence, type(error).__name__, error)


def _version_name(version: int) -> str:
    return f"{VERSION_PREFIX}-v{version}"
