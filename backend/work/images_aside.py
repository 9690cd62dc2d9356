"""Keeps images that came within their tasks out of the queue of jobs: on disk, each once.

A task may hold its image as a `data:` address, which can be as large as any image.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from backend.annotation.tasks import Json
from backend.errors import InvalidImageError
from backend.files import delete_leftovers, in_words, write_atomically

logger = logging.getLogger(__name__)

KEPT_S = 7 * 86_400.0
"""After a job with it was last handed in: no job waits so long."""
_ASIDE = "image_aside"
"""Argument of a job that names the file with the image of its task."""


class ImagesAside:
    """Puts images of jobs into a folder, by their hash, and brings them back."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder, which need not exist; None: images stay in their jobs.

        Images that no job was handed in with for `KEPT_S` are deleted.
        """
        self._folder = folder
        if folder is not None:
            delete_leftovers(folder, "*", KEPT_S)

    def put(self, arguments: Json) -> Json:
        """Take the image out of the arguments of a job; on a full disk it stays there."""
        image = (arguments.get("task") or {}).get("image", "")
        if self._folder is None or not image.startswith("data:"):
            return arguments
        content = image.encode(errors="surrogatepass")
        name = hashlib.sha256(content).hexdigest()
        try:
            try:
                os.utime(self._folder / name)
            except FileNotFoundError:
                write_atomically(self._folder / name, content)
        except OSError as error:
            logger.error("an image stays in its job: %s", in_words(error))  # noqa: TRY400 - a full disk is no bug
            return arguments
        return {**arguments, "task": {**arguments["task"], "image": ""}, _ASIDE: name}

    def bring_back(self, arguments: Json) -> Json:
        """Return the arguments of a job as they were handed in.

        Raises:
            InvalidImageError: The file with the image is gone.
        """
        name = arguments.get(_ASIDE)
        if self._folder is None or name is None:
            return arguments
        try:
            image = (self._folder / Path(name).name).read_bytes()
        except OSError as error:
            raise InvalidImageError(f"the image of a job is gone: {in_words(error)}") from None
        task = {**arguments["task"], "image": image.decode(errors="surrogatepass")}
        others = {key: value for key, value in arguments.items() if key != _ASIDE}
        return {**others, "task": task}
