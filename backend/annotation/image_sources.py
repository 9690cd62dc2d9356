"""Reads the bytes of a task's image: from Label Studio, a `data:` URI or the allowed folder.

Everything else is refused. The reference comes out of a request body, so it must never make the
backend fetch from another host (SSRF) or read outside the folder (path traversal).
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import httpx

from backend.annotation.client import LabelStudioClient, refusal
from backend.annotation.token_auth import same_origin
from backend.errors import ForbiddenImageError, InvalidImageError

MAX_REDIRECTS = 3
MAX_ADDRESS = 4096
"""Characters of a reference that is no `data:` URI; browsers and servers take little more."""
_DATA_URI = re.compile(r"data:image/[\w.+-]+(?P<parameters>(?:;[\w.+=-]+)*),", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_USER = re.compile(r"(?<=//)[^/@]*@")  # and password, in an address
_SHOWN = 80  # characters of a reference quoted in a message


class ImageSource:
    """Fetches images by the reference that a task holds, within the limits set at start-up."""

    def __init__(
        self, client: LabelStudioClient, allowed_root: Path | None, max_bytes: int
    ) -> None:
        """Set the limits.

        Args:
            client: The one Label Studio that images may come from.
            allowed_root: Folder below which image files may lie; None allows no files.
            max_bytes: Largest image accepted, bytes as stored.
        """
        self._client = client
        self._root = allowed_root.resolve() if allowed_root else None
        self._max_bytes = max_bytes

    def read(self, reference: str) -> bytes:
        """Return the bytes of an image.

        Args:
            reference: A path on Label Studio (`/data/...`), the absolute URL of one, a
                `data:image/` URI, or a file below the allowed folder.

        Raises:
            ForbiddenImageError: The reference leads anywhere else.
            InvalidImageError: There is no such image, or it is larger than allowed.
            LabelStudioError: Label Studio does not answer, or refuses the key.
        """
        if reference.startswith("data:"):
            return self._decode_data_uri(reference)
        if len(reference) > MAX_ADDRESS:
            raise InvalidImageError(
                f"the image {_quoted(reference)} has an address of {len(reference)} characters, "
                f"at most {MAX_ADDRESS} are read"
            )
        if _SCHEME.match(reference) or reference.startswith("//"):
            return self._fetch(self._own_url(reference))
        prefix = self._client.url.path.rstrip("/")
        if reference.startswith(("/data/", f"{prefix}/data/")):
            base = str(self._client.url).rstrip("/")
            return self._fetch(self._own_url(base + reference.removeprefix(prefix)))
        return self._read_file(reference)

    def _decode_data_uri(self, reference: str) -> bytes:
        header = _DATA_URI.match(reference)
        if header is None:
            raise InvalidImageError(f"{_quoted(reference)} is no data:image/... URI")
        # percent coding takes three characters for a byte, base64 less: more can be refused unread
        self._check_size(_quoted(reference), (len(reference) - header.end()) // 3)
        data = unquote_to_bytes(reference[header.end() :])
        if header["parameters"].endswith(";base64"):
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error:
                raise InvalidImageError(f"{_quoted(reference)} is no valid base64") from None
        self._check_size(_quoted(reference), len(data))
        return data

    def _own_url(self, reference: str) -> httpx.URL:
        url = _parsed(reference)
        if url.userinfo or not same_origin(url, self._client.url):
            raise ForbiddenImageError(
                f"the image {_quoted(reference)} is not on {self._client.url}: upload it to Label "
                "Studio, or put it below IMAGE_ROOT"
            )
        images = f"{self._client.url.path.rstrip('/')}/data/"
        if not posixpath.normpath(url.path).startswith(images):  # percent codes are undone in path
            raise ForbiddenImageError(
                f"the image {_quoted(reference)} does not lie below {images} of Label Studio"
            )
        return url

    def _fetch(self, url: httpx.URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with self._client.stream(url) as response:
                    if not response.has_redirect_location:
                        return self._receive(response)
                    url = self._own_url(str(url.join(response.headers["Location"])))
            except httpx.InvalidURL:
                raise ForbiddenImageError(
                    f"the image {_quoted(str(url))} is redirected to no valid address"
                ) from None
        raise InvalidImageError(f"the image {_quoted(str(url))} is redirected in circles")

    def _receive(self, response: httpx.Response) -> bytes:
        name = _quoted(response.url.path)
        if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise InvalidImageError(
                f"Label Studio has no image {name}: import it again, or delete the task"
            )
        if response.status_code != httpx.codes.OK:
            raise refusal(self._client.url, response.status_code, f"image {name}")
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            self._check_size(name, len(data))
        return bytes(data)

    def _read_file(self, reference: str) -> bytes:
        path = self._file_below_root(reference)
        try:
            if not path.is_file():  # a pipe or a device would block the reader
                raise InvalidImageError(f"there is no image file {_quoted(reference)}")
            with path.open("rb") as file:
                data = file.read(self._max_bytes + 1)
        except OSError as error:
            raise InvalidImageError(
                f"the image {_quoted(reference)} cannot be read: {error.strerror}"
            ) from None
        self._check_size(_quoted(reference), len(data))
        return data

    def _file_below_root(self, reference: str) -> Path:
        """Resolve `..` and symbolic links first, then compare: only where it really lies counts."""
        if self._root is None:
            raise ForbiddenImageError(
                f"the image {_quoted(reference)} is a file, and IMAGE_ROOT is not set"
            )
        try:
            path = (self._root / reference).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, or a null character
            raise InvalidImageError(f"{_quoted(reference)} is no path of a file") from None
        if not path.is_relative_to(self._root):
            raise ForbiddenImageError(f"the image {_quoted(reference)} lies outside IMAGE_ROOT")
        return path

    def _check_size(self, name: str, size: int) -> None:
        if size > self._max_bytes:
            raise InvalidImageError(
                f"the image {name} has more than {self._max_bytes} bytes: make it smaller, or "
                "raise the limit"
            )


def _parsed(reference: str) -> httpx.URL:
    """Parse with the parser that also sends the request, so that both see the same host."""
    try:
        return httpx.URL(reference)
    except (httpx.InvalidURL, ValueError):  # the latter for half a surrogate pair
        raise ForbiddenImageError(f"{_quoted(reference)} is no valid address") from None


def _quoted(reference: str) -> str:
    """Quote a reference for a message: short, escaped, and without what may be a secret.

    Example:
        >>> _quoted("https://me:password@bucket.test/a.png?signature=secret")
        "'https://...@bucket.test/a.png?...'"
    """
    address, query, _ = _USER.sub("...@", reference[:MAX_ADDRESS]).partition("?")
    shown = f"{address}?..." if query else address
    return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")
