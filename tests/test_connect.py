"""The command that connects the backend to a project, against a small HTTP server on loopback.

The one server plays both Label Studio and the backend.
"""

from __future__ import annotations

import pytest
from loopback import Answer

from backend.annotation.label_config import write_label_config
from backend.annotation.tabs import PROGRESS, TO_DO
from scripts.connect import main


@pytest.fixture
def servers(loopback, monkeypatch):
    """Let Label Studio have project 3, and the backend be up; the environment names both."""
    config = write_label_config(["Si", "Oxide"])
    loopback.answer("GET", "/api/projects/3/", Answer({"id": 3, "label_config": config}))
    loopback.answer("GET", "/health", Answer({"status": "UP", "model_class": "GuideBackend"}))
    loopback.answer("GET", "/versions", Answer({"versions": []}))
    loopback.answer("GET", "/api/ml/", Answer([]))
    loopback.answer("POST", "/api/ml/", Answer({"id": 6, "url": loopback.url}, status=201))
    webhook = {"id": 9, "url": f"{loopback.url}/webhook"}
    loopback.answer("GET", "/api/webhooks/", Answer([webhook]))
    loopback.answer("PATCH", "/api/webhooks/9/", Answer(webhook))
    loopback.answer("GET", "/api/dm/views/", Answer([]))
    loopback.answer("POST", "/api/dm/views/", Answer({"id": 1, "project": 3}, status=201))
    monkeypatch.setenv("LABEL_STUDIO_URL", loopback.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("BASIC_AUTH_USER", "ls")
    monkeypatch.setenv("BASIC_AUTH_PASS", "secret")
    return loopback


def test_backend_is_connected_with_the_password_of_its_settings(servers, capsys):
    """The user learns which project with which materials was connected."""
    assert main(["3", "--backend-url", f"{servers.url}/"]) == 0

    created, *tabs = [request.json() for request in servers.requests if request.method == "POST"]
    assert [tab["data"]["title"] for tab in tabs] == [TO_DO, PROGRESS]
    assert (created["url"], created["project"]) == (servers.url, 3)
    assert (created["basic_auth_user"], created["basic_auth_pass"]) == ("ls", "secret")
    assert capsys.readouterr().out == "Project 3 is connected, with Si, Oxide\n"


def test_refused_address_names_the_switches_of_label_studio(servers, capsys):
    """Label Studio's own words do not say what to do."""
    detail = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
    servers.answer("POST", "/api/ml/", Answer({"detail": detail}, status=403))

    assert main(["3", "--backend-url", servers.url]) == 1
    assert capsys.readouterr().err == (
        f"Label Studio refuses the address {servers.url}: start Label Studio with "
        "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false\n"
    )


def test_other_refusal_does_not_send_the_user_to_the_switches(servers, capsys):
    """It is passed on as it is."""
    servers.answer("POST", "/api/ml/", Answer({"detail": "broken"}, status=500))

    assert main(["3", "--backend-url", servers.url]) == 1
    assert "answered 500" in (error := capsys.readouterr().err)
    assert "SSRF" not in error


def test_unsuitable_project_is_not_connected(servers, capsys):
    """The sentence names what its labeling config lacks."""
    servers.answer("GET", "/api/projects/3/", Answer({"id": 3, "label_config": "<View/>"}))

    assert main(["3", "--backend-url", servers.url]) == 2
    assert 'lacks <BrushLabels name="scribble">' in capsys.readouterr().err
    assert servers.paths("POST") == []


def test_unknown_project_ends_in_a_sentence(servers, capsys):
    """Label Studio does not have it."""
    assert main(["4", "--backend-url", servers.url]) == 1

    assert "answered 404 (/api/projects/4/: Not found.)" in capsys.readouterr().err


def test_backend_that_is_down_is_not_connected(servers, capsys):
    """Port 9 of loopback answers nobody."""
    assert main(["3", "--backend-url", "http://127.0.0.1:9"]) == 1

    assert "no backend at http://127.0.0.1:9" in capsys.readouterr().err
    assert servers.paths("POST") == []


@pytest.mark.usefixtures("servers")
def test_backend_is_looked_for_at_the_port_of_the_settings(monkeypatch, capsys):
    """`PORT` moves the backend; nobody should have to say it twice."""
    monkeypatch.setenv("PORT", "9")
    assert main(["3"]) == 1
    assert "no backend at http://127.0.0.1:9:" in capsys.readouterr().err


def test_another_server_is_not_taken_for_the_backend(servers, capsys):
    """Label Studio has a /health as well."""
    servers.answer("GET", "/health", Answer({"status": "UP"}))

    assert main(["3", "--backend-url", servers.url]) == 1
    assert "another server answers" in capsys.readouterr().err


def test_backend_with_another_password_is_named(servers, capsys):
    """Label Studio would only say that it did not validate."""
    servers.answer("GET", "/versions", Answer({"detail": "no"}, status=401))

    assert main(["3", "--backend-url", servers.url]) == 1
    assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in capsys.readouterr().err
    assert servers.paths("POST") == []


def test_missing_setting_is_named(servers, monkeypatch, capsys):
    """As the environment variable to set."""
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")

    assert main(["3", "--backend-url", servers.url]) == 2
    assert capsys.readouterr().err.startswith("LABEL_STUDIO_API_KEY: set it")
