"""What Label Studio sends to the backend, and what it is answered: the description of the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_LONGEST_NUMBER = 19


class PredictBody(BaseModel):
    """What Label Studio sends to `/predict`."""

    tasks: list[dict[str, Any]]
    label_config: str
    params: dict[str, Any] | None = None
    """`context.result` holds the prompts of an interactive call."""
    project: Any = None
    """Number and time of creation, "3.17953"; named in the log only."""

    @property
    def project_number(self) -> int | None:
        """Number of the project, if it is known."""
        number = str(self.project).partition(".")[0]
        return int(number) if number.isdecimal() and len(number) < _LONGEST_NUMBER else None

    @property
    def only_task(self) -> int | None:
        """Number of the task, if there is one and no other."""
        task_id = self.tasks[0].get("id") if len(self.tasks) == 1 else None
        return task_id if isinstance(task_id, int) else None


class SetupBody(BaseModel):
    """What Label Studio sends when a project is opened; of it only two entries are read."""

    project: str | None = None
    """Number and time of creation, "3.17953"."""
    label_config: str | None = Field(default=None, alias="schema")


class EventBody(BaseModel):
    """A webhook; `action`, or `event` of old versions, tells what else is in it."""

    model_config = ConfigDict(extra="allow")

    action: str | None = None
    event: str | None = None


class Health(BaseModel):
    """That the backend is up."""

    status: str
    model_class: str


class ModelVersion(BaseModel):
    """The version that Label Studio shows for the backend."""

    model_version: str


class Versions(BaseModel):
    """All versions there are to choose from."""

    versions: list[str]


class PredictionAnswer(BaseModel):
    """The prediction for one task, in Label Studio's form."""

    result: list[dict[str, Any]]
    """Regions: a mask for each material, and boxes around uncertain spots."""
    score: float
    """Confidence, 0 to 1."""
    model_version: str


class Predictions(BaseModel):
    """One prediction for each task that was sent."""

    results: list[PredictionAnswer]


class EventAnswer(BaseModel):
    """Whether there is something to do; no `job`, which Label Studio would ask for again."""

    status: str
    """"queued" or "ignored"."""


class Refusal(BaseModel):
    """Why a request was not carried out, and what to do, in one sentence."""

    detail: str


_REASONS = {
    400: "The body is no JSON.",
    401: "Wrong user or password.",
    403: "The image is not where images may lie.",
    413: "The body is too long.",
    422: "Something in the body cannot be used.",
    502: "Label Studio does not answer, or refuses.",
    503: "Too much is waiting, or something that is needed cannot be reached.",
    507: "The state folder cannot be written.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": reason} for status, reason in _REASONS.items()
}
"""What each path may answer instead."""
