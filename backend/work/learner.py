"""Does the jobs that take time: guides learn, answer and train on.

It owns the guides of open tasks. What it needs comes with the job or lies on disk, and its results
are put there, so it may sit in the process that Label Studio calls or on another host.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from backend.annotation.label_config import LabelConfig
from backend.annotation.task_columns import TaskColumns, cd_columns
from backend.annotation.tasks import Json, Task
from backend.arrays import UNLABELED
from backend.errors import InvalidTaskError
from backend.learning.guide import Guide
from backend.microscope.images import decode_image
from backend.settings import Settings
from backend.state.feature_cache import FeatureCache
from backend.state.guide_cache import GuideCache
from backend.work.cd_guidance import CDGuidance, Drawn, read_cd_recipe
from backend.work.handover import Pending, idle_job, read_arguments, subject_of
from backend.work.resources import Resources, to_store
from backend.work.strokes import DRAWN_ELSEWHERE
from backend.work.submissions import Submissions
from backend.work.turn_keeping import Sketch, catch_up, keep_turn

logger = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[int, int, int]
"""Of a file: inode, time and size."""

TRAINING_STEPS = 40
"""Of the network after each answer, as long as nobody asks."""
ROUND_STEPS = 1
"""Trained at once: somebody who asks meanwhile waits for it, a quarter of a second."""
OPINION_STEPS = 10
"""After so many the network is asked for its opinion, which joins the answers from then on."""


class Learner:
    """Trains the guides of tasks, and keeps what they believe in the store."""

    def __init__(self, resources: Resources, settings: Settings) -> None:
        """Take what the process has, and serve the jobs.

        Raises:
            ValueError: The CD recipe of the settings cannot be used.
        """
        self._resources = resources
        self._store = resources.store
        self._is_alone = settings.redis_url is None  # no other process teaches guides
        self._files: dict[str, Stamp | None] = {}  # of the guides in memory, as read or written
        self._cds = CDGuidance(read_cd_recipe(settings.cd_recipe), settings.cd_timeout_s)
        self._guides = GuideCache(settings.guide_cache_mb * 1e6, self._let_go)
        self._features = FeatureCache(
            settings.model_dir / "features", settings.feature_cache_mb * 1e6
        )
        Submissions(resources)
        resources.jobs.serve("open", self._open)
        resources.jobs.serve("learn", self._learn_stored)
        resources.jobs.serve("learn submitted", self._learn_submitted)
        resources.jobs.serve("release", self._release)
        resources.jobs.serve("train", self._train)
        resources.jobs.serve("measure CDs", self._measure_cds)

    def close(self) -> None:
        """Put the guides on disk."""
        self._guides.close()

    def save(self) -> None:
        """Put on disk what guides have learned, for other processes; they stay in memory."""
        for key, guide in self._guides.items():
            self._let_go(key, guide)

    def forget(self) -> None:
        """Drop what was learned and not saved: another process may have gone on meanwhile."""
        for key, guide in self._guides.items():
            if not guide.is_saved:
                self._guides.drop(key)

    @property
    def open_guides(self) -> int:
        """How many guides are in memory."""
        return len(self._guides)

    def _open(self, task: Json, config: Json) -> None:
        """Prepare for the first ask while the annotator draws."""
        self._guide(*read_arguments(task, config))

    def _learn_stored(
        self, task: Json, config: Json, strokes: int, is_drawn: bool, annotator: str
    ) -> None:
        """Learn from the strokes on disk, or that nothing is drawn."""
        of, under = read_arguments(task, config)
        scribbles = self._store.load_scribbles(self._resources.key(of, under)) if is_drawn else None
        self._learn(of, under, Sketch(of.id, scribbles, strokes, annotator))

    def _learn_submitted(self, task: Json, config: Json, **drawn: Any) -> Pending:  # noqa: ANN401 - see `_learn_stored`
        """Learn from strokes on disk that nobody waits to see, and let Label Studio have them."""
        self._learn_stored(task, config, **drawn)
        return self._resources.push_soon(*read_arguments(task, config))

    def _release(self, task: Json, config: Json) -> None:
        """Let the guide of a finished task go, and so end its training."""
        self._guides.release(self._resources.key(*read_arguments(task, config)))

    def _learn(self, task: Task, config: LabelConfig, sketch: Sketch) -> None:
        """Let the task's guide learn the strokes, if there are any, and answer."""
        key = self._resources.key(task, config)
        with self._store.alone(key):
            guide = self._guide(task, config)
            scribbles = sketch.on(guide.shape)
            if scribbles.shape != guide.shape:
                raise InvalidTaskError(f"task {task.id}: its strokes were {DRAWN_ELSEWHERE}")
            prediction = guide.update(scribbles)
            turn = keep_turn(self._store, key, sketch, guide, prediction)
        guidance = self._cds.now(Drawn(task, config, guide.gray, scribbles), prediction)
        stored = replace(
            to_store(prediction, guide.shared), spots=guidance.spots, notes=guidance.notes
        )
        self._store.save_prediction(key, stored)
        turns = guide.turns_heard
        columns = TaskColumns(
            "scribbled", turn.model, turn.uncertainty, turns, turn.strokes, *guidance.told
        )
        self._resources.show_soon(task, columns.as_data())
        if guidance.is_late:
            self._measure_cds_when_idle(task, config)
        if guide.can_learn:
            self._train_when_idle(task, config, TRAINING_STEPS)
        logger.info(
            "task %d, turn %d: %d strokes, %d px are drawn, mean uncertainty %.3f",
            task.id, turns, turn.strokes, turn.drawn_px, turn.uncertainty,
            extra={"event": "turn"},
        )  # fmt: skip

    def _train_when_idle(self, task: Task, config: LabelConfig, steps: int) -> None:
        """Go on training between two asks, in rounds; the next answer is the better for it."""
        key, failure = f"train {task.id}", f"task {task.id} was not trained on"
        self._resources.when_idle(idle_job("train", key, task, config, failure, steps=steps))

    def _train(self, task: Json, config: Json, steps: int) -> None:
        """Train a round, or go on until somebody waits; queue the rest."""
        of, under = read_arguments(task, config)
        key = self._resources.key(of, under)
        guide = self._guides.get(key) if self._is_alone else self._guide(of, under)
        if guide is None or not guide.can_learn:  # let go, or the strokes were erased
            return
        if self._store.missed_turns(key, guide):  # another process has answered since, and trains
            return
        left = steps
        while True:
            guide.train(min(ROUND_STEPS, left))
            left -= ROUND_STEPS
            if left <= 0 or left % OPINION_STEPS == 0:
                self._store.save_prediction(key, to_store(guide.predict(), guide.shared))
                self._measure_cds_when_idle(of, under)
            if left <= 0 or self._must_pause(of.id, left):
                break
        self._guides.keep(key, guide)
        if left > 0:
            self._train_when_idle(of, under, left)
        else:
            self._save(key, guide)

    def _must_pause(self, task_id: int, left: int) -> bool:
        """Whether to let other jobs go first: always in one process, where going on costs nothing.

        Elsewhere another worker might go on, and would read the guide from disk first.
        """
        jobs = self._resources.jobs
        if self._is_alone or jobs.is_wanted(subject_of(task_id)):
            return True
        return left % OPINION_STEPS == 0 and bool(jobs.waiting.idle)

    def _measure_cds_when_idle(self, task: Task, config: LabelConfig) -> None:
        """Rank the boxes of what is stored by CDs, once nobody waits."""
        if not self._cds.has_recipe:
            return
        key, failure = f"CDs {task.id}", f"task {task.id}: its CDs were not measured"
        self._resources.when_idle(idle_job("measure CDs", key, task, config, failure))

    def _measure_cds(self, task: Json, config: Json) -> None:
        """Measure at leisure; again after being interrupted."""
        of, under = read_arguments(task, config)
        guide, key = self._guide(of, under), self._resources.key(of, under)
        scribbles = self._store.load_scribbles(key)
        if scribbles is None:
            scribbles = np.full(guide.shape, UNLABELED, np.uint8)
        prediction = guide.predict()
        is_wanted = self._resources.jobs.is_wanted
        guidance = self._cds.at_leisure(
            Drawn(of, under, guide.gray, scribbles),
            prediction,
            lambda: not is_wanted(subject_of(of.id)),
        )
        if guidance.is_late:
            self._measure_cds_when_idle(of, under)
            return
        stored = to_store(prediction, guide.shared)
        ranked = replace(stored, spots=guidance.spots, notes=guidance.notes)
        self._store.save_prediction(key, ranked)
        self._resources.show_soon(of, cd_columns(*guidance.told), "CDs")

    def _guide(self, task: Task, config: LabelConfig) -> Guide:
        """Return the guide of a task: from memory, else made from image and stored weights."""
        key = self._resources.key(task, config)
        guide, path = self._guides.get(key), self._store.guide_path(key)
        if guide is not None and _stamp(path) == self._files.get(key):
            catch_up(self._store, key, guide)
            return guide
        content = self._resources.images.read(task.image)
        guide = self._resources.make_guide(
            decode_image(content),
            len(config.materials),
            class_names=config.materials,
            describe=self._features.features,
            shared=self._resources.shared(config),
        )
        self._files[key] = _stamp(path)
        if self._files[key] is not None:
            try:
                guide.load(path)
            except ValueError as error:
                logger.warning("task %d starts afresh: %s", task.id, error)
        guide.prepare()
        catch_up(self._store, key, guide)
        self._guides.keep(key, guide)
        return guide

    def _save(self, key: str, guide: Guide) -> None:
        self._store.save_guide(key, guide)
        if guide.is_saved:  # else another process has answered since, and the file is its own
            self._files[key] = _stamp(self._store.guide_path(key))

    def _let_go(self, key: str, guide: Guide) -> None:
        """Put on disk what a guide that leaves memory has learned since it was last there."""
        if guide.is_saved:
            return
        try:
            self._save(key, guide)
        except OSError as error:  # must not cost another task its answer
            logger.warning("task %s: what it learned is lost: %s", key, error)


def _stamp(path: Path) -> Stamp | None:
    """Tell one content of a file from another; None without a file.

    A file is opened first: over a network, that is when its true state is asked for.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
