"""All ground truth → the next version of the registry, with its card and its report."""

from __future__ import annotations

import shutil
from contextlib import suppress

from backend.learning import cross_validation, segmentation_report
from backend.learning.registry import ModelCard, Registry
from backend.learning.segmentation_data import TrainingData
from backend.learning.segmentation_training import Hardware, Settings, Tell, nobody


def train_version(
    data: TrainingData,
    settings: Settings,
    hardware: Hardware,
    registry: Registry,
    tell: Tell = nobody,
) -> ModelCard | None:
    """Measure, train, and add what came of it to the registry, unpublished.

    What is done lies beside the registry until the version is there, so that a training that was
    killed goes on.

    Args:
        data: At least one image.
        settings: How to train.
        hardware: What to train on; all processes call this function with equal arguments.
        registry: Gets the version; its published one is the parent.
        tell: Is told how far all of it is.

    Returns:
        None in a process that only helps another one.

    Raises:
        ValueError: The hardware does not exist, or what was done earlier is damaged.
        OSError: The registry cannot be written, or the base weights cannot be downloaded.
    """
    work = cross_validation.work_folder(registry.folder, data, settings)
    training = cross_validation.train_shared_model(data, settings, hardware, work, tell)
    if training is None:
        return None
    report = segmentation_report.report_files(training, data)
    card = cross_validation.model_card(training, data, settings, registry.published())
    card = registry.add(training.network, card, report)
    shutil.rmtree(work)
    with suppress(OSError):  # something else is under way
        work.parent.rmdir()
    return card
