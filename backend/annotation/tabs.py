"""Tabs of Label Studio's Data Manager: what annotators take next, and how far every task is."""

from __future__ import annotations

from typing import Any

from backend.annotation.client import LabelStudioClient, errors_as_sentences
from backend.annotation.task_columns import COLUMNS, NUMBERS
from backend.annotation.tasks import Json

TO_DO = "To do, least certain first"
PROGRESS = "Progress"

_HIDDEN = (
    "inner_id", "completed_at", "cancelled_annotations", "annotations_results", "annotations_ids",
    "predictions_model_versions", "predictions_results", "file_upload", "storage_filename",
    "created_at", "updated_by", "avg_lead_time", "draft_exists", "total_predictions",
)  # fmt: skip
_OF_DATA = "tasks:data."


def ensure_tabs(client: LabelStudioClient, project_id: int) -> None:
    """Add the tabs that the project does not have; one that is there stays as it was made.

    `TO_DO` holds the tasks without annotation, the lowest score of the served version first, and
    *Label Tasks As Displayed* walks through it. `PROGRESS` holds all tasks with our columns.
    """
    with errors_as_sentences(client.url):
        views: list[Any] = client.sdk.views.list(project=project_id)
        there = {(view.data or {}).get("title") for view in views}
        wanted: list[Any] = [_to_do(), _progress()]  # the sdk sends what its type does not name
        for tab in wanted:
            if tab["title"] not in there:
                client.sdk.views.create(project=project_id, data=tab)


def _to_do() -> Json:
    unannotated = {
        "filter": "filter:tasks:total_annotations",
        "operator": "equal",
        "type": "Number",
        "value": 0,
    }
    return {
        **_tab(TO_DO, ()),
        "ordering": ["tasks:predictions_score"],
        "filters": {"conjunction": "and", "items": [unannotated]},
    }


def _progress() -> Json:
    return _tab(PROGRESS, ("predictions_score",))


def _tab(title: str, also_hidden: tuple[str, ...]) -> Json:
    """What every tab has: only the columns that tell something, ours as numbers where they are."""
    ours = [_OF_DATA + name for name in COLUMNS]
    hidden = [f"tasks:{name}" for name in (*_HIDDEN, *also_hidden)]
    return {
        "title": title,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": [*hidden, *ours]},
        "columnsDisplayType": {_OF_DATA + name: "Number" for name in NUMBERS},
    }
