"""Where labels come from, masks, a dataset, a project or a model → images ready to be measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backend.batch.measurables import (
    Measurable,
    bare_measurables,
    dataset_measurables,
    masked_measurables,
)
from backend.batch.measuring import Setup
from backend.errors import InvalidDatasetError


class Wanted(Protocol):
    """What the user names; exactly one of labels, dataset, project and registry is given."""

    images: Sequence[Path]
    labels: Path | None
    dataset: Path | None
    project: int | None
    registry: Path | None
    originals: Path | None
    database: Path


@dataclass(frozen=True)
class Source:
    """Images to measure."""

    measurables: Sequence[Measurable]
    materials: tuple[str, ...] | None  # that all of them know; None: each its own
    ready: Callable[[Setup], Iterable[Measurable]]  # with labels or probabilities, one by one


@contextmanager
def open_source(wanted: Wanted) -> Iterator[Source]:
    """Find the images and their labels.

    Raises:
        ValueError: There are none, or they do not fit together.
        LabelStudioError: Label Studio does not answer, or refuses.
        OSError: A folder cannot be read.
    """
    if wanted.registry:
        with _model_source(wanted.images, wanted.registry) as source:
            yield source
        return
    if wanted.labels:
        measurables = masked_measurables(wanted.images, wanted.labels)
    elif wanted.images:
        raise InvalidDatasetError("images go with --labels or --registry: a dataset has its own")
    else:
        folder = wanted.dataset or _export(wanted)
        measurables = dataset_measurables(folder, wanted.originals)
    materials = {measurable.materials for measurable in measurables}
    known = materials.pop() if len(materials) == 1 else None
    yield Source(measurables, known, lambda _setup: measurables)


@contextmanager
def _model_source(images: Sequence[Path], registry: Path) -> Iterator[Source]:
    from backend.batch.model_labels import published_materials, segmented  # loads PyTorch

    measurables, materials = bare_measurables(images), published_materials(registry)
    with tempfile.TemporaryDirectory(prefix="probabilities-") as folder:
        yield Source(
            measurables,
            materials,
            lambda setup: segmented(measurables, registry, Path(folder), setup),
        )


def _export(wanted: Wanted) -> Path:
    """Bring a project's finished ground truth to a folder that stays beside the database."""
    from backend.settings import read_settings
    from backend.work.project_export import open_export  # loads the client of Label Studio

    folder = wanted.database.parent / f"project-{wanted.project}"
    with ExitStack() as stack:
        exporting = open_export(read_settings(), wanted.project or 0, folder, stack)
        for _ in exporting.run():
            pass
    return folder
