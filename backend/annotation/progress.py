"""How far the projects of a Label Studio are: its tasks' columns go in, a line a project comes out.

Read a hundred tasks at a time, never task by task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import parse_label_config
from backend.annotation.task_columns import STATES, State, columns_of
from backend.annotation.tasks import Json
from backend.errors import InvalidLabelConfigError


@dataclass(frozen=True)
class ProjectProgress:
    """How far the annotation of one project is."""

    project: int
    title: str
    tasks: Mapping[State, int]
    """How many are in each state."""
    uncertainty: float | None
    """Mean of the tasks that have one, 0 to 1."""
    turns: int
    """Answers of the guide, all tasks together."""
    strokes: int
    """On all tasks together."""

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(self.tasks.values())

    @property
    def done(self) -> int:
        """How many tasks are finished, exported or not."""
        return self.tasks["finished"] + self.tasks["exported"]


def read_progress(client: LabelStudioClient) -> list[ProjectProgress]:
    """Read how far all projects are that the guide can work for.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    projects = [one for one in client.projects() if _has_a_guide(str(one.get("label_config")))]
    return [
        summarize(project["id"], str(project.get("title")), client.tasks(project["id"]))
        for project in sorted(projects, key=lambda project: project["id"])
    ]


def summarize(project: int, title: str, bodies: Iterable[Json]) -> ProjectProgress:
    """Sum up the columns of a project's tasks.

    Example:
        >>> summarize(1, "Gates", [{"data": {"guide_state": "finished"}}, {"data": {}}]).done
        1
    """
    states: Counter[State] = Counter()
    uncertainties, turns, strokes = [], 0, 0
    for body in bodies:
        columns = columns_of(body)
        states[columns.state] += 1
        turns += columns.turns
        strokes += columns.strokes
        if columns.uncertainty is not None:
            uncertainties.append(columns.uncertainty)
    tasks = {state: states[state] for state in STATES}
    mean = fmean(uncertainties) if uncertainties else None
    return ProjectProgress(project, title, tasks, mean, turns, strokes)


def _has_a_guide(label_config: str) -> bool:
    try:
        parse_label_config(label_config)
    except InvalidLabelConfigError:
        return False
    return True
