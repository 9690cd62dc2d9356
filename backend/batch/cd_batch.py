"""A batch of images → runs in the CD database and overlays, and what became of each image."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.batch.intensities import Intensities
from backend.batch.measurables import Measurable
from backend.batch.measuring import (
    Failed,
    Finished,
    Setup,
    count_structures,
    measure_all,
    read_image,
)
from backend.metrology.agreement import model_errors
from backend.metrology.database import CdDatabase, open_database, stated_scales, write_run
from backend.metrology.flag_meanings import meaning
from backend.metrology.overlay import save_overlays
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_plan import describe_plan
from backend.metrology.results import RunStatus
from backend.metrology.rows import measurement_rows
from backend.metrology.summary import summarize_run
from backend.microscope.calibration import Calibration
from backend.microscope.scale import Scale


@dataclass(frozen=True)
class Batch:
    """How a batch is run."""

    setup: Setup
    overlays: Path | None = None  # folder to draw into
    processes: int = 2
    dry: bool = False  # nothing is stored


@dataclass(frozen=True)
class Told:
    """What became of one image."""

    name: str
    status: RunStatus
    notes: tuple[str, ...]  # the reason of a failure, or what is to be known of the image
    values: tuple[str, ...] = ()  # the mean of each measurement


def make_setup(recipe: Recipe, database: Path, scale: Calibration | None) -> Setup:
    """What a batch shares, with what the database knows of scales and models.

    Raises:
        InvalidImageError: The pixel size that the user tells is not plausible.
        ValueError: The database is none, or is newer than this program.
        OSError: The database cannot be opened.
    """
    if not database.exists():
        return Setup(recipe, database, scale)
    with closing(open_database(database)) as opened:
        return Setup(recipe, database, scale, stated_scales(opened), model_errors(opened))


def run_batch(measurables: Iterable[Measurable], batch: Batch) -> Iterator[Told]:
    """Measure and store images in the order given, each as soon as it is ready.

    Args:
        measurables: Read one by one; their files of probabilities are deleted after use.
        batch: How.

    Raises:
        ValueError: The database is none, or is newer than this program.
        OSError: The database cannot be opened.
    """
    with ExitStack() as stack:
        database = None
        if not batch.dry:
            database = stack.enter_context(closing(open_database(batch.setup.database)))
        executor = stack.enter_context(process_pool(batch.processes))
        yield from store_all(measurables, batch, executor, database)


def check_batch(measurables: Iterable[Measurable], setup: Setup) -> Iterator[str]:
    """Tell what would be measured on each image; nothing is measured or written.

    Labels are opened where they are drawn already; a model is not asked for its own.
    """
    told = set()
    for measurable in measurables:
        try:
            image, scale = read_image(measurable, setup)
        except (ValueError, OSError) as error:
            yield f"{measurable.name}: {error}"
            continue
        height, width = image.shape
        size = scale.calibration.nm_per_px if scale.calibration else None
        known = f"{size:.5g} nm ({scale.calibration.source})" if scale.calibration else "not known"
        gray = f"not used, {image.no_gray}" if image.no_gray else "linear"
        notes = ", ".join(dict.fromkeys((*image.flags, *scale.flags))) or "none"
        yield (
            f"{measurable.name}: {width} x {height} px, pixel {known}, gray values {gray}, "
            f"flags {notes}"
        )
        if scale.note:
            yield f"  {scale.note}"
        if size not in told:
            yield from (f"  {line}" for line in describe_plan(setup.recipe, size))
            told.add(size)
        if measurable.mask:
            yield f"  {_structures(measurable, image, scale, setup.recipe)}"


def _structures(measurable: Measurable, image: Intensities, scale: Scale, recipe: Recipe) -> str:
    """What the drawn labels of an image hold, or why it could not be measured."""
    try:
        counts = count_structures(measurable, image, scale, recipe)
    except (ValueError, OSError) as error:
        return f"cannot be measured: {error}"
    found = ", ".join(
        f"{counts[name]} {name}" if name in counts else f"{name} not known without a pixel size"
        for name in recipe.structures
    )
    return f"found in its labels: {found}"


@contextmanager
def process_pool(processes: int) -> Iterator[Executor]:
    """Fresh processes: a forked one would inherit the locks of a network's threads.

    Ctrl-C reaches them too; they leave it to us, who let them finish what they have begun.
    """
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_leave_ctrl_c
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def store_all(
    measurables: Iterable[Measurable],
    batch: Batch,
    executor: Executor,
    database: CdDatabase | None,
) -> Iterator[Told]:
    """Measure by an executor, and store what comes back; nothing without a database."""
    for measurable, outcome in measure_all(measurables, batch.setup, executor, batch.processes):
        if measurable.probabilities:
            measurable.probabilities.unlink(missing_ok=True)
        if isinstance(outcome, Failed):
            yield Told(measurable.name, "failed", (outcome.reason,))
            continue
        try:
            if database is not None:
                _store(database, batch, outcome)
        except (ValueError, OSError) as error:
            yield Told(measurable.name, "failed", (str(error),))
            continue
        status, notes, values = outcome.measured.status, _notes(outcome), _values(outcome)
        yield Told(measurable.name, status, tuple(notes), tuple(values))


def _store(database: CdDatabase, batch: Batch, finished: Finished) -> None:
    run_id = write_run(database, finished.run, finished.measured, finished.duration_s)
    if batch.overlays:
        save_overlays(database, batch.setup.database, run_id, batch.overlays)


def _values(finished: Finished) -> Iterator[str]:
    """The mean of each measurement, as in the table of statistics."""
    run, measured = finished.run, finished.measured
    rows = measurement_rows(run.id, measured.cds, run.calibration)
    for row in summarize_run(rows, run.recipe.summary):
        mean = row.get("mean")
        value = "no value" if mean is None else f"{mean:.4g} {row['unit']}"
        yield f"{row['measurement']} {row['side']}".strip() + f": {value}, n {row['n']}"


def _notes(finished: Finished) -> Iterator[str]:
    measured = finished.measured
    lost = Counter(cd.measurement for cd in measured.cds if cd.status in ("missing", "failed"))
    if lost:
        yield f"without value: {', '.join(f'{n} of {name}' for name, n in lost.items())}"
    if measured.flags:
        told = (f"{flag} ({meaning(flag)})" for flag in measured.flags)
        yield f"flags: {', '.join(told)}"
    if finished.note:
        yield finished.note
