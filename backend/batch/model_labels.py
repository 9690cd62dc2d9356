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
from backend.batch.intensities import Intensities
from backend.batch.measurables import Measurable
from backend.batch.measuring import Setup, read_image
from backend.errors import InvalidImageError, RegistryError
from backend.learning.guide import Guide
from backend.learning.provenance import prior_sha256
from backend.learning.registry import ModelCard, Registry
from backend.learning.shared_model import SharedModel
from backend.metrology.records import ModelRecord
from backend.microscope.images import decode_image, pixels_sha256


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
    record = ModelRecord(
        "shared model", models.weights_sha256(card), card.materials, card.name, prior_sha256()
    )
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
        yield replace(
            measurable,
            materials=card.materials,
            probabilities=path,
            model=record,
            is_trained_on=_is_trained_on(card, measurable, image),
        )


def _is_trained_on(card: ModelCard, measurable: Measurable, image: Intensities) -> bool:
    """Whether the model has learned from this image: as its picture, or as it lies in a dataset."""
    shown = [pixels_sha256(image.picture)]
    if measurable.image.suffix.lower() == ".png":
        shown.append(pixels_sha256(decode_image(measurable.image.read_bytes())))
    return not set(shown).isdisjoint(card.pictures)
