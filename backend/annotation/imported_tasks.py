"""Imported images as tasks of a Label Studio project, each made once.

A task carries its pixel size, what took the image, and the name and hashes by which the original
intensities are found again; an export hands all of it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from backend.annotation.client import (
    Json,
    LabelStudioClient,
    detail_of,
    errors_as_sentences,
    refusal,
)
from backend.annotation.image_facts import (
    DATABAR_KEY,
    EQUIPMENT_KEY,
    ORIGINAL_KEY,
    PIXEL_SIZE_KEY,
    PIXEL_SIZE_KEYS,
    PIXEL_SOURCE_KEY,
    RECORD_KEY,
)
from backend.annotation.projects import UPLOAD_TIMEOUT_S
from backend.errors import LabelStudioError
from backend.microscope.calibration import Calibration
from backend.microscope.scale import MAX_ANISOTROPY

_MAY_BE_GONE = (PIXEL_SIZE_KEY, *PIXEL_SIZE_KEYS, EQUIPMENT_KEY, DATABAR_KEY, PIXEL_SOURCE_KEY)


@dataclass(frozen=True)
class ImportedTask:
    """What became of an image's task."""

    task: int
    change: Literal["new", "updated", "kept"]


def task_columns(record: Json) -> Json:
    """What a task's data says of an imported image; what is unknown is left out.

    Args:
        record: Of the image, as `prepare_import` makes it.
    """
    told = record["calibration"]
    columns = {
        RECORD_KEY: record["name"],
        "picture_sha256": record["picture"]["sha256"],
        ORIGINAL_KEY: record["original"]["sha256"],
        "file": record["file"]["name"],
        "detector": record["acquisition"]["detector"] or record["file"]["dataset"],
        EQUIPMENT_KEY: record["acquisition"]["instrument"],
        "import_flags": " ".join(record["flags"]),
        DATABAR_KEY: record["databar_rows"] or None,
    }
    if told:
        scale = Calibration(**told)
        if scale.anisotropy <= MAX_ANISOTROPY:  # else one number for both would be wrong
            columns[PIXEL_SIZE_KEY] = scale.nm_per_px
        columns |= dict(zip(PIXEL_SIZE_KEYS, (scale.nm_per_px_x, scale.nm_per_px_y), strict=True))
        columns[PIXEL_SOURCE_KEY] = f"{scale.source}: {scale.detail}"
    return {key: value for key, value in columns.items() if value not in ("", None)}


class ImportedTasks:
    """The tasks of one project that were imported, found again under whatever file name."""

    def __init__(self, client: LabelStudioClient, project_id: int, image_key: str) -> None:
        """Read which images the project holds already.

        Args:
            client: Label Studio.
            project_id: The project.
            image_key: Key of a task's data that its labeling config shows as the image.

        Raises:
            LabelStudioError: Label Studio does not answer, or refuses.
        """
        self._client, self._project, self._image_key = client, project_id, image_key
        tasks = ((task["id"], task.get("data") or {}) for task in client.tasks(project_id))
        self._known = {data[RECORD_KEY]: (task, data) for task, data in tasks if RECORD_KEY in data}

    def objection(self, record: Json) -> str:
        """Say why the task of an image must not be brought up to date; "": nothing is wrong.

        Args:
            record: Of the image, as `prepare_import` makes it.
        """
        task, data = self._find(record)
        if not task or data.get("picture_sha256") == record["picture"]["sha256"]:
            return ""
        return (  # which may be annotated already
            f"task {task} shows another picture of this image: delete the task, or import to "
            "another project"
        )

    def put(self, record: Json, picture: bytes) -> ImportedTask:
        """Make the task of an image, or bring that it has up to date.

        Args:
            record: Of the image, as `prepare_import` makes it.
            picture: The PNG to annotate.

        Raises:
            LabelStudioError: Label Studio does not answer, or refuses; or there is an `objection`.
        """
        if objection := self.objection(record):
            raise LabelStudioError(objection)
        name, columns = str(record["name"]), task_columns(record)
        task, known = self._find(record)
        if task:
            return self._update(task, known, columns)
        address = self._upload(f"{name}.png", picture)
        data = {self._image_key: address, **columns}
        with errors_as_sentences(self._client.url):
            created: Any = self._client.sdk.tasks.create(project=self._project, data=data)
        self._known[name] = (int(created.id), data)
        return ImportedTask(int(created.id), "new")

    def _find(self, record: Json) -> tuple[int, Mapping[str, Any]]:
        """The task of an image and its data; 0 if it has none.

        The file may have been renamed since: then the end of the record's name, which is the
        image's id, and the pixels are the same.
        """
        name = str(record["name"])
        if name in self._known:
            return self._known[name]
        pixels = {record["picture"]["sha256"], record["original"]["sha256"]}
        for known, (task, data) in self._known.items():
            same_id = known.rpartition("-")[2] == name.rpartition("-")[2]
            if same_id and pixels & {data.get("picture_sha256"), data.get(ORIGINAL_KEY)}:
                return task, data
        return 0, {}

    def _update(self, task: int, data: Mapping[str, Any], columns: Json) -> ImportedTask:
        gone = {key: None for key in _MAY_BE_GONE if key not in columns and data.get(key)}
        changed = {key: value for key, value in columns.items() if data.get(key) != value}
        if not (changed or gone):
            return ImportedTask(task, "kept")
        self._client.change_data(task, {**changed, **gone})
        return ImportedTask(task, "updated")

    def _upload(self, name: str, content: bytes) -> str:
        """Upload a picture without making a task of it; return its address for a task's data."""
        path = f"/api/projects/{self._project}/import"
        with errors_as_sentences(self._client.url):
            response = self._client.http.post(
                path,
                params={"commit_to_project": "false"},
                files={"file": (name, content, "image/png")},
                timeout=UPLOAD_TIMEOUT_S,
            )
            if response.status_code != httpx.codes.CREATED:
                detail = detail_of(response)
                raise refusal(self._client.url, response.status_code, f"import of {name}", detail)
            (upload,) = response.json()["file_upload_ids"]
            stored = self._client.http.get(f"/api/import/file-upload/{upload}")
        if stored.status_code != httpx.codes.OK:
            raise refusal(self._client.url, stored.status_code, f"upload of {name}")
        return f"/data/{stored.json()['file']}"
