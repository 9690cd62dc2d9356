"""Label Studio's JSON as it must look to be read: keys, types and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from backend.annotation.rle import MAX_BYTES
from backend.errors import InvalidTaskError

MAX_ANNOTATIONS = 1_000
"""Drafts of one task, and annotations of it."""

MAX_REGIONS = 2_000
"""Regions in one annotation."""

MAX_TOUCHES = 5_000
"""Strokes in one annotation."""

MAX_TOUCH_POINTS = 100_000
"""Points of all strokes of one annotation."""

_MAX_SIDE_PX = 65_535
_MAX_PERCENT = 1e5  # strokes may leave the image, not the neighborhood
_MAX_WIDTH_PERCENT = 400.0

_Percent = Annotated[float, Field(ge=-_MAX_PERCENT, le=_MAX_PERCENT, allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=1, le=_MAX_SIDE_PX)]
_Number = Annotated[int, Field(ge=0, lt=2**63)]  # as Label Studio's database and ours count
_Annotations = Annotated[list[Any], Field(max_length=MAX_ANNOTATIONS)]

_Body = TypeVar("_Body", bound=BaseModel)


class _Strict(BaseModel):
    """A number is a number, not a text that looks like one; keys we do not read may be there."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TouchBody(_Strict):
    """A stroke; its `points` and `strokeWidth` are in pixels of the screen and not read."""

    type: Literal["add", "eraser"]
    points_percent: list[_Percent] = Field(alias="relativePoints")
    width_percent: float = Field(
        alias="relativeStrokeWidth", ge=0, le=_MAX_WIDTH_PERCENT, allow_inf_nan=False
    )

    @field_validator("points_percent")
    @classmethod
    def _are_pairs(cls, points: list[float]) -> list[float]:
        if len(points) % 2:
            raise ValueError(f"{len(points)} numbers are not pairs of x and y")
        return points


class ValueBody(_Strict):
    """What was drawn: strokes, a mask, a box or choices, and the labels it was given."""

    touches: list[TouchBody] = []
    rle: Annotated[list[int], Field(max_length=MAX_BYTES)] | None = None
    choices: list[str] = []
    brushlabels: list[str] = []
    rectanglelabels: list[str] = []
    x: _Percent | None = None
    y: _Percent | None = None
    width: _Percent | None = None
    height: _Percent | None = None

    def labels(self, kind: str) -> Sequence[str]:
        """The labels of a region of this type."""
        return {"brushlabels": self.brushlabels, "rectanglelabels": self.rectanglelabels}.get(
            kind, ()
        )

    @property
    def is_box(self) -> bool:
        """Whether all four of x, y, width and height are told."""
        return None not in (self.x, self.y, self.width, self.height)


class ResultBody(_Strict):
    """One entry of `result`."""

    id: str
    from_name: str
    type: str
    origin: str = ""
    original_width: _Side | None = None
    original_height: _Side | None = None
    value: ValueBody

    @property
    def needs_shape(self) -> bool:
        """Whether it was drawn on the image, rather than chosen beside it."""
        drawn = self.value.touches or self.value.rle or self.value.is_box
        return bool(drawn)

    def shape(self, where: str) -> tuple[int, int]:
        """Height and width of the image it was drawn on."""
        if self.original_height is None or self.original_width is None:
            raise InvalidTaskError(f"{where} lacks original_width or original_height")
        return (self.original_height, self.original_width)


class DraftBody(_Strict):
    """What an annotator has not submitted yet."""

    user: str | int | None = None
    annotation: _Number | None = None
    updated_at: str = ""
    result: list[Any] | None  # null in Label Studio's database is an empty list

    @property
    def user_name(self) -> str | None:
        """Who draws it."""
        return _name(self.user)


class AnnotationBody(_Strict):
    """What an annotator has submitted."""

    id: _Number
    completed_by: int | str | dict[str, Any] | None = None
    created_username: str | None = None
    updated_at: str = ""
    ground_truth: bool = False
    was_cancelled: bool = False
    result: list[Any] | None

    @property
    def user_name(self) -> str | None:
        """Who made it: an id, or an email address where Label Studio tells it."""
        who = self.completed_by
        if isinstance(who, dict):
            who = who.get("email") or who.get("id")
        return _name(who)


def _name(who: object) -> str | None:
    """Name somebody in characters that can be stored: half of a surrogate pair cannot."""
    return None if who is None else str(who).encode(errors="replace").decode()


class TaskBody(_Strict):
    """An image to label."""

    id: _Number
    project: _Number = 0
    data: dict[str, Any]
    drafts: _Annotations = []
    annotations: _Annotations = []


def check_body(model: type[_Body], body: object, where: str) -> _Body:
    """Check a piece of JSON.

    Args:
        model: How it must look.
        body: What came.
        where: What it is, for the message: "task 7, region abc".

    Raises:
        InvalidTaskError: It looks otherwise; the message names the key.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "body"
        raise InvalidTaskError(f"{where}: {key}: {first['msg']}") from error
