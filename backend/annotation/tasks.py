"""Label Studio's tasks, drafts and annotations, checked and turned into ours, in pixels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend.annotation.label_config import FINISHED_CHOICE, STATUS
from backend.annotation.task_bodies import (
    MAX_REGIONS,
    MAX_TOUCH_POINTS,
    MAX_TOUCHES,
    AnnotationBody,
    DraftBody,
    ResultBody,
    TaskBody,
    TouchBody,
    check_body,
)
from backend.errors import InvalidTaskError

Json: TypeAlias = dict[str, Any]

BRUSH = "brushlabels"
"""The kind of a region painted with a brush."""


@dataclass(frozen=True)
class Touch:
    """One press of the mouse with the brush or the eraser, as a line with round ends."""

    erases: bool
    points_px: NDArray[np.float64]  # (N, 2), row and column; pixel centers are integers
    width_px: float


@dataclass(frozen=True)
class Region:
    """One result of Label Studio: a painted mask, a box or a choice."""

    id: str
    control: str  # name of the control it was made with, such as "scribble"
    kind: str  # type of the control, such as "brushlabels"
    label: str | None  # None without a label, or with several
    origin: str  # "manual", "prediction", "prediction-changed", or "" if not told
    touches: tuple[Touch, ...] = ()
    rle: tuple[int, ...] | None = None
    choices: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None  # height and width of the image it was made on

    @property
    def is_painted(self) -> bool:
        """Whether there is a mask or a stroke in it."""
        return bool(self.touches) or bool(self.rle)


@dataclass(frozen=True)
class SentRegion:
    """A region as we sent it: what comes back under its id is compared with this."""

    id: str
    control: str
    label: str
    answer: str = ""  # the same for all regions of one answer


@dataclass(frozen=True)
class Annotation:
    """What one annotator made of an image: a draft, or a submitted annotation."""

    id: int | None  # None: a draft that was not submitted yet
    user: str | None
    updated_at: str
    regions: tuple[Region, ...]
    ground_truth: bool = False
    was_cancelled: bool = False
    user_title: str = ""  # name, email address and id of the user, as Label Studio shows them

    @property
    def finished(self) -> bool:
        """Whether the annotator declared it ground truth, and did not skip it."""
        ticked = any(
            region.control == STATUS and FINISHED_CHOICE in region.choices
            for region in self.regions
        )
        return (ticked or self.ground_truth) and not self.was_cancelled

    @property
    def region_ids(self) -> frozenset[str]:
        """The ids of all its regions."""
        return frozenset(region.id for region in self.regions)

    @property
    def moment(self) -> datetime:
        """When it was last changed; the distant past if it does not tell."""
        try:
            moment = datetime.fromisoformat(self.updated_at.replace("Z", "+00:00"))
        except ValueError:
            return datetime.min.replace(tzinfo=timezone.utc)
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Task:
    """An image with all that was drawn on it."""

    id: int
    image: str  # URL, path or data URI
    drafts: tuple[Annotation, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    project: int = 0  # number in Label Studio

    def newest_scribbled(self, prompt_ids: Collection[str] = ()) -> Annotation | None:
        """Choose what to learn from.

        Args:
            prompt_ids: Ids of the prompts just drawn: the draft that holds them is complete.

        Returns:
            The draft that holds the prompts, else the newest draft, else the newest annotation
            that was not skipped, else None.
        """
        holding = [d for d in self.drafts if prompt_ids and d.region_ids.issuperset(prompt_ids)]
        submitted = [a for a in self.annotations if not a.was_cancelled]
        candidates = holding or self.drafts or submitted
        return max(candidates, key=lambda candidate: candidate.moment, default=None)


def parse_task(body: Json, image_key: str) -> Task:
    """Read a task of a `/predict` body, of a webhook, or of Label Studio's API.

    Args:
        body: The task, with `drafts` and `annotations` if it has any.
        image_key: Key of the image in the task's data.

    Returns:
        The task, all lengths in pixels of the image.

    Raises:
        InvalidTaskError: Something is missing, malformed or too large; it names task and region.
    """
    task = check_body(TaskBody, body, f"task {_id_of(body)}")
    where = f"task {task.id}"
    image = task.data.get(image_key)
    if not isinstance(image, str) or not image:
        raise InvalidTaskError(f"{where} has no image under {image_key!r} in its data")
    return Task(
        id=task.id,
        image=image,
        drafts=tuple(_parse_draft(draft, where) for draft in task.drafts),
        annotations=tuple(_parse_submitted(entry, where) for entry in task.annotations),
        data=task.data,
        project=task.project,
    )


def parse_annotation(body: Json) -> Annotation:
    """Read a submitted annotation, as in a webhook or from Label Studio's API.

    Raises:
        InvalidTaskError: Something is missing, malformed or too large.
    """
    return _parse_submitted(body, where="")


def parse_draft(body: Json) -> Annotation:
    """Read a draft; its id is that of the annotation it belongs to, None if not submitted yet.

    Raises:
        InvalidTaskError: Something is missing, malformed or too large.
    """
    return _parse_draft(body, where="")


def parse_results(results: Sequence[Json], where: str = "") -> tuple[Region, ...]:
    """Read a list of results; relations, which belong to no control, are left out.

    Args:
        results: The list under `result` of an annotation, a draft or a prompt.
        where: What holds the list, for the message: "task 7, draft 3".

    Raises:
        InvalidTaskError: Something is missing, malformed or too large.
    """
    prefix = f"{where}, " if where else ""
    if not isinstance(results, list):
        raise InvalidTaskError(f"{prefix}result is no list")
    if len(results) > MAX_REGIONS:
        raise InvalidTaskError(f"{prefix}{len(results)} regions, at most {MAX_REGIONS} are read")
    regions = tuple(
        _parse_region(result, f"{prefix}region {_id_of(result)}")
        for result in results
        if not (isinstance(result, dict) and result.get("type") == "relation")
    )
    _check_touches([touch for region in regions for touch in region.touches], prefix)
    return regions


def parse_prompts(context: object) -> tuple[Region, ...]:
    """Read the prompts of an interactive call from `params.context`; () if there are none.

    Raises:
        InvalidTaskError: Something is missing, malformed or too large.
    """
    if not isinstance(context, dict) or not context.get("result"):
        return ()
    return parse_results(context["result"], where="prompt")


def _id_of(body: object) -> object:
    return body.get("id", "without id") if isinstance(body, dict) else "without id"


def _parse_draft(body: Json, where: str) -> Annotation:
    place = f"{where}, draft {_id_of(body)}".removeprefix(", ")
    draft = check_body(DraftBody, body, place)
    return Annotation(
        id=draft.annotation,
        user=draft.user_name,
        updated_at=draft.updated_at,
        regions=parse_results(draft.result or [], place),
    )


def _parse_submitted(body: Json, where: str) -> Annotation:
    place = f"{where}, annotation {_id_of(body)}".removeprefix(", ")
    annotation = check_body(AnnotationBody, body, place)
    return Annotation(
        id=annotation.id,
        user=annotation.user_name,
        updated_at=annotation.updated_at,
        regions=parse_results(annotation.result or [], place),
        ground_truth=annotation.ground_truth,
        was_cancelled=annotation.was_cancelled,
        user_title=(annotation.created_username or "").strip(),
    )


def _parse_region(body: Json, where: str) -> Region:
    result = check_body(ResultBody, body, where)
    value = result.value
    labels = value.labels(result.type)
    return Region(
        id=result.id,
        control=result.from_name,
        kind=result.type,
        label=labels[0] if len(labels) == 1 else None,
        origin=result.origin,
        touches=tuple(_touch_px(touch, *result.shape(where)) for touch in value.touches),
        rle=None if value.rle is None else tuple(value.rle),
        choices=tuple(value.choices),
        shape=result.shape(where) if result.needs_shape else None,
    )


def _check_touches(touches: Sequence[Touch], prefix: str) -> None:
    points = sum(len(touch.points_px) for touch in touches)
    if len(touches) > MAX_TOUCHES:
        raise InvalidTaskError(f"{prefix}{len(touches)} strokes, at most {MAX_TOUCHES} are read")
    if points > MAX_TOUCH_POINTS:
        raise InvalidTaskError(f"{prefix}{points} points, at most {MAX_TOUCH_POINTS} are read")


def _touch_px(touch: TouchBody, height: int, width: int) -> Touch:
    """Percent become pixels; pixel i reaches from i - 0.5 to i + 0.5."""
    x_percent, y_percent = np.array(touch.points_percent).reshape(-1, 2).T
    points_px = np.stack([y_percent / 100 * height, x_percent / 100 * width], axis=1) - 0.5
    return Touch(touch.type == "eraser", points_px, touch.width_percent / 100 * width)
