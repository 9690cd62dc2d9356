"""One round of the cycle: finished ground truth of a project → dataset → shared model → published.

    python -m backend.cycle PROJECT_ID

Runs in a process of its own, which `training_process` starts; the environment holds the settings of
the backend. How far it is stands in MODEL_DIR/training.json.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from backend.annotation.export import KINDS
from backend.learning.publication import publish
from backend.learning.registry import Registry
from backend.learning.segmentation_data import CropSettings, read_training_data
from backend.learning.segmentation_training import Hardware
from backend.learning.segmentation_training import Settings as HowToTrain
from backend.learning.training_round import train_version
from backend.project_export import open_export
from backend.settings import Settings
from backend.training_process import STATUS_NAME, TrainingStatus

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Export, train, publish; 0 if the training ended, 1 if something could not be read or kept."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings()  # from the environment
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    path = settings.model_dir / STATUS_NAME
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    status = TrainingStatus("exporting", int(arguments[0]), started)
    status.write(path)
    try:
        status = run(settings, status, path)
    except (ValueError, OSError) as error:
        status = replace(status, state="failed", sentence=str(error))
    status.write(path)
    logger.info("%s: %s", status.state, status.sentence)
    return 1 if status.state == "failed" else 0


def run(settings: Settings, status: TrainingStatus, path: Path) -> TrainingStatus:
    """Do one round; return how it ended.

    Args:
        settings: Of the backend.
        status: Names the project.
        path: Where to write how far it is.
    """
    assert status.project is not None  # noqa: S101 - for the type
    folder = settings.model_dir / "ground-truth" / f"project-{status.project}"
    exported = export(settings, status.project, folder)
    if exported is None:
        nothing = "no annotation is finished: tick Finished GT and submit"
        return replace(status, state="not published", sentence=nothing)
    registry = Registry(settings.registry)
    data = read_training_data(folder)
    how = HowToTrain(
        steps=settings.train_steps or HowToTrain.steps_for(len(data.images)),
        folds=settings.train_folds,
        crops=CropSettings(settings.train_crop_px),
    )

    def tell(progress: float) -> None:
        replace(status, state="training", progress=round(progress, 3)).write(path)

    tell(0)
    card = train_version(data, how, Hardware(), registry, tell)
    if card is None:
        raise ValueError("the training was split over several processes: train by the script")
    verdict = publish(registry, card.version)
    sentence = f"{exported}; {verdict.sentence}"
    ended = replace(status, progress=1.0, sentence=sentence)
    return replace(ended, state="published" if verdict.publish else "not published")


def export(settings: Settings, project: int, folder: Path) -> str | None:
    """Bring the finished ground truth of a project to disk; None if there is none."""
    with ExitStack() as stack:
        exporting = open_export(settings, project, folder, stack)
        counts = Counter(outcome.kind for outcome in exporting.run())
    if not counts["added"] + counts["updated"] + counts["kept"]:
        return None
    return ", ".join(f"{counts[kind]} tasks {kind}" for kind in KINDS if counts[kind])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
