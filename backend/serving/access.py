"""Who may call what: anybody `/health`, webhooks `/webhook` by their secret, else by password.

What is refused is refused before the body of the request is read, on every path, known or not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import httpx
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.annotation.client import is_loopback
from backend.annotation.webhook_secret import HEADER, webhook_secret
from backend.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/health"})
"""They say that the backend is up, and nothing else."""
WEBHOOK_PATH = "/webhook"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="TEM guide"'}

_SET_A_PASSWORD = "set BASIC_AUTH_USER and BASIC_AUTH_PASS"  # noqa: S105 - a sentence


def check_listening(settings: Settings) -> None:
    """Refuse to listen to a network without a password.

    Raises:
        ValueError: It says what to set.
    """
    if not (settings.has_password or settings.allow_anyone or is_loopback(settings.host)):
        raise ValueError(
            f"HOST is {settings.host} and there is no password, so anybody on the network could "
            f"use the backend: {_SET_A_PASSWORD}, or ALLOW_ANYONE=true if you want that"
        )


class Access:
    """Decides by the headers of a request whether it may go on."""

    def __init__(self, settings: Settings) -> None:
        """Take user and password from the settings."""
        user, password = settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()
        self._asks = settings.has_password
        self._anyone = settings.allow_anyone
        self._password = _digest(f"{user}:{password}".encode())
        self._secret = _digest(webhook_secret(user, password).encode()) if self._asks else b""

    def refusal(self, path: str, headers: Headers) -> str:
        """Say why a request may not go on; "" if it may."""
        if path in OPEN_PATHS or (not self._asks and self._anyone):
            return ""
        if not self._asks:  # a web page that renames its host to ours (DNS rebinding) names its own
            return "" if is_loopback(_host_of(headers)) else f"no such host here: {_SET_A_PASSWORD}"
        secret = headers.get(HEADER)
        if path == WEBHOOK_PATH and secret is not None:
            known = hmac.compare_digest(_digest(secret.encode()), self._secret)
            return "" if known else f"wrong {HEADER}: run scripts/connect.py again"
        known = hmac.compare_digest(_digest(_credentials(headers)), self._password)
        return "" if known else "wrong user or password"


class Guard:
    """Refuses requests that may not go on, in front of the application."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or answer 401 with a sentence."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        refusal = self._access.refusal(scope["path"], headers)
        if not refusal:
            return await self._app(scope, receive, send)
        # a browser always asks without a password first: that is no problem of anybody
        is_first = scope.get("method") == "GET" and "Authorization" not in headers
        level = logging.INFO if is_first else logging.WARNING
        logger.log(level, "%r: 401: %s", scope["path"], refusal)
        answer = JSONResponse({"detail": refusal}, 401, CHALLENGE)
        return await answer(scope, receive, send)


class WsgiGuard:
    """The same in front of label-studio-ml's own application, which asks nobody."""

    def __init__(self, app: WSGIApplication, access: Access) -> None:
        self._app = app
        self._access = access

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand the request on, or answer 401 with a sentence."""
        names = ("Authorization", "Host", HEADER)
        places = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in names}
        given = {name: environ[place] for name, place in places.items() if place in environ}
        path = environ.get("PATH_INFO", "")
        refusal = self._access.refusal(path, Headers(given))
        if not refusal:
            return self._app(environ, start_response)
        logger.warning("%r: 401: %s", path, refusal)
        start_response(
            "401 Unauthorized", [("Content-Type", "application/json"), *CHALLENGE.items()]
        )
        return [json.dumps({"detail": refusal}).encode()]


def _digest(secret: bytes) -> bytes:
    """Make all secrets equally long: the time of comparing them would tell the length."""
    return hashlib.sha256(secret).digest()


def _credentials(headers: Headers) -> bytes:
    """`user:password` as the caller gave it; empty if there is none."""
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    try:
        return base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):  # the latter for characters that are not ASCII
        return b""


def _host_of(headers: Headers) -> str:
    """Name of the host that the caller meant to reach."""
    try:
        return httpx.URL(f"http://{headers.get('Host', '')}").host
    except httpx.InvalidURL:
        return ""
