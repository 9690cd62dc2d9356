"""Tabs of the Data Manager, against a small HTTP server on loopback."""

from __future__ import annotations

import pytest
from loopback import Answer

from backend.annotation.client import LabelStudioClient
from backend.annotation.tabs import PROGRESS, TO_DO, ensure_tabs
from backend.annotation.task_columns import COLUMNS, NUMBERS, TaskColumns
from backend.errors import LabelStudioError


@pytest.fixture
def client(loopback):
    """Connect to the loopback server, whose project 3 has no tab yet."""
    loopback.answer("GET", "/api/dm/views/", Answer([]))
    loopback.answer("POST", "/api/dm/views/", Answer({"id": 1, "project": 3}, status=201))
    with LabelStudioClient(loopback.url, "0123456789abcdef") as client:
        yield client


def made(loopback):
    """The tabs that were made, by title."""
    bodies = [request.json() for request in loopback.requests if request.method == "POST"]
    assert all(body["project"] == 3 for body in bodies)
    return {body["data"]["title"]: body["data"] for body in bodies}


def test_unannotated_tasks_come_least_certain_first(loopback, client):
    """A score is one minus the uncertainty, so the lowest comes first."""
    ensure_tabs(client, 3)
    tab = made(loopback)[TO_DO]
    (item,) = tab["filters"]["items"]
    assert tab["ordering"] == ["tasks:predictions_score"]
    assert (item["filter"], item["value"]) == ("filter:tasks:total_annotations", 0)
    assert "tasks:predictions_score" not in tab["hiddenColumns"]["explore"]


def test_all_tasks_show_our_columns(loopback, client):
    """As numbers where they are, without a filter; annotators at work see none of them."""
    ensure_tabs(client, 3)
    tab = made(loopback)[PROGRESS]
    ours = {f"tasks:data.{name}" for name in COLUMNS}
    assert "filters" not in tab
    assert not ours & set(tab["hiddenColumns"]["explore"])
    assert ours < set(tab["hiddenColumns"]["labeling"])
    assert tab["columnsDisplayType"] == {f"tasks:data.{name}": "Number" for name in NUMBERS}


def test_columns_are_those_that_tasks_get():
    """A column of another name would stay empty."""
    assert set(COLUMNS) >= set(TaskColumns("new", "v1", uncertainty=0.5).as_data())
    assert set(NUMBERS) < set(COLUMNS)


def test_tab_that_is_there_stays(loopback, client):
    """Somebody may have changed it; tabs of others do not count."""
    there = [{"id": 4, "project": 3, "data": {"title": title}} for title in (TO_DO, "Default")]
    loopback.answer("GET", "/api/dm/views/", Answer([*there, {"id": 5, "project": 3}]))
    ensure_tabs(client, 3)
    assert list(made(loopback)) == [PROGRESS]


def test_refusal_is_a_sentence(loopback, client):
    """As of any call."""
    loopback.answer("POST", "/api/dm/views/", Answer({"detail": "No."}, status=403))
    with pytest.raises(LabelStudioError, match="lack rights"):
        ensure_tabs(client, 3)
