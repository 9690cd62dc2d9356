"""Finished annotations of a Label Studio project → a dataset on disk, kept up to date.

Every finished task is read and composed anew; what is on disk already stays untouched. So a second
export adds, updates and removes what changed, and repairs what a kill or a hand has damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from backend.annotation.client import LabelStudioClient
from backend.annotation.dataset_files import Dataset, Json, Provenance
from backend.annotation.ground_truth import (
    SCRIBBLED,
    GroundTruth,
    agreement,
    choose_finished,
    compose_label_map,
)
from backend.annotation.image_facts import (
    EQUIPMENT_KEY,
    ORIGINAL_KEY,
    RECORD_KEY,
    databar_rows,
    task_scale,
)
from backend.annotation.image_sources import ImageSource
from backend.annotation.label_config import LabelConfig
from backend.annotation.task_columns import State, state_if_unfinished
from backend.annotation.tasks import Annotation, SentRegion, Task, parse_annotation, parse_task
from backend.arrays import UNLABELED
from backend.errors import (
    ForbiddenImageError,
    InvalidDatasetError,
    InvalidImageError,
    InvalidTaskError,
    LabelStudioError,
)
from backend.microscope.calibration import Calibration
from backend.microscope.images import decode_image, gray_png

SentLookup: TypeAlias = Callable[[int, Collection[str]], Mapping[str, SentRegion]]
Kind: TypeAlias = Literal["added", "updated", "kept", "removed", "skipped", "unfinished"]
KINDS = get_args(Kind)

_ORIGINS = {
    SCRIBBLED: "scribble",
    "prediction": "accepted",
    "prediction-changed": "changed",
    "manual": "painted",
}
_OTHER_ORIGIN, _NO_ORIGIN = "unknown", "unlabeled"


def _nothing_sent(_task: int, _ids: Collection[str]) -> Mapping[str, SentRegion]:
    return {}


@dataclass(frozen=True)
class Outcome:
    """What became of one task."""

    task: int
    kind: Kind
    sentence: str
    notices: tuple[str, ...] = ()  # what was ignored, restored or changed in its mask
    state: State | None = None  # what the Data Manager is to show; None: what it shows


@dataclass(frozen=True)
class Source:
    """A project whose ground truth is wanted."""

    client: LabelStudioClient
    images: ImageSource
    project: int
    config: LabelConfig
    sent: SentLookup = _nothing_sent  # those of some region ids that the backend sent for a task


def export_project(source: Source, dataset: Dataset) -> Iterator[Outcome]:
    """Bring all finished annotations of a project into a dataset.

    Without any finished annotation nothing is removed: that is rather a slip than a wish.

    Args:
        source: The project.
        dataset: Has the project's materials.

    Yields:
        What became of each task; a task that is removed was "unfinished" or deleted before. The
        manifest is up to date when the iterator ends, however it ends.

    Raises:
        InvalidDatasetError: The dataset holds this project number of another Label Studio.
        LabelStudioError: Label Studio stopped answering.
        OSError: The dataset cannot be written.
    """
    known = dataset.entries_of(source.project)
    _check_origin(source, dataset, known)
    listed: set[int] = set()
    finished: set[int] = set()
    try:
        for body in source.client.tasks(source.project):
            listed.add(body["id"])
            outcome = _export_task(source, dataset, body, known.get(body["id"]))
            if outcome.kind != "unfinished":
                finished.add(outcome.task)
            yield outcome
        for task_id in sorted(known.keys() - finished if finished else ()):
            dataset.drop(known[task_id])
            reason = "is no longer finished" if task_id in listed else "was deleted"
            yield Outcome(task_id, "removed", f"it {reason} in Label Studio")
    finally:
        dataset.save()
    if finished:
        dataset.sweep(source.project)


def _check_origin(source: Source, dataset: Dataset, known: Mapping[int, Json]) -> None:
    """Refuse a dataset that holds this project number of another Label Studio."""
    here = source.client.url
    told = {str(entry.get("label_studio")) for entry in known.values()}
    if others := told - {str(here), here.host}:  # earlier versions told the host alone
        raise InvalidDatasetError(
            f"{dataset.folder} holds project {source.project} of the Label Studio on "
            f"{', '.join(sorted(others))}, this one is on {here}: export to another folder"
        )


def _export_task(source: Source, dataset: Dataset, body: Json, before: Json | None) -> Outcome:
    """Export a task, unless none of its annotations is finished."""
    # Asked of every task: the counter `total_annotations` may stay at 0 where a task changed while
    # its annotation was submitted (Label Studio 1.23.2), and a finished task would be passed over.
    annotations: list[Json] | None = None
    state: State | None = None
    try:
        task = parse_task({"id": body["id"], "data": body.get("data")}, source.config.image_key)
        annotations = source.client.annotations(task.id)
        finished = [one for one in map(parse_annotation, annotations) if one.finished]
        if not finished:
            why = "none of its annotations is finished"
            return Outcome(task.id, "unfinished", why, state=state_if_unfinished(body))
        return _put(source, dataset, task, finished)
    except (InvalidTaskError, InvalidImageError, ForbiddenImageError) as error:
        reason = str(error)
    except LabelStudioError as error:
        source.client.project(source.project)  # raises if it is more than this one task
        reason = str(error)
    if before is not None and _is_still_there(before, annotations):
        reason += "; what was exported earlier stays"
    elif before is not None:
        dataset.drop(before)
        reason += "; what was exported earlier is removed, its annotation has changed"
        state = "finished"
    reason = reason.removeprefix(f"task {body['id']}: ")
    return Outcome(body["id"], "skipped", reason, state=state)


def _is_still_there(entry: Json, annotations: Sequence[Json] | None) -> bool:
    """Whether the annotation of an entry is as it was, as far as can be known."""
    exported = (entry["annotation"], entry.get("updated_at"))
    return annotations is None or any(
        (one.get("id"), one.get("updated_at")) == exported for one in annotations
    )


def _put(source: Source, dataset: Dataset, task: Task, finished: Sequence[Annotation]) -> Outcome:
    """Put the image and the mask of a task into the dataset."""
    chosen, why = choose_finished(finished)
    others = [annotation for annotation in finished if annotation is not chosen]
    image = gray_png(source.images.read(task.image))
    height, width = decode_image(image).shape
    truth = _compose(source, task, chosen, (height, width))
    share_agreed, not_compared = _agreement(source, task, truth, others)
    scale, doubts = task_scale(task.data)
    provenance = Provenance(
        label_studio=str(source.client.url),
        project=source.project,
        task=task.id,
        annotation=_id(chosen),
        updated_at=chosen.updated_at,
        annotator=chosen.user,
        annotator_title=chosen.user_title,
        chosen=why,
        other_annotations=tuple(map(_id, others)),
        agreement=share_agreed,
        materials=_materials_in(truth, source.config),
        share_by_origin=_share_by_origin(truth),
        overlap_px=truth.overlap_px,
        equipment=_text(task.data, EQUIPMENT_KEY),
        notices=(*truth.notices, *not_compared, *doubts),
        import_record=_text(task.data, RECORD_KEY),
        original_sha256=_text(task.data, ORIGINAL_KEY),
        **_pixel_sizes(scale),
    )
    kind = dataset.put(provenance, image, truth.label_map)
    agreed = "" if share_agreed is None else f"; all agree on {share_agreed:.1%} of the labels"
    sentence = f"annotation {chosen.id}, {why}{agreed}"
    return Outcome(task.id, kind, sentence, provenance.notices, "exported")


def _compose(
    source: Source, task: Task, annotation: Annotation, shape: tuple[int, int]
) -> GroundTruth:
    sent = source.sent(task.id, annotation.region_ids)
    bar_rows = databar_rows(task.data)
    return compose_label_map(annotation, source.config, sent, shape, bar_rows)


def _agreement(
    source: Source, task: Task, truth: GroundTruth, others: Sequence[Annotation]
) -> tuple[float | None, tuple[str, ...]]:
    """Compare with the finished annotations that are not used; say which cannot be compared."""
    height, width = truth.label_map.shape
    label_maps, notices = [truth.label_map], []
    for other in others:
        try:
            label_maps.append(_compose(source, task, other, (height, width)).label_map)
        except InvalidTaskError as error:
            notices.append(f"annotation {other.id} is not compared: {error}")
    return agreement(label_maps), tuple(notices)


def _materials_in(truth: GroundTruth, config: LabelConfig) -> tuple[str, ...]:
    """Name the materials in a mask, in order of their class.

    Raises:
        InvalidTaskError: There are fewer than two: nothing could be learned from it.
    """
    classes = np.unique(truth.label_map[truth.label_map != UNLABELED])
    names = tuple(config.materials[index] for index in classes)
    if not names:
        raise InvalidTaskError("; ".join(truth.notices) or "all of its mask was erased")
    if len(names) == 1:
        raise InvalidTaskError(f"its mask shows {names[0]} only, and needs two materials or more")
    return names


def _share_by_origin(truth: GroundTruth) -> dict[str, float]:
    """Share of all pixels that were decided in each way, summing to 1."""
    size = truth.label_map.size
    shares = dict.fromkeys((*_ORIGINS.values(), _NO_ORIGIN), 0.0)
    for origin, pixels in truth.pixels_by_origin.items():
        name = _ORIGINS.get(origin, _OTHER_ORIGIN)
        shares[name] = shares.get(name, 0.0) + pixels / size
    shares[_NO_ORIGIN] = np.count_nonzero(truth.label_map == UNLABELED) / size
    return {name: round(share, 6) for name, share in shares.items()}


def _pixel_sizes(scale: Calibration | None) -> Json:
    """The pixel size as the manifest has it: one number for both sides only if they are equal."""
    if scale is None:
        return {"pixel_size_nm": None}
    x_nm, y_nm = scale.nm_per_px_x, scale.nm_per_px_y
    return {
        "pixel_size_nm": x_nm if x_nm == y_nm else None,
        "pixel_size_x_nm": x_nm,
        "pixel_size_y_nm": y_nm,
        "pixel_size_source": scale.detail,
    }


def _text(data: Mapping[str, Any], key: str) -> str | None:
    """What a task's data says under a key; None if nothing."""
    return str(data.get(key) or "") or None


def _id(annotation: Annotation) -> int:
    """The id of a submitted annotation; only drafts may have none."""
    return annotation.id or 0
