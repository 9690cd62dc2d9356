"""One round of the cycle: finished ground truth of a project → dataset → shared model → published.

    python -m backend.work.cycle PROJECT_ID

Runs in a process of its own, which `training_process` starts with a lock (`--locked`); the
environment holds the settings of the backend. How far it is stands in MODEL_DIR/training.json.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from backend.annotation.export import KINDS
from backend.files import in_words, take_lock
from backend.learning.publication import publish
from backend.learning.registry import Registry
from backend.learning.segmentation_data import CropSettings, read_training_data
from backend.learning.segmentation_training import Hardware
from backend.learning.segmentation_training import Settings as HowToTrain
from backend.learning.training_round import train_version
from backend.logs import about, configure_logging
from backend.settings import Settings
from backend.work.project_export import open_project
from backend.work.training_process import LOCK_NAME, LOCKED, STATUS_NAME, TrainingStatus

GROUND_TRUTH = "ground-truth"
"""Folder of the datasets in the state folder."""
ONE_DEVICE = Hardware(devices=1)
"""For several, Lightning would start this program again on each."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What an export has left to learn from."""

    folder: Path
    images: int
    sentence: str


def main(arguments: Sequence[str]) -> int:
    """Export, train, publish, unless another training runs on the same state folder.

    Returns:
        0 if the training ended, 1 if something could not be read or kept, or if another one runs.
    """
    settings = Settings()  # from the environment
    configure_logging(settings)
    try:
        inherited = LOCKED in arguments
        lock = nullcontext() if inherited else take_lock(settings.model_dir / LOCK_NAME)
    except OSError as error:
        logger.error("%s", in_words(error))  # noqa: TRY400 - the sentence says all
        return 1
    if lock is None:
        logger.error("a training runs already in %s: wait for its end", settings.model_dir)
        return 1
    with lock:
        return _train(settings, int(arguments[0]))


def _train(settings: Settings, project: int) -> int:
    """Do one round, and tell how it ended."""
    path = settings.model_dir / STATUS_NAME
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    status = TrainingStatus("exporting", project, started)
    try:
        status.write(path)
        status = run(settings, status, path)
    except (ValueError, OSError) as error:
        status = replace(status, state="failed", sentence=in_words(error))
    logger.info("%s: %s", status.state, status.sentence)
    try:
        status.write(path)
    except OSError as error:  # whoever started this process tells it
        logger.error("%s", in_words(error))  # noqa: TRY400 - the sentence says all
        return 1
    return 1 if status.state == "failed" else 0


def run(settings: Settings, status: TrainingStatus, path: Path) -> TrainingStatus:
    """Do one round; return how it ended.

    Args:
        settings: Of the backend.
        status: Names the project.
        path: Where to write how far it is.
    """
    assert status.project is not None  # noqa: S101 - for the type
    exported = export(settings, status.project)
    if exported is None:
        nothing = "no annotation is finished: tick Finished GT and submit"
        return replace(status, state="not published", sentence=nothing)
    if not exported.images:
        unusable = f"no finished annotation can be used: {exported.sentence}"
        return replace(status, state="not published", sentence=unusable)
    registry = Registry(settings.registry)
    data = read_training_data(exported.folder)
    how = HowToTrain(
        steps=settings.train_steps or HowToTrain.steps_for(len(data.images)),
        folds=settings.train_folds,
        crops=CropSettings(settings.train_crop_px),
    )

    def tell(progress: float) -> None:
        replace(status, state="training", progress=round(progress, 3)).write(path)

    tell(0)
    card = train_version(data, how, ONE_DEVICE, registry, tell)
    if card is None:
        raise ValueError("the training was split over several processes: train by the script")
    verdict = publish(registry, card.version)
    sentence = f"{exported.sentence}; {verdict.sentence}"
    ended = replace(status, progress=1.0, sentence=sentence)
    return replace(ended, state="published" if verdict.publish else "not published")


def export(settings: Settings, project: int) -> Exported | None:
    """Bring the finished ground truth of a project to disk; None if no annotation is finished.

    Under other materials class indices mean other things, so it goes to another folder then.
    """
    counts: Counter[str] = Counter()
    skipped: list[str] = []
    with ExitStack() as stack:
        opened = open_project(settings, project, stack)
        exporting = opened.export_to(settings.model_dir / GROUND_TRUTH / opened.name)
        if opened.notice:
            logger.warning("%s", opened.notice)
        for outcome in exporting.run():
            counts[outcome.kind] += 1
            if outcome.kind == "skipped":
                skipped.append(f"task {outcome.task}: {outcome.sentence}")
                with about(outcome.task, project):
                    logger.warning(
                        "task %d is not learned from: %s", outcome.task, outcome.sentence
                    )
    if set(counts) <= {"unfinished"}:
        return None
    sentence = ", ".join(f"{counts[kind]} tasks {kind}" for kind in KINDS if counts[kind])
    if skipped:
        sentence += f" (skipped: {skipped[0]}{', and others' if skipped[1:] else ''})"
    dataset = exporting.dataset
    return Exported(dataset.folder, len(dataset.entries), sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
