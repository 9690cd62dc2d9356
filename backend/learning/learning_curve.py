"""How good is a shared model after so many finished images? On images of equipment it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from backend.learning.inference import segment
from backend.learning.scores import score
from backend.learning.segmentation_data import TrainingData, TrainingImage
from backend.learning.segmentation_training import Hardware, Job, Settings, train


@dataclass(frozen=True)
class Point:
    """What a model gives without a stroke that learned from some images; means of those unseen."""

    images: int
    accuracy: float
    edge_band_accuracy: float
    mean_iou: float
    seconds: float  # of training


def learning_curve(
    data: TrainingData, unseen: Sequence[TrainingImage], counts: Sequence[int], settings: Settings
) -> Iterator[Point]:
    """Train on the first images of a dataset, on more and more of them.

    Args:
        data: As many images as the largest count.
        unseen: What to measure on.
        counts: How many images to train on.
        settings: How to train; the steps are those of all counts.

    Raises:
        ValueError: There are fewer images than a count.
    """
    if max(counts) > len(data.images):
        raise ValueError(f"{max(counts)} images are asked for, but there are {len(data.images)}")
    for count in counts:
        with TemporaryDirectory() as folder:
            images = data.images[:count]
            job = Job(images, (), len(data.materials), settings.epochs, settings.seed, Path(folder))
            trained = train(job, settings, Hardware(devices=1))  # else each would run this loop
        rows = []
        for image in unseen:
            answer = segment(trained.network, image.gray.astype(np.float32)).label_map
            scores = score(answer, image.truth, ())
            rows.append((scores.accuracy, scores.edge_band_accuracy, scores.mean_iou))
        means = np.mean(rows, axis=0).tolist()
        yield Point(count, means[0], means[1], means[2], trained.seconds)
