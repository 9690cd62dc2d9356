"""All ground truth → the shared model, and how well networks like it do on what they never saw.

Each picture is held out once, and each equipment if there are several; then the network that is
kept learns from all images, for as long as it was best for the others. What is done stays in a work
folder, so that a training that was killed goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.files import write_atomically
from backend.learning import checkpoints, networks
from backend.learning.inference import segment
from backend.learning.registry import ModelCard
from backend.learning.scores import class_ious, confusion_matrix, score
from backend.learning.segmentation_data import NO_EQUIPMENT, TrainingData, TrainingImage
from backend.learning.segmentation_training import (
    Hardware,
    Job,
    Measurement,
    Settings,
    Tell,
    Trained,
    nobody,
    train,
)

_MEASURED = ("mean_iou", "accuracy", "edge_band_accuracy")
_FOLD = "fold.json"
FINAL = "final"
"""Folder of the last training, in the work folder."""
OPTIMISTIC = "slightly optimistic: each network was taken where it was best on the images held out"
"""What whoever reads the figures of folds must know."""


@dataclass(frozen=True)
class Fold:
    """A network that has not seen some images, and how it does on them."""

    name: str
    scores: Mapping[str, Mapping[str, float]]
    """For each image held out: mean IoU, accuracy, accuracy near edges."""
    confusion: Sequence[Sequence[int]]
    """Pixels of these images by true class (rows) and class given (columns)."""
    best_epoch: int
    curve: Sequence[Measurement]
    seconds: float


@dataclass(frozen=True)
class SharedTraining:
    """The shared model, and what is known of it."""

    network: networks.SharedNetwork  # trained on all images, in evaluation mode
    by_image: tuple[Fold, ...]  # each image is held out once; empty if there is only one
    by_equipment: tuple[Fold, ...]  # empty unless there are several
    curve: tuple[Measurement, ...]  # of the final training
    seconds: float  # of all trainings
    processes: int  # in the final one; each took a batch a step
    answers: Mapping[str, Path]
    """Label maps by the networks that had not seen the image: PNG files in the work folder."""


def train_shared_model(
    data: TrainingData,
    settings: Settings,
    hardware: Hardware,
    work: Path,
    tell: Tell = nobody,
) -> SharedTraining | None:
    """Measure by folds, then train on all images.

    Args:
        data: At least one image.
        settings: How to train.
        hardware: What to train on; all processes call this function with equal arguments.
        work: A folder for what is done already; see `work_folder`.
        tell: Is told how far all of it is.

    Returns:
        None in a process that only helps another one.

    Raises:
        ValueError: The hardware does not exist, or a file in `work` is damaged.
        OSError: The work folder cannot be written, or the base weights cannot be downloaded.
    """
    known = of_known_equipment(data)
    parts = image_folds(data.images, settings.folds, settings.seed)
    all_parts = [(data, part) for part in parts.items()]
    all_parts += [(known, part) for part in equipment_folds(known.images).items()]
    folds: list[Fold] = []

    def told(share: float) -> None:
        tell((len(folds) + share) / (len(all_parts) + 1))

    for images, (name, held_out) in all_parts:
        seed, folder = settings.seed + len(folds), work / f"fold-{len(folds)}"
        job = _job(images, held_out, settings.epochs, seed, folder)
        folds.append(_measured(name, job, settings, hardware, told))
    by_image, by_equipment = folds[: len(parts)], folds[len(parts) :]
    best = [fold.best_epoch for fold in by_image] or [settings.epochs]
    job = _job(data, (), round(np.mean(best)), settings.seed, work / FINAL)
    final = train(job, settings, hardware, told)
    if not final.is_main:
        return None
    answers = {
        name: _answer_path(work / f"fold-{number}", name)
        for number, fold in enumerate(by_image)
        for name in fold.scores
    }
    return SharedTraining(
        network=final.network.cpu(),
        by_image=tuple(by_image),
        by_equipment=tuple(by_equipment),
        curve=final.curve,
        seconds=final.seconds + sum(fold.seconds for fold in folds),
        processes=final.processes,
        answers=answers,
    )


def image_folds(images: Sequence[TrainingImage], count: int, seed: int) -> dict[str, Sequence[int]]:
    """Share pictures out at random, those of each equipment evenly; not done for one picture.

    Returns:
        Places of the images held out, by the name of the fold.
    """
    pictures = _by_picture(images)
    if len(pictures) == 1:
        return {}
    count = min(max(count, 2), len(pictures))
    order = np.random.default_rng(seed).permutation(len(pictures)).tolist()
    order.sort(key=lambda number: images[pictures[number][0]].equipment)
    return {
        f"fold {first + 1}": sorted(chain.from_iterable(pictures[n] for n in order[first::count]))
        for first in range(count)
    }


def of_known_equipment(data: TrainingData) -> TrainingData:
    """Leave out what any equipment may have taken: nobody knows which network has seen it."""
    return replace(data, images=tuple(i for i in data.images if i.equipment != NO_EQUIPMENT))


def equipment_folds(images: Sequence[TrainingImage]) -> dict[str, Sequence[int]]:
    """Hold the images of one equipment out after the other; not done if there is one only.

    A picture that is there twice is of the equipment that is named first.
    """
    held_out: dict[str, list[int]] = {}
    for places in _by_picture(images):
        held_out.setdefault(images[places[0]].equipment, []).extend(places)
    if len(held_out) < 2:  # noqa: PLR2004 - to learn from one and try the other
        return {}
    return {name: sorted(held_out[name]) for name in sorted(held_out)}


def _by_picture(images: Sequence[TrainingImage]) -> list[list[int]]:
    """Places of equal pictures: two tasks may show one, and who learns one knows the other."""
    places: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.picture_sha256, []).append(place)
    return [*places.values()]


def work_folder(registry: Path, data: TrainingData, settings: Settings) -> Path:
    """Choose the folder for what is done, beside the registry; other data get another one."""
    described = {
        "encoder": networks.ENCODER_NAME,
        "settings": asdict(settings),
        "materials": data.materials,
        "images": [(image.name, image.equipment, image.sha256) for image in data.images],
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    registry = registry.resolve()
    return registry.with_name(f"{registry.name}-training") / digest[:16]


def model_card(
    training: SharedTraining, data: TrainingData, settings: Settings, parent: ModelCard | None
) -> ModelCard:
    """Describe the model for the registry."""
    return ModelCard(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        materials=data.materials,
        parent=parent.version if parent else None,
        images={image.name: image.sha256 for image in data.images},
        pictures=tuple(image.picture_sha256 for image in data.images),
        origins={image.name: image.origin for image in data.images if image.origin},
        metrics=metrics(training, data.materials),
        training={
            **asdict(settings),
            "final_steps": training.curve[-1].step,
            "processes": training.processes,
            "seconds": round(training.seconds, 1),
        },
    )


def metrics(training: SharedTraining, materials: Sequence[str]) -> dict[str, Any]:
    """Tell how good the folds were, for the model card; empty if nothing was held out.

    All shares from 0 to 1, None where there is no such pixel. The means are of images, the IoU of
    a material is of the pixels of all images together.
    """
    folds = training.by_image
    if not folds:
        return {}
    scores = {name: one for fold in folds for name, one in fold.scores.items()}
    confusion = confusion_of(folds)
    return {
        "image_iou": {name: round(one["mean_iou"], 5) for name, one in sorted(scores.items())},
        **_means(scores.values()),
        "note": OPTIMISTIC,
        "material_iou": {
            name: _mean([iou])
            for name, iou in zip(materials, class_ious(confusion), strict=True)
        },
        "confusion": confusion.tolist(),
        "folds": [_row(fold) for fold in folds],
        "equipment": {fold.name: _row(fold) for fold in training.by_equipment},
    }  # fmt: skip


def confusion_of(folds: Iterable[Fold]) -> NDArray[np.int64]:
    """Pixels by true class (rows) and class given (columns), of all folds together."""
    counted: NDArray[np.int64] = np.sum([fold.confusion for fold in folds], axis=0)
    return counted


def _job(data: TrainingData, held_out: Sequence[int], epochs: int, seed: int, folder: Path) -> Job:
    """Train on all images but some."""
    return Job(
        images=[image for place, image in enumerate(data.images) if place not in held_out],
        held_out=[data.images[place] for place in held_out],
        classes=len(data.materials),
        epochs=epochs,
        seed=seed,
        folder=folder,
    )


def _measured(name: str, job: Job, settings: Settings, hardware: Hardware, tell: Tell) -> Fold:
    """Train a fold and measure it, unless that is done already."""
    path = job.folder / _FOLD
    if path.exists():
        return _read_fold(path)
    trained = train(job, settings, hardware, tell)
    return trained.in_main_process(lambda: _measure(name, trained, job))


def _measure(name: str, trained: Trained, job: Job) -> Fold:
    """Segment the images held out; the fold's file is written when all else is."""
    scores = {}
    confusion = np.zeros((job.classes, job.classes), np.int64)
    for image in job.held_out:
        label_map = segment(trained.network, image.gray.astype(np.float32)).label_map
        measured = score(label_map, image.truth, ())
        scores[image.name] = {kind: float(getattr(measured, kind)) for kind in _MEASURED}
        confusion += confusion_matrix(label_map, image.truth, job.classes)
        picture = io.BytesIO()
        Image.fromarray(label_map).save(picture, "PNG")
        write_atomically(_answer_path(job.folder, image.name), picture.getvalue())
    fold = Fold(
        name, scores, confusion.tolist(), trained.best_epoch, trained.curve, trained.seconds
    )
    write_atomically(job.folder / _FOLD, json.dumps(asdict(fold)).encode())
    checkpoints.forget(job.folder)
    return fold


def _read_fold(path: Path) -> Fold:
    """Read what `_measure` wrote."""
    try:
        fields = json.loads(path.read_text())
        curve = tuple(Measurement(**one) for one in fields.pop("curve"))
        return Fold(**fields, curve=curve)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): remove {path.parent}, and this part begins anew"
        ) from None


def _answer_path(folder: Path, name: str) -> Path:
    return folder / "answers" / f"{name}.png"


def _row(fold: Fold) -> dict[str, Any]:
    """A fold as a row of the card's table."""
    return {
        "name": fold.name,
        "held_out": sorted(fold.scores),
        "best_step": fold.curve[fold.best_epoch - 1].step,
        "steps": fold.curve[-1].step,
        "seconds": round(fold.seconds, 1),
        **_means(fold.scores.values()),
    }


def _means(scores: Iterable[Mapping[str, float]]) -> dict[str, float | None]:
    rows = list(scores)
    return {kind: _mean([row[kind] for row in rows]) for kind in _MEASURED}


def _mean(values: Sequence[float]) -> float | None:
    """Mean of those that exist."""
    finite = [value for value in values if math.isfinite(value)]
    return round(sum(finite) / len(finite), 5) if finite else None
