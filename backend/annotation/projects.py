"""Sets a Label Studio project up for the guide: config and images in, project id out.

Every step may be repeated: what is there already stays, and nothing is made twice.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from backend.annotation.client import (
    LabelStudioClient,
    detail_of,
    errors_as_sentences,
    refusal,
)
from backend.annotation.webhook_secret import HEADER, webhook_secret

BACKEND_TITLE = "TEM guide"
PREDICT_TIMEOUT_S = 100.0
UPLOAD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class BackendAddress:
    """Where the backend answers, as seen from Label Studio, and its basic auth."""

    url: str  # without a slash at the end
    user: str = ""  # empty: no basic auth
    password: str = ""

    @property
    def authorization(self) -> str:
        """Value of the `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def webhook_headers(self) -> dict[str, str]:
        """What Label Studio must send with a webhook; every user of it may read them."""
        return {HEADER: webhook_secret(self.user, self.password)} if self.user else {}


def ensure_project(client: LabelStudioClient, title: str, label_config: str) -> tuple[int, bool]:
    """Find the project with this title, or create it.

    Args:
        client: Label Studio.
        title: At least three characters.
        label_config: XML of the labeling interface; a project that exists keeps its own.

    Returns:
        The project id, and whether the project is new.
    """
    with errors_as_sentences(client.url):
        projects: Iterable[Any] = client.sdk.projects.list()  # the sdk pages through them
        for project in projects:
            if project.title == title:
                return int(project.id), False
        created: Any = client.sdk.projects.create(
            title=title,
            label_config=label_config,
            show_collab_predictions=True,  # else Label Studio never asks when a task is opened
            maximum_annotations=1,
        )
    return int(created.id), True


def import_image(client: LabelStudioClient, project_id: int, name: str, content: bytes) -> None:
    """Upload one image, which becomes one task.

    Args:
        client: Label Studio.
        project_id: Where the task goes.
        name: File name with the extension Label Studio recognises the format by.
        content: The file's bytes, in a format a browser can show (PNG or JPEG).
    """
    with errors_as_sentences(client.url):  # the sdk imports tasks, but uploads no files
        response = client.http.post(
            f"/api/projects/{project_id}/import",
            files={"file": (name, content)},
            timeout=UPLOAD_TIMEOUT_S,
        )
    if response.status_code != httpx.codes.CREATED:
        detail = detail_of(response)
        raise refusal(client.url, response.status_code, f"import of {name}", detail)


def connect_backend(client: LabelStudioClient, project_id: int, backend: BackendAddress) -> None:
    """Connect the backend as the project's interactive one, in place of an earlier connection.

    Label Studio asks the backend's `/health` and `/setup` at once, so it must be running; when it
    refuses, the earlier connection stays. The webhook that Label Studio makes by itself does not
    carry the password of the connection: see `set_webhook_headers`.
    """
    with errors_as_sentences(client.url):
        connected = client.sdk.ml.list(project=project_id)
        client.sdk.ml.create(
            url=backend.url,
            project=project_id,
            title=BACKEND_TITLE,
            is_interactive=True,
            timeout=PREDICT_TIMEOUT_S,
            **_basic_auth(backend),
        )
        earlier = [connection for connection in connected if connection.title == BACKEND_TITLE]
        for connection in earlier:
            client.sdk.ml.delete(connection.id)
            if _webhook_url(str(connection.url)) != _webhook_url(backend.url):
                _delete_webhook(client, project_id, str(connection.url))
    if earlier:
        _ask_for_predictions(client, project_id)
    set_webhook_headers(client, project_id, backend)


def set_webhook_headers(
    client: LabelStudioClient, project_id: int, backend: BackendAddress
) -> None:
    """Let the webhooks of this project to `backend` carry its secret, and nothing else.

    Every user of Label Studio may read the headers, so the password must not be among them.
    """
    headers = backend.webhook_headers
    with errors_as_sentences(client.url):
        for webhook in client.sdk.webhooks.list(project=str(project_id)):
            if webhook.url == _webhook_url(backend.url) and (webhook.headers or {}) != headers:
                client.sdk.webhooks.update(webhook.id, url=webhook.url, headers=headers)


def _ask_for_predictions(client: LabelStudioClient, project_id: int) -> None:
    """Name the backend in the project again; deleting a connection of the same title erased it.

    Without a name, Label Studio does not ask the backend when a task is opened.
    """
    project = client.project(project_id)
    if project.get("show_collab_predictions") and not project.get("model_version"):
        with errors_as_sentences(client.url):
            client.sdk.projects.update(project_id, model_version=BACKEND_TITLE)


def _delete_webhook(client: LabelStudioClient, project_id: int, backend_url: str) -> None:
    for webhook in client.sdk.webhooks.list(project=str(project_id)):
        if webhook.url == _webhook_url(backend_url):
            client.sdk.webhooks.delete(webhook.id)


def _webhook_url(backend_url: str) -> str:
    return f"{backend_url.rstrip('/')}/webhook"


def _basic_auth(backend: BackendAddress) -> dict[str, str]:
    if not backend.user:
        return {}
    return {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": backend.user,
        "basic_auth_pass": backend.password,
    }
