"""What the parts of a backend process share: Label Studio, images, state, worker, shared model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backend.annotation.client import LabelStudioClient
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import LabelConfig
from backend.annotation.predictions import sent_regions, to_results
from backend.annotation.tasks import Json, Task
from backend.arrays import UNLABELED
from backend.errors import QueueFullError, RegistryError
from backend.learning.guide import Guide, Prediction
from backend.learning.registry import Registry
from backend.learning.shared_model import PublishedModel, SharedModel
from backend.learning.spots import Spot
from backend.settings import Settings
from backend.state.store import GuideStore, StoredPrediction, state_key
from backend.work.handover import Job, Jobs, Pending, read_arguments, to_arguments

logger = logging.getLogger(__name__)

VERSION_PREFIX = "tem-guide"

_WHOLE_IMAGE = Spot(0, 0, 1, 1, 1.0, "nothing is known yet")  # of an image of 1 x 1


@dataclass(frozen=True)
class Resources:
    """Made once when the process starts; closed by who made it."""

    client: LabelStudioClient
    images: ImageSource
    store: GuideStore
    jobs: Jobs
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

    def when_idle(self, job: Job) -> None:
        """Hand over a job that nobody waits for."""
        try:
            self.jobs.submit(job)
        except QueueFullError as error:
            logger.warning("%s: %s", job.failure or job.key, error)
        except RuntimeError:
            logger.debug("%s is left undone, the server is shutting down", job.key)

    def show_soon(self, task: Task, columns: Json, what: str = "columns") -> None:
        """Show managers how far a task is; Label Studio's Data Manager lists it."""
        job = Job(
            "show in task",
            f"{what} {task.id}",
            f"{what} {task.id}",
            {"project_id": task.project, "task_id": task.id, "columns": columns},
            "errand",
            f"task {task.id} is not up to date in the Data Manager",
        )
        self.when_idle(job)

    def push_soon(self, task: Task, config: LabelConfig) -> Pending:
        """Let Label Studio have the latest prediction; return the errand."""
        job = Job(
            "push prediction",
            f"prediction {task.id}",
            f"prediction {task.id}",
            to_arguments(task, config),
            "errand",
            f"task {task.id}: its new prediction is not in Label Studio",
        )
        return self.jobs.submit(job)

    def push(self, task: Json, config: Json) -> None:
        """Replace what Label Studio has of a task by the latest prediction, if there is one."""
        of, under = read_arguments(task, config)
        answer = self.answer_stored(of, under)
        if answer["result"]:
            self.client.replace_predictions(of.id, **answer, prefix=VERSION_PREFIX)
            logger.info("task %d: a new prediction is in Label Studio", of.id)

    def answer_stored(
        self, task: Task, config: LabelConfig, notice: str = "", *, if_undecided: str = ""
    ) -> Json:
        """Answer with the latest prediction; with nothing when there is none.

        Args:
            task: Whose.
            config: Names the materials.
            notice: A sentence for the annotator.
            if_undecided: The same, if there is no other and nothing is known of the image.
        """
        stored = self.store.load_prediction(self.key(task, config))
        if stored is None and notice:  # a box is the only thing that can carry words
            nothing = np.full((1, 1), UNLABELED, np.uint8)
            stored = StoredPrediction(nothing, np.ones((1, 1), np.float32), (_WHOLE_IMAGE,))
        if stored is None:
            return self.answer(task.id, [], 0)
        if (stored.label_map == UNLABELED).all():
            notice = notice or if_undecided
        notes = (*(words for words in (notice, self.store.trouble) if words), *stored.notes)
        results = to_results(
            stored.label_map, stored.spots, config, scores=stored.scores, notes=notes
        )
        return self.answer(task.id, results, stored.score)

    def key(self, task: Task, config: LabelConfig) -> str:
        """Name the state of a task under these materials."""
        return state_key(str(self.client.url), task, config.materials)

    def answer(self, task_id: int, results: list[Json], score: float) -> Json:
        """Answer with results, and remember them: what comes back is compared with them."""
        self.store.remember_sent(task_id, sent_regions(results))
        return {"result": results, "score": score, "model_version": self.model_version}


def open_resources(
    settings: Settings,
    client: LabelStudioClient,
    jobs: Jobs,
    make_guide: Callable[..., Guide] = Guide,
) -> Resources:
    """Open what a process needs to answer or to learn, and serve the jobs that need no more.

    Args:
        settings: Limits and folders.
        client: The Label Studio it works for.
        jobs: Where jobs are handed over.
        make_guide: Makes the guide of an image, called like `Guide`.
    """
    jobs.serve("show in task", client.show_in_task)
    resources = Resources(
        client,
        ImageSource(client, settings.image_root, int(settings.max_image_mb * 1e6)),
        GuideStore(settings.model_dir),
        jobs,
        PublishedModel(Registry(settings.registry)),
        make_guide,
    )
    jobs.serve("push prediction", resources.push)
    return resources


def to_store(prediction: Prediction, shared: SharedModel | None) -> StoredPrediction:
    """What is kept of a prediction."""
    return StoredPrediction(
        prediction.label_map,
        prediction.uncertainty,
        prediction.spots,
        shared.card.name if shared else "",
        scores=_mean_confidences(prediction),
    )


def started_by(guide: Guide) -> str:
    """Names the shared model that started a guide, which another may have replaced since."""
    return _version_name(guide.shared.card.version if guide.shared else 0)


def _mean_confidences(prediction: Prediction) -> tuple[float, ...]:
    """How sure each class is of its own pixels, 0 to 1; 0 for one that is nowhere."""
    classes = len(prediction.probabilities)
    pixels = np.bincount(prediction.label_map.ravel(), minlength=256)[:classes]
    sums = np.bincount(
        prediction.label_map.ravel(), prediction.probabilities.max(axis=0).ravel(), minlength=256
    )
    return tuple((sums[:classes] / np.maximum(pixels, 1)).round(4).tolist())


def _version_name(version: int) -> str:
    return f"{VERSION_PREFIX}-v{version}"
