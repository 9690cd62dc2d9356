"""All ground truth → the next version of the registry, with its card and its report."""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np

from backend.errors import RegistryError
from backend.files import take_lock
from backend.learning import cross_validation, segmentation_report
from backend.learning.cross_validation import SharedTraining
from backend.learning.inference import segment
from backend.learning.networks import fastest_device
from backend.learning.registry import ModelCard, Registry
from backend.learning.scores import mean_iou
from backend.learning.segmentation_data import TrainingData
from backend.learning.segmentation_training import Hardware, Settings, Tell, is_main, nobody

_LOCK = "training.lock"
"""In the registry; held by the main process of a training, whoever began it."""
_MOST_IMAGES = 20
"""By which the network that is kept is tried."""
_FAR_BELOW = 0.2
"""Mean IoU. On images it has learned a network is better than those that had never seen them."""

_WHAT_NOW = "nothing was added to the registry: train with other steps (--steps, TRAIN_STEPS)"


def train_version(
    data: TrainingData,
    settings: Settings,
    hardware: Hardware,
    registry: Registry,
    tell: Tell = nobody,
) -> ModelCard | None:
    """Measure, train, and add what came of it to the registry, unpublished.

    What is done lies beside the registry until the version is there, so that a training that was
    killed goes on; one that was killed before its version was published is not repeated, nor one
    whose version was rolled back.

    Args:
        data: At least one image.
        settings: How to train.
        hardware: What to train on; all processes call this function with equal arguments.
        registry: Gets the version; its published one is the parent.
        tell: Is told how far all of it is.

    Returns:
        None in a process that only helps another one.

    Raises:
        ValueError: Another training runs on the registry, the hardware does not exist, what was
            done earlier or what is published is damaged, or the network is broken.
        OSError: The registry cannot be written, or the base weights cannot be downloaded.
    """
    with ExitStack() as stack:
        if is_main(hardware):  # the others of this training would wait for it
            lock = take_lock(registry.folder / _LOCK)
            if lock is None:
                raise ValueError(f"a training runs already on {registry.folder}: wait for its end")
            stack.enter_context(lock)
        return _train_version(data, settings, hardware, registry, tell)


def _train_version(
    data: TrainingData, settings: Settings, hardware: Hardware, registry: Registry, tell: Tell
) -> ModelCard | None:
    work = cross_validation.work_folder(registry.folder, data, settings)
    kept = _kept(work.name, registry)
    if kept is not None:
        shutil.rmtree(work, ignore_errors=True)
        return kept
    training = cross_validation.train_shared_model(data, settings, hardware, work, tell)
    if training is None:
        return None
    try:
        _try_out(training, data)
    except ValueError:
        shutil.rmtree(work / cross_validation.FINAL)  # a broken network is not gone on with
        raise
    report = segmentation_report.report_files(training, data)
    parent = registry.published()
    card = cross_validation.model_card(training, data, settings, parent)
    card = replace(card, work=work.name, parent_iou=_ious_of_new(parent, registry, data))
    card = registry.add(training.network, card, report)
    shutil.rmtree(work)
    with suppress(OSError):  # something else is under way
        work.parent.rmdir()
    return card


def _kept(digest: str, registry: Registry) -> ModelCard | None:
    """A version that came of the same work, if it was never published or if it was rolled back.

    The gate knows the latter; the same network made anew would be no better.
    """
    published = registry.published()
    parent = published.version if published else None
    history, rolled_back = registry.history(), registry.rolled_back()
    for card in reversed(registry.cards()):
        if card.work != digest or card.version in history:
            continue
        if card.parent == parent or card.version in rolled_back:
            with suppress(RegistryError):  # damaged, or of an earlier network
                registry.load(card)
                return card
    return None


def _try_out(training: SharedTraining, data: TrainingData) -> None:
    """Segment some images with the network that is kept: the folds measured others.

    Raises:
        ValueError: It is broken.
    """
    images = data.images[:: math.ceil(len(data.images) / _MOST_IMAGES)]
    classes = len(data.materials)
    ious = []
    for image in images:
        believed = np.empty((classes, *image.truth.shape), np.float16)
        with np.errstate(invalid="ignore"):  # found here
            found = segment(training.network, image.gray.astype(np.float32), believed)
        if not np.isfinite(believed).all():
            raise ValueError(f"the network gave no numbers for {image.name}; {_WHAT_NOW}")
        ious.append(mean_iou(found.label_map, image.truth))
    scores = {name: one for fold in training.by_image for name, one in fold.scores.items()}
    if not scores:
        return
    expected = np.mean([scores[image.name]["mean_iou"] for image in images])
    if np.mean(ious) < expected - _FAR_BELOW:
        raise ValueError(
            f"the network has mean IoU {np.mean(ious):.3f} on images that it learned, where others "
            f"that had not seen them have {expected:.3f}; {_WHAT_NOW}"
        )


def _ious_of_new(
    parent: ModelCard | None, registry: Registry, data: TrainingData
) -> dict[str, float]:
    """Mean IoU of the model that serves on the images that are new to it, by name.

    Empty if it learned mostly other images: who is better on new ones alone need not be fit to take
    the place of a model of other images.
    """
    if parent is None or parent.materials != data.materials:
        return {}
    learned = {*parent.pictures}
    common = learned.intersection(image.picture_sha256 for image in data.images)
    new = [image for image in data.images if image.picture_sha256 not in learned]
    if not new or not common or 2 * len(common) < len(learned):
        return {}
    try:
        network = registry.load(parent).to(fastest_device())
    except RegistryError:  # the gate compares by what its card tells
        return {}
    ious = {}
    for image in new:
        label_map = segment(network, image.gray.astype(np.float32)).label_map
        ious[image.name] = round(mean_iou(label_map, image.truth), 5)
    return ious
