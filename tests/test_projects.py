"""Setting a project up, against a small HTTP server on loopback."""

from __future__ import annotations

import pytest
from loopback import Answer

from backend.annotation.client import LabelStudioClient
from backend.annotation.projects import (
    BackendAddress,
    connect_backend,
    ensure_project,
    import_image,
)
from backend.annotation.webhook_secret import webhook_secret
from backend.errors import LabelStudioError

BACKEND = BackendAddress("http://127.0.0.1:9090", "ls", "secret")
OLD = {"id": 4, "url": "http://127.0.0.1:7000", "title": "TEM guide", "project": 3}
PROJECT = "/api/projects/3/"
FOREIGN = {"id": 5, "url": "http://127.0.0.1:6000", "title": "other", "project": 3}


@pytest.fixture
def client(loopback):
    """Connect to the loopback server."""
    with LabelStudioClient(loopback.url, "0123456789abcdef") as client:
        yield client


def list_projects(loopback, *projects):
    """Let Label Studio have these projects."""
    page = {"count": len(projects), "next": None, "previous": None, "results": list(projects)}
    loopback.answer("GET", "/api/projects/", Answer(page))


def test_project_is_created_when_missing(loopback, client):
    """With the switches the loop in the open page needs."""
    list_projects(loopback)
    loopback.answer("POST", "/api/projects/", Answer({"id": 3, "title": "TEM"}, status=201))

    assert ensure_project(client, "TEM", "<View/>") == (3, True)
    assert loopback.requests[-1].json() == {
        "title": "TEM",
        "label_config": "<View/>",
        "show_collab_predictions": True,
        "maximum_annotations": 1,
    }


def test_project_is_found_again(loopback, client):
    """A second start makes no second project."""
    list_projects(loopback, {"id": 2, "title": "other"}, {"id": 3, "title": "TEM"})

    assert ensure_project(client, "TEM", "<View/>") == (3, False)
    assert loopback.paths("POST") == []


def test_image_is_uploaded_under_its_name(loopback, client):
    """Label Studio tells the format by the name."""
    loopback.answer("POST", "/api/projects/3/import", Answer({"task_count": 1}, status=201))

    import_image(client, 3, "gate.png", b"\x89PNG")

    assert b'filename="gate.png"' in loopback.requests[0].body
    assert b"\x89PNG" in loopback.requests[0].body


def test_refused_image_is_named(loopback, client):
    """The sentence names the file."""
    loopback.answer("POST", "/api/projects/3/import", Answer({}, status=400))

    with pytest.raises(LabelStudioError, match=r"import of gate\.png"):
        import_image(client, 3, "gate.png", b"")


@pytest.fixture
def connections(loopback):
    """Let project 3 have an old connection to us, a foreign one, and the webhooks of all."""
    webhooks = [
        {"id": number, "url": f"{url}/webhook"}
        for number, url in ((7, OLD["url"]), (8, FOREIGN["url"]), (9, BACKEND.url))
    ]
    loopback.answer("GET", "/api/ml/", Answer([OLD, FOREIGN]))
    loopback.answer("GET", "/api/webhooks/", Answer(webhooks))
    loopback.answer("DELETE", "/api/ml/4", Answer(status=204))
    loopback.answer("DELETE", "/api/webhooks/7/", Answer(status=204))
    loopback.answer("POST", "/api/ml/", Answer({**OLD, "id": 6, "url": BACKEND.url}, status=201))
    named = {"id": 3, "show_collab_predictions": True, "model_version": "other"}
    loopback.answer("GET", PROJECT, Answer(named))
    loopback.answer("PATCH", PROJECT, Answer(named))
    loopback.answer("PATCH", "/api/webhooks/9/", Answer({"url": BACKEND.url}))
    return loopback


def test_backend_is_connected_as_interactive_with_its_password(connections, client):
    """Label Studio signs `/setup` and `/predict` with it."""
    connect_backend(client, 3, BACKEND)

    created = next(request for request in connections.requests if request.method == "POST").json()
    assert created["url"] == BACKEND.url
    assert created["is_interactive"] is True
    assert (created["basic_auth_user"], created["basic_auth_pass"]) == ("ls", "secret")


def test_earlier_connection_is_replaced_and_others_stay(connections, client):
    """The port may have changed; the old webhook would cost a second at each submit."""
    connect_backend(client, 3, BACKEND)

    assert connections.paths("DELETE") == ["/api/ml/4", "/api/webhooks/7/"]


def test_refused_connection_leaves_the_earlier_one(connections, client):
    """The project is never left without a guide."""
    connections.answer("POST", "/api/ml/", Answer({"detail": "no health"}, status=400))

    with pytest.raises(LabelStudioError, match="no health"):
        connect_backend(client, 3, BACKEND)
    assert connections.paths("DELETE") == []


def test_webhook_of_the_same_address_is_kept(connections, client):
    """Label Studio makes no second one for an address that has one."""
    connect_backend(client, 3, BackendAddress(f"{OLD['url']}/"))

    assert connections.paths("DELETE") == ["/api/ml/4"]


@pytest.mark.parametrize(("version", "patched"), [("", True), ("other", False)])
def test_backend_is_named_in_the_project_again(connections, client, version, patched):
    """Deleting a connection erases its title there; another choice of the user stays."""
    project = {"id": 3, "show_collab_predictions": True, "model_version": version}
    connections.answer("GET", "/api/projects/3/", Answer(project))

    connect_backend(client, 3, BACKEND)

    patches = [r for r in connections.requests if (r.method, r.path) == ("PATCH", PROJECT)]
    assert [patch.json() for patch in patches] == [{"model_version": "TEM guide"}] * patched


def test_webhook_carries_its_secret_and_not_the_password(connections, client):
    """Label Studio signs none by itself, and shows the headers to each of its users."""
    connect_backend(client, 3, BACKEND)

    patch = next(request for request in connections.requests if request.method == "PATCH").json()
    assert patch["headers"] == {"X-TEM-Guide-Secret": webhook_secret("ls", "secret")}


def test_password_of_an_earlier_connection_is_taken_out_of_the_webhook(connections, client):
    """An earlier version of ours had put it there."""
    webhook = {"id": 9, "url": f"{BACKEND.url}/webhook", "headers": {"Authorization": "Basic x"}}
    connections.answer("GET", "/api/webhooks/", Answer([webhook]))
    connect_backend(client, 3, BackendAddress(BACKEND.url))

    patches = [r.json() for r in connections.requests if r.path == "/api/webhooks/9/"]
    assert [patch["headers"] for patch in patches] == [{}]


def test_webhook_secrets_differ_with_user_and_password():
    """And tell neither."""
    secrets = {webhook_secret(*pair) for pair in [("a", "b"), ("a", "c"), ("c", "b")]}
    assert len(secrets) == 3


def test_backend_without_password_is_connected_without(connections, client):
    """Then nothing is signed."""
    connect_backend(client, 3, BackendAddress(BACKEND.url))

    assert connections.paths("PATCH") == []
    created = next(request for request in connections.requests if request.method == "POST").json()
    assert "auth_method" not in created
