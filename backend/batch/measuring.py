"""Images with labels and a recipe → runs for the CD database, image by image in several processes.

An image that fails never stops the others. Whatever the size of a batch, memory holds a few images
for each process; the probabilities of a model lie in files. Heavy packages stay out of here: each
process would load them.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.batch.intensities import Intensities, of_file, of_import
from backend.batch.measurables import Measurable
from backend.errors import InvalidImageError
from backend.learning.labeled_images import read_mask
from backend.metrology.measure import count_instances, measure_image
from backend.metrology.recipe import Recipe
from backend.metrology.records import (
    TRAINED_ON,
    ImageRecord,
    RowError,
    RowsOfModel,
    Run,
    RunSource,
    path_beside,
)
from backend.metrology.results import Measured, run_status
from backend.metrology.stated_scales import Evidence, StatedScale, weigh
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.import_record import load_imported
from backend.microscope.importers import ImportOptions, import_file
from backend.microscope.scale import Scale, check_plausible, is_plausible

ENGINE_VERSION = (
    "5"  # since levels are no tilt, and gaps and partners of lost structures count no more
)
"""Counts up when the same inputs give other rows: a new default, a better fit, and also another
guide, which makes the labels of model runs."""

MODEL_ERROR = "model_error"
"""Flag of a run whose uncertainties hold what its model showed on images with drawn labels."""

TIMES = ("%d %b %Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y:%m:%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")
"""How microscopes write the time, beside ISO 8601: Zeiss, FEI, TIFF, JEOL. Day and month of
01/02/2024 are anyone's guess."""

AHEAD = 2
"""Images that wait for each process, so that none stands idle."""


@dataclass(frozen=True)
class Setup:
    """What all images of a batch share.

    Raises:
        InvalidImageError: The pixel size that the user tells is not plausible.
    """

    recipe: Recipe
    database: Path  # paths are stored as seen from there
    scale: Calibration | None = None  # told by the user
    stated: Mapping[str, StatedScale] = field(default_factory=dict)  # before, by image
    model_errors: Mapping[RowsOfModel, float] = field(default_factory=dict)  # beside drawn labels

    def __post_init__(self) -> None:
        if self.scale:
            check_plausible(self.scale)


@dataclass(frozen=True)
class Finished:
    """An image that was measured."""

    run: Run
    measured: Measured
    duration_s: float
    note: str = ""  # on the scale


@dataclass(frozen=True)
class Failed:
    """An image that could not be measured."""

    reason: str


def measure_all(
    measurables: Iterable[Measurable], setup: Setup, executor: Executor, processes: int
) -> Iterator[tuple[Measurable, Finished | Failed]]:
    """Measure a batch; yield each image in the order given.

    Args:
        measurables: Asked for one by one, a few ahead.
        setup: What they share.
        executor: Runs so many at once.
        processes: How many.
    """
    waiting: deque[tuple[Measurable, Future[Finished]]] = deque()
    for measurable in measurables:
        waiting.append((measurable, _submit(executor, measurable, setup)))
        if len(waiting) >= processes * AHEAD:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _submit(executor: Executor, measurable: Measurable, setup: Setup) -> Future[Finished]:
    try:
        return executor.submit(measure, measurable, setup)
    except BrokenExecutor as error:
        broken: Future[Finished] = Future()
        broken.set_exception(error)
        return broken


def _outcome(
    measurable: Measurable, future: Future[Finished]
) -> tuple[Measurable, Finished | Failed]:
    error = future.exception()
    if error is None:
        return measurable, future.result()
    if isinstance(error, BrokenExecutor):
        return measurable, Failed(
            "a process died, most likely for want of memory: measure the rest again, with "
            "--processes 1"
        )
    known = isinstance(error, ValueError | OSError)
    return measurable, Failed(str(error) if known else f"{type(error).__name__}: {error}")


