"""Images without labels and the shared model that serves → the same with probabilities.

They are those of a guide that the model starts, as annotators see them before their first stroke:
it finds edges in the image itself, where the model alone is right to some pixels only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from backend.arrays import UNLABELED
from backend.errors import InvalidImageError, RegistryError
from backend.learning.guide import Guide
from backend.learning.registry import ModelCard, Registry
from backend.learning.shared_model import SharedModel
from backend.measurables import Measurable
from backend.measuring import Setup, read_image
from backend.metrology.records import ModelRecord


def published_materials(registry: Path) -> tuple[str, ...]:
    """Materials that the model that serves can tell apart.

    Raises:
        RegistryError: None is published.
    """
    return _published(Registry(registry)).materials


def _published(models: Registry) -> ModelCard:
    card = models.published()
    if card is None:
        raise RegistryError(f"no model is published in {models.folder}: train one first")
    return card


def segmented(
    measurables: Iterable[Measurable], registry: Path, folder: Path, setup: Setup
) -> Iterator[Measurable]:
    """Segment images one by one, as they are asked for.

    Args:
        measurables: Without labels.
        registry: Folder of the shared models.
        folder: Gets a file of probabilities for each image; who asked deletes it.
        setup: As they will be measured with.

    Yields:
        Each with its probabilities. One that cannot be read stays as it is: measuring it
        fails for the same reason, and says so.

    Raises:
        RegistryError: No model is published, or it is damaged.
    """
    models = Registry(registry)
    card = _published(models)
    shared = SharedModel(card, models.load(card))
    record = ModelRecord("shared model", models.weights_sha256(card), card.materials, card.name)
    for number, measurable in enumerate(measurables):
        try:
            image, _ = read_image(measurable, setup)
        except (InvalidImageError, OSError):
            yield measurable
            continue
        path = folder / f"{number}.npy"
        guide = Guide(image.picture, len(card.materials), shared=shared)
        prediction = guide.update(np.full(guide.shape, UNLABELED, np.uint8))
        np.save(path, prediction.probabilities.astype(np.float16))
        yield replace(measurable, materials=card.materials, probabilities=path, model=record)
