"""Imports image files: onto disk with their records, and into a Label Studio project as tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from backend.annotation.client import Json, LabelStudioClient
from backend.annotation.imported_tasks import ImportedTask, ImportedTasks
from backend.annotation.label_config import parse_label_config
from backend.errors import InvalidImageError
from backend.microscope.calibration import TOLD_BY_USERS
from backend.microscope.import_record import earlier_scales, prepare_import, save_import
from backend.microscope.importers import ImportedImage, ImportOptions, import_file


@dataclass(frozen=True)
class ImportOutcome:
    """What became of one image, or of a file that was refused."""

    path: Path
    record: Json | None = None  # None: refused
    task: ImportedTask | None = None  # None: no project was named
    refusal: str = ""


def open_tasks(client: LabelStudioClient, project_id: int) -> ImportedTasks:
    """Look at the project that images are to be imported to.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
        InvalidLabelConfigError: The project's labeling config is none of ours.
    """
    config = parse_label_config(client.project(project_id)["label_config"])
    return ImportedTasks(client, project_id, config.image_key)


def import_images(
    paths: Iterable[Path], options: ImportOptions, folder: Path, tasks: ImportedTasks | None
) -> Iterator[ImportOutcome]:
    """Import files one after the other; one that is refused does not stop the others.

    Args:
        paths: The files.
        options: What the user knows of all of them.
        folder: Where pictures, originals and records go.
        tasks: The project; None: only to disk.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
        OSError: The folder cannot be written.
    """
    for path in paths:
        try:
            found = import_file(path, options)
            images = [_with_kept_scale(image, path, options, folder) for image in found]
        except InvalidImageError as error:
            yield ImportOutcome(path, refusal=str(error))
            continue
        except OSError as error:
            yield ImportOutcome(path, refusal=f"it cannot be read: {error.strerror or error}")
            continue
        for image in images:
            yield _import_image(image, path, folder, tasks)


def describe(outcome: ImportOutcome) -> Iterator[str]:
    """Say in a line what became of an image, and in further ones what is to be known of it."""
    record = outcome.record
    if record is None:
        yield f"refused {outcome.path}: {outcome.refusal}"
        return
    dataset, detector = record["file"]["dataset"], record["acquisition"]["detector"]
    parts = [f"{record['kind']}, {record['width_px']} x {record['height_px']} px {record['dtype']}"]
    parts.append(_describe_scale(record["calibration"]))
    parts += [f"image {dataset}"] if dataset else []
    parts += [f"detector {detector}"] if detector else []
    parts += [f"flags {' '.join(record['flags'])}"] if record["flags"] else []
    parts += [f"task {outcome.task.task} {outcome.task.change}"] if outcome.task else []
    yield f"imported {outcome.path}: {'; '.join(parts)}"
    for note in record["notes"]:
        yield f"  {note}"


def _import_image(
    image: ImportedImage, path: Path, folder: Path, tasks: ImportedTasks | None
) -> ImportOutcome:
    """Save an image, and put it into its task; what an earlier task needs is not overwritten."""
    prepared = prepare_import(image)
    record = prepared.record
    if tasks and (objection := tasks.objection(record)):
        return ImportOutcome(path, refusal=objection)
    save_import(prepared, folder)
    return ImportOutcome(path, record, tasks.put(record, prepared.picture) if tasks else None)


def _describe_scale(told: Json | None) -> str:
    if told is None:
        return "pixel size unknown"
    x, y = f"{told['nm_per_px_x']:.6g}", f"{told['nm_per_px_y']:.6g}"
    return f"{x if x == y else f'{x} x {y}'} nm/px ({told['source']}: {told['detail']})"


def _with_kept_scale(
    image: ImportedImage, path: Path, options: ImportOptions, folder: Path
) -> ImportedImage:
    """The image with what a user said of its scale at an earlier import, unless they say more."""
    if options.scale:
        return image
    told = [scale for scale in earlier_scales(image, folder) if scale.source in TOLD_BY_USERS]
    if not told:
        return image
    again = replace(options, scale=told[0], dataset=image.dataset)
    return import_file(path, again)[0]