def measure(measurable: Measurable, setup: Setup) -> Finished:
    """Read and measure one image.

    Raises:
        ValueError: It cannot be measured; the sentence says why.
        OSError: A file cannot be read.
    """
    started = time.perf_counter()
    image, scale = read_image(measurable, setup)
    if scale.calibration is None and setup.recipe.calibration.require:
        raise InvalidImageError(
            "no pixel size is known, and the recipe requires one: give --nm-per-px, or the "
            "microscope's own file"
        )
    subject = _subject(measurable, image, scale)
    measured = measure_image(subject, setup.recipe)
    of_scale = (flag for flag in scale.flags if flag != "anisotropic")  # the recipe has a say there
    of_model = (TRAINED_ON,) if measurable.is_trained_on else ()
    flags = tuple(dict.fromkeys((*measured.flags, *of_scale, *of_model)))
    status = run_status(flags, has_values=measured.status != "failed")
    run = Run(
        _image_record(measurable, image, setup.database),
        setup.recipe,
        _run_source(measurable, subject.label_map),
        scale.calibration,
        ENGINE_VERSION,
        scale.found[1:],
        scale.is_stated,
    )
    run = replace(run, model_errors=tuple(_model_errors(run, setup)))
    finished = _with_model_errors(replace(measured, status=status, flags=flags), run)
    return Finished(run, finished, time.perf_counter() - started, scale.note)


def count_structures(
    measurable: Measurable, image: Intensities, scale: Scale, recipe: Recipe
) -> dict[str, int]:
    """How many of each structure the drawn labels of an image hold.

    Raises:
        ValueError: The labels do not fit the image, its materials or the recipe.
        OSError: They cannot be read.
    """
    return count_instances(_subject(measurable, image, scale), recipe)


def _model_errors(run: Run, setup: Setup) -> Iterator[RowError]:
    """What the database knows of the errors of the run's model by its recipe."""
    model = run.source.model
    if model is None:
        return
    for rows, error in setup.model_errors.items():
        if (rows.model_id, rows.recipe_id) == (model.id, run.recipe_id):
            yield RowError(rows.measurement, rows.side, rows.part, rows.quantity, error)


def _with_model_errors(measured: Measured, run: Run) -> Measured:
    """Let what a model showed on images with drawn labels count wherever it placed edges.

    How steep probabilities are says little of how right they are, and the outline of the likeliest
    classes is no better; only what gray values placed stands on something else.
    """
    errors = {tuple(rows): error for *rows, error in run.model_errors}
    cds = []
    for cd in measured.cds:
        error = errors.get((cd.measurement, cd.side, cd.part, cd.quantity))
        if error is not None and cd.value is not None and cd.method != "gray":
            cd = replace(cd, u_value=math.hypot(cd.u_value or 0.0, error))
        cds.append(cd)
    is_changed = any(new is not old for new, old in zip(cds, measured.cds, strict=True))
    flags = (*measured.flags, MODEL_ERROR) if is_changed else measured.flags
    return replace(measured, cds=tuple(cds), flags=flags)


def read_image(measurable: Measurable, setup: Setup) -> tuple[Intensities, Scale]:
    """Read the intensities of an image, and choose among all pixel sizes that are told.

    Raises:
        InvalidImageError: It is none, must not be measured, or its pixel size is not plausible.
        OSError: It cannot be read.
    """
    if measurable.refusal:
        raise InvalidImageError(measurable.refusal)
    is_insisted_on = False
    if measurable.record:
        loaded = load_imported(measurable.record)
        image = of_import(loaded, measurable.record.parent.parent)
        is_insisted_on = loaded.calibration is not None and not is_plausible(loaded.calibration)
    else:
        (imported,) = import_file(measurable.image, ImportOptions(any_pixel_size=True))
        image = of_file(imported)
    found = (*image.scales, *((measurable.scale,) if measurable.scale else ()))
    stated = setup.stated.get(image.id)
    return image, weigh(Evidence(image.id, found, setup.scale, stated, is_insisted_on))


