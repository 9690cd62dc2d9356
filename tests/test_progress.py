"""How far projects are, by the columns of their tasks, without a request for each task."""

import httpx
import pytest
from label_studio_stand_in import LABEL_CONFIG, list_projects
from loopback import Answer

from backend.annotation.client import LabelStudioClient
from backend.annotation.progress import read_progress, summarize
from backend.annotation.task_columns import TaskColumns, columns_of
from backend.errors import LabelStudioError

DRAWN = TaskColumns("scribbled", "tem-guide-v1", 0.125, turns=2, strokes=5)


def body(number, columns=None, **changes):
    """Make a task as Label Studio lists it."""
    data = {"image": "a.png", **(columns.as_data() if columns else {})}
    return {"id": number, "data": data, "total_annotations": 0, **changes}


@pytest.fixture
def label_studio(loopback):
    """Two projects, one of them without the guide's labeling interface, and 250 tasks."""
    projects = [
        {"id": 4, "title": "Gates", "label_config": LABEL_CONFIG},
        {"id": 3, "title": "Texts", "label_config": "<View><Text name='t' value='$t'/></View>"},
    ]
    loopback.routes["GET", "/api/projects/"] = list_projects(projects)
    pages = [[body(n) for n in range(first, first + 100)] for first in (1, 101)]
    pages += [[body(n, DRAWN) for n in range(201, 251)], []]
    loopback.answer("GET", "/api/tasks/", *(Answer({"tasks": page}) for page in pages))
    return loopback


@pytest.fixture
def client(label_studio):
    """A client for it."""
    with LabelStudioClient(label_studio.url, "0" * 40, timeout_s=5) as client:
        yield client


def test_projects_are_read_a_hundred_tasks_at_a_time(client, label_studio):
    """250 tasks take four requests; what the guide cannot serve is left alone."""
    (gates,) = read_progress(client)
    assert (gates.project, gates.title, gates.total) == (4, "Gates", 250)
    assert gates.tasks == {"new": 200, "scribbled": 50, "finished": 0, "exported": 0}
    assert (gates.uncertainty, gates.turns, gates.strokes, gates.done) == (0.125, 100, 250, 0)
    asked = [path.partition("?")[0] for path in label_studio.paths()]
    assert asked == ["/api/projects/", *["/api/tasks/"] * 4]


def test_projects_are_read_page_by_page(client, label_studio):
    """More than a hundred need a second page."""
    pages = [
        {"next": "/api/projects/?page=2", "results": [{"id": 1}]},
        {"next": None, "results": [{"id": 2}]},
    ]
    label_studio.answer("GET", "/api/projects/", *map(Answer, pages))
    assert list(client.projects()) == [{"id": 1}, {"id": 2}]
    assert [path.partition("&")[0] for path in label_studio.paths()] == [
        "/api/projects/?page=1", "/api/projects/?page=2",
    ]  # fmt: skip


def test_refusal_is_a_sentence(client, label_studio):
    """It is shown to people."""
    label_studio.answer("GET", "/api/projects/", Answer({"detail": "no"}, httpx.codes.FORBIDDEN))
    with pytest.raises(LabelStudioError, match="403"):
        read_progress(client)


def test_project_without_tasks_has_no_uncertainty():
    """A mean of nothing."""
    assert summarize(1, "Empty", []).uncertainty is None


@pytest.mark.parametrize("columns", [DRAWN, TaskColumns("finished", ""), TaskColumns("new", "v")])
def test_columns_come_back_as_they_were_shown(columns):
    """Label Studio makes floats of numbers."""
    shown = body(1, columns)
    shown["data"] = {k: float(v) if isinstance(v, int) else v for k, v in shown["data"].items()}
    assert columns_of(shown) == columns


def test_spoiled_columns_count_as_nothing():
    """Anybody who may import tasks can write them."""
    spoiled = {"guide_state": "done", "guide_turns": "many", "guide_uncertainty": None}
    assert columns_of({"data": spoiled}) == TaskColumns("new", "")
    assert columns_of({"data": None, "total_annotations": 2}) == TaskColumns("scribbled", "")
