"""What managers see of a task in Label Studio's Data Manager: columns that come from its data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from backend.annotation.tasks import Json

State = Literal["new", "scribbled", "finished", "exported"]
STATES: tuple[State, ...] = get_args(State)

_PREFIX = "guide_"  # keeps ours apart from what the project's own data may be called


@dataclass(frozen=True)
class TaskColumns:
    """How far the annotation of one task is."""

    state: State
    model: str
    """Version that answered last."""
    uncertainty: float | None = None
    """Mean of the image, 0 to 1; None before the first answer."""
    turns: int = 0
    """Answers so far."""
    strokes: int = 0
    """Drawn at the last turn."""
    cds: str | None = None
    """How many CDs are within their tolerance, "11/12"; None: no recipe asks for any."""
    cd_report: str | None = None
    """Each CD with its value and uncertainty."""

    def as_data(self) -> Json:
        """As keys of a task's data; an unknown uncertainty is left out.

        Example:
            >>> TaskColumns("new", "tem-guide-v1").as_data()["guide_state"]
            'new'
        """
        rounded = None if self.uncertainty is None else round(self.uncertainty, 4)
        columns = {**asdict(self), "uncertainty": rounded}
        return {_PREFIX + name: value for name, value in columns.items() if value is not None}


def cd_columns(cds: str | None, cd_report: str | None) -> Json:
    """What is known of the CDs alone, as keys of a task's data.

    Example:
        >>> cd_columns("1/1", "width of gate 0: 22.10 ± 0.20 nm, within 0.5")["guide_cds"]
        '1/1'
    """
    return {f"{_PREFIX}cds": cds, f"{_PREFIX}cd_report": cd_report}


def state_column(state: State) -> Json:
    """The state alone, as key of a task's data."""
    return {f"{_PREFIX}state": state}


def columns_of(body: Json) -> TaskColumns:
    """Read the columns of a task of Label Studio; what is missing or was spoiled counts as nothing.

    Example:
        >>> columns_of({"data": {"guide_state": "finished", "guide_turns": 3}}).turns
        3
    """
    data = body.get("data") or {}
    # somebody may have annotated it without the guide
    untold: State = "scribbled" if body.get("total_annotations") else "new"
    state = next((one for one in STATES if one == data.get(f"{_PREFIX}state")), untold)
    uncertainty, turns, strokes = (_number(data.get(name)) for name in NUMBERS)
    model = str(data.get(f"{_PREFIX}model") or "")
    return TaskColumns(state, model, uncertainty, int(turns or 0), int(strokes or 0))


def _number(value: object) -> float | None:
    return value if isinstance(value, float | int) and math.isfinite(value) else None


def is_finished(body: Json) -> bool:
    """Whether a task was finished by what its columns say; Label Studio's counter may lag."""
    state = (body.get("data") or {}).get(f"{_PREFIX}state")
    return state in ("finished", "exported")


def state_if_unfinished(body: Json) -> State | None:
    """What to show of a task none of whose annotations is finished; None if it is shown already.

    Its columns call it finished if its annotation was deleted since, or its tick taken away.

    Example:
        >>> state_if_unfinished({"data": {"guide_state": "exported", "guide_strokes": 4}})
        'scribbled'
    """
    if not is_finished(body):
        return None
    columns = columns_of(body)
    is_touched = columns.turns or columns.strokes or body.get("total_annotations")
    return "scribbled" if is_touched else "new"


COLUMNS = tuple(_PREFIX + field.name for field in fields(TaskColumns))
"""Keys of a task's data that are ours."""
UNCERTAINTY = f"{_PREFIX}uncertainty"
NUMBERS = (UNCERTAINTY, f"{_PREFIX}turns", f"{_PREFIX}strokes")
"""Those that are ordered and filtered as numbers."""