def _subject(measurable: Measurable, image: Intensities, scale: Scale) -> Subject:
    no_gray = "clipped" if "clipped" in image.flags else image.no_gray
    probabilities = _probabilities(measurable)
    if probabilities is None:
        label_map = _label_map(measurable, image)
    else:
        label_map = probabilities.argmax(axis=0).astype(np.uint8)
    if image.databar_rows:  # models have an opinion of letters, and annotators accept it
        label_map = label_map.copy()
        label_map[-image.databar_rows :] = UNLABELED
    return Subject(
        label_map,
        measurable.materials,
        scale.calibration,
        None if no_gray else image.pixels,
        no_gray,
        probabilities,
        is_inferred=probabilities is not None,
        databar_rows=image.databar_rows,
    )


def _probabilities(measurable: Measurable) -> Probabilities | None:
    if measurable.probabilities is None:
        return None
    stored = np.load(measurable.probabilities, mmap_mode="r")
    return np.asarray(stored, np.float32)


def _label_map(measurable: Measurable, image: Intensities) -> LabelMap:
    """The drawn labels, on the grid of the image."""
    if measurable.mask is None:
        raise InvalidImageError("it has no labels: give masks, or a model")
    label_map = read_mask(measurable.mask, measurable.image, image.shape)
    classes = np.unique(label_map[label_map != UNLABELED])
    if not len(classes):
        raise InvalidImageError(f"the mask {measurable.mask} labels no pixel: draw it first")
    unknown = classes[classes >= len(measurable.materials)]
    if len(unknown):
        raise InvalidImageError(
            f"the mask {measurable.mask} holds class {', '.join(map(str, unknown))}, and there are "
            f"{len(measurable.materials)} materials: it belongs to another legend"
        )
    return label_map


def _image_record(measurable: Measurable, image: Intensities, database: Path) -> ImageRecord:
    acquisition = image.acquisition
    written, acquired_at = acquisition.acquired_at, iso_time(acquisition.acquired_at)
    picture = measurable.picture
    return ImageRecord(
        name=measurable.name,
        path_rel=path_beside(database, measurable.image),
        file_sha256=image.file_sha256,
        shape=image.shape,
        dataset=image.dataset,
        label_png_sha256=hashlib.sha256(picture.read_bytes()).hexdigest() if picture else None,
        bit_depth=image.bit_depth,
        mode=None if acquisition.mode == "unknown" else acquisition.mode,
        instrument=acquisition.instrument or measurable.instrument,
        voltage_kv=acquisition.voltage_kv,
        acquired_at=acquired_at,
        label_studio_task_id=measurable.task,
        metadata={} if written in ("", acquired_at) else {"acquired_at": written},
    )


def iso_time(written: str) -> str | None:
    """A time as ISO 8601, which sorts as text; None where it could mean several.

    Example:
        >>> [iso_time(text) for text in ("30 Dec 2025 14:22:01", "2025-12-30", "01/02/2024")]
        ['2025-12-30T14:22:01', '2025-12-30', None]
    """
    text = written.strip()
    with suppress(ValueError):
        return date.fromisoformat(text).isoformat()
    with suppress(ValueError):
        told = datetime.fromisoformat(text)
        return (told.astimezone(timezone.utc) if told.tzinfo else told).isoformat()
    for form in TIMES:
        with suppress(ValueError):
            return datetime.strptime(text, form).isoformat()
    return None


def _run_source(measurable: Measurable, label_map: LabelMap) -> RunSource:
    """Whose labels: those of a model, else the drawn ones, known by what they say."""
    if measurable.model:
        return RunSource(model=measurable.model)
    digest = hashlib.sha256(f"{measurable.materials} {label_map.shape}".encode())
    digest.update(np.ascontiguousarray(label_map).data)
    return RunSource(digest.hexdigest(), measurable.annotation, measurable.annotator)
