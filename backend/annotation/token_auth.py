"""Signs requests to Label Studio, with a legacy token or with a personal access token."""

from __future__ import annotations

import time
from collections.abc import Generator

import httpx

from backend.errors import LabelStudioError

ACCESS_TOKEN_LIFE_S = 240.0
"""How long an access token is used; Label Studio accepts it for 300 s."""


class TokenAuth(httpx.Auth):
    """Adds the `Authorization` header, to requests to Label Studio itself and to no other host.

    A legacy token is sent as it is. A personal access token is a JWT refresh token (two dots): it
    is exchanged for an access token, which is kept for less than its 300 s and exchanged once more
    when Label Studio refuses it. Two threads may exchange at the same time; both tokens are valid.
    """

    def __init__(self, url: httpx.URL, api_key: str) -> None:
        """Take the address of Label Studio and the key to it.

        Raises:
            ValueError: The key is empty or holds characters no key has. The text omits the key.
        """
        key = api_key.strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                "LABEL_STUDIO_API_KEY is empty or holds spaces: copy it from Label Studio, "
                "Account & Settings"
            )
        self._key = key
        self._url = url
        self._is_legacy = key.count(".") != 2  # noqa: PLR2004 - a JWT is header.payload.signature
        self._access_token = ""
        self._expires_at_s = 0.0

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign `request`; exchange the personal access token when there is need."""
        if not same_origin(request.url, self._url):
            yield request
        elif self._is_legacy:
            request.headers["Authorization"] = f"Token {self._key}"
            yield request
        else:
            yield from self._bearer_flow(request)

    def _bearer_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        if time.monotonic() >= self._expires_at_s:
            yield from self._exchange()
        request.headers["Authorization"] = f"Bearer {self._access_token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            yield from self._exchange()
            request.headers["Authorization"] = f"Bearer {self._access_token}"
            yield request

    def _exchange(self) -> Generator[httpx.Request, httpx.Response, None]:
        address = f"{str(self._url).rstrip('/')}/api/token/refresh"
        response = yield httpx.Request("POST", address, json={"refresh": self._key})
        response.read()
        if response.status_code != httpx.codes.OK:
            raise LabelStudioError(
                f"Label Studio at {self._url} refuses the personal access token "
                f"({response.status_code}): check LABEL_STUDIO_API_KEY, it may be revoked"
            )
        self._access_token = _access_token(response)
        self._expires_at_s = time.monotonic() + ACCESS_TOKEN_LIFE_S


def same_origin(first: httpx.URL, second: httpx.URL) -> bool:
    """Tell whether two URLs share scheme, host and port (the scheme's own when none is given)."""

    def origin(url: httpx.URL) -> tuple[str, str, int | None]:
        return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)

    return origin(first) == origin(second)


def _access_token(response: httpx.Response) -> str:
    try:
        return str(response.json()["access"])
    except (ValueError, KeyError, TypeError):
        raise LabelStudioError(
            f"{response.request.url} did not answer with an access token: does LABEL_STUDIO_URL "
            "really lead to Label Studio?"
        ) from None
