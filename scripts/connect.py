"""Connect the running backend to a project of Label Studio.

    python scripts/connect.py PROJECT_ID

The environment holds LABEL_STUDIO_URL and the other settings, as for the backend.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import httpx

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import parse_label_config
from backend.annotation.projects import BackendAddress, connect_backend
from backend.annotation.tabs import ensure_tabs
from backend.command_line import fail
from backend.errors import LabelStudioError
from backend.settings import Settings, read_settings

SWITCHES = "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"


def main(arguments: Sequence[str]) -> int:
    """Connect; 0 if it worked, 1 if a server does not answer or refuses, 2 after a mistake."""
    parser = argparse.ArgumentParser(description="Connect the backend to a Label Studio project.")
    parser.add_argument("project", type=int, metavar="PROJECT_ID", help="number in its address")
    url_help = "the backend, as seen from here and from Label Studio (default: this host, at PORT)"
    parser.add_argument("--backend-url", help=url_help)
    options = parser.parse_args(arguments)
    try:
        settings = read_settings()
        url = options.backend_url or f"http://127.0.0.1:{settings.port}"
        materials = _connect(settings, options.project, url.rstrip("/"))
    except (ConnectionError, ValueError) as error:
        return fail(error)
    print(f"Project {options.project} is connected, with {', '.join(materials)}")
    return 0


def _connect(settings: Settings, project_id: int, url: str) -> tuple[str, ...]:
    """Check both sides, then connect them; return the project's materials."""
    password = settings.basic_auth_pass.get_secret_value()
    backend = BackendAddress(url, settings.basic_auth_user, password)
    key = settings.label_studio_api_key.get_secret_value()
    with LabelStudioClient(settings.label_studio_url, key) as client:
        materials = parse_label_config(client.project(project_id)["label_config"]).materials
        _check_backend(backend)
        try:
            connect_backend(client, project_id, backend)
        except LabelStudioError as error:
            if "reserved network" not in str(error):
                raise
            advice = f"Label Studio refuses the address {url}: start Label Studio with {SWITCHES}"
            raise LabelStudioError(advice) from None
        ensure_tabs(client, project_id)
    return materials


def _check_backend(backend: BackendAddress) -> None:
    """Raise a `ConnectionError` unless our backend, and no other server, lets us in."""
    try:  # no proxy: it is on our side
        health = httpx.get(f"{backend.url}/health", trust_env=False)
        signed = httpx.get(
            f"{backend.url}/versions", trust_env=False, auth=(backend.user, backend.password)
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ConnectionError(
            f"no backend at {backend.url}: start it with python -m backend"
        ) from None
    if '"GuideBackend"' not in health.text:
        raise ConnectionError(f"another server answers at {backend.url}: check --backend-url")
    if signed.status_code == httpx.codes.UNAUTHORIZED:
        raise ConnectionError(
            f"the backend at {backend.url} asks for a user and a password: set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS as it has them"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
