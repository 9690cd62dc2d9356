"""What Label Studio's editor calls for one person who annotates, and what it shows in return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from backend.annotation.client import LabelStudioClient, detail_of, errors_as_sentences, refusal
from backend.annotation.label_config import (
    ASK,
    ASK_LABEL,
    FINISHED_CHOICE,
    IMAGE,
    SCRIBBLE,
    SEG,
    STATUS,
    UNCERTAIN,
)
from backend.annotation.rle import encode_mask
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import BRUSH, Json, parse_results
from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.errors import LabelStudioError
from backend.learning.simulated_annotator import Annotator, split_strokes

SURE, UNSURE = 0.95, 0.55
"""What an annotator makes of a mask outside and inside of the boxes: its probability."""
TIMEOUT_S = 120.0
"""Longer than the 100 s after which Label Studio itself gives the backend up."""


@dataclass(frozen=True)
class Shown:
    """Masks and boxes on the screen."""

    label_map: LabelMap  # (H, W), UNLABELED where there is no mask
    boxed: NDArray[np.bool_]  # (H, W)
    masks: Sequence[Json]
    notes: tuple[str, ...] = ()
    """The words in the details of the boxes."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no mask."""
        return bool((self.label_map == UNLABELED).all())

    def as_probabilities(self, classes: int) -> Probabilities:
        """What a person makes of it: sure outside of the boxes, unsure inside. (C, H, W)."""
        certain = np.where(self.boxed, UNSURE, SURE).astype(np.float32)
        others = (1 - certain) / (classes - 1)
        return np.stack(
            [np.where(self.label_map == label, certain, others) for label in range(classes)]
        )


class Editor:
    """The editor of one person, in which one task is open at a time."""

    def __init__(self, client: LabelStudioClient, project: int, materials: Sequence[str]) -> None:
        """Sit down at a project.

        Args:
            client: Label Studio, with the person's own key.
            project: Its number.
            materials: Of the project, in the order of class indices.
        """
        self.client = client
        self.materials = tuple(materials)
        self._project = project
        self._task = self._connection = 0
        self._draft: int | None = None
        self._shape = (0, 0)

    def open(self, task_id: int, shape: tuple[int, int]) -> Shown:
        """Open a task: Label Studio asks the backend for a prediction if it has none.

        Args:
            task_id: The task.
            shape: Height and width of its image.
        """
        with errors_as_sentences(self.client.url):
            (connection,) = self.client.sdk.ml.list(project=self._project)
        self._task, self._connection, self._shape = task_id, connection.id, shape
        body = self.client.task(task_id)
        self._draft = next((draft["id"] for draft in body.get("drafts") or []), None)
        with errors_as_sentences(self.client.url):
            self.client.http.get(body["data"][IMAGE], timeout=TIMEOUT_S)
        predictions = body.get("predictions") or [{"id": 0, "result": []}]
        return self._read(max(predictions, key=lambda one: one["id"])["result"])

    def save(self, scribbles: LabelMap, prompt: Json | None = None) -> None:
        """Save a draft of all strokes, and of the prompt if one was drawn."""
        result = [*self._strokes(scribbles), *([prompt] if prompt else [])]
        body = {"result": result, "lead_time": 1.0}
        if self._draft is None:
            path = f"/api/tasks/{self._task}/drafts?project={self._project}"
            self._draft = self._send("POST", path, body)["id"]
        else:
            self._send("PATCH", f"/api/drafts/{self._draft}/", body)

    def prompt(self) -> Json:
        """Draw the rectangle that asks for an answer."""
        return {
            "id": uuid4().hex[:10], "from_name": ASK, "to_name": IMAGE, "type": "rectanglelabels",
            "origin": "manual", "original_width": self._shape[1], "original_height": self._shape[0],
            "value": {"x": 1, "y": 1, "width": 4, "height": 4, "rotation": 0,
                      "rectanglelabels": [ASK_LABEL]},
        }  # fmt: skip

    def ask(self, prompt: Json) -> Shown:
        """Ask for an answer to the draft that holds the prompt, saved by now or soon.

        Raises:
            LabelStudioError: There is none; Label Studio itself answers 200 all the same.
        """
        answer = self._send(
            "POST",
            f"/api/ml/{self._connection}/interactive-annotating",
            {"task": self._task, "context": {"result": [prompt]}},
        )
        if "data" not in answer:
            raise LabelStudioError(f"task {self._task}: no answer: {answer.get('errors')}")
        return self._read(answer["data"]["result"])

    def submit(self, scribbles: LabelMap, shown: Shown) -> int:
        """Accept the masks, tick Finished GT and submit; return the annotation's number."""
        tick = {"id": uuid4().hex[:10], "from_name": STATUS, "to_name": IMAGE, "type": "choices",
                "value": {"choices": [FINISHED_CHOICE]}}  # fmt: skip
        result = [*self._strokes(scribbles), *shown.masks, tick]
        answer = self._send("POST", f"/api/tasks/{self._task}/annotations/", {"result": result})
        return int(answer["id"])

    def _strokes(self, scribbles: LabelMap) -> list[Json]:
        """What the editor has of strokes: a region each."""
        return [
            _brush(SCRIBBLE, self.materials[label], mask)
            for mask, label in split_strokes(scribbles)
        ]

    def _read(self, results: Sequence[Json]) -> Shown:
        """Look at the masks and boxes of an answer."""
        boxed = np.zeros(self._shape, np.bool_)
        masks = [result for result in results if result["from_name"] == SEG]
        label_map = rasterize(parse_results(masks), self.materials, self._shape)
        notes: list[str] = []
        for result in results:
            if result["from_name"] == UNCERTAIN:
                boxed[_box(result["value"], self._shape)] = True
                notes += result.get("meta", {}).get("text", [])
        return Shown(label_map, boxed, masks, tuple(notes))

    def _send(self, method: str, path: str, body: Json) -> Json:
        with errors_as_sentences(self.client.url):
            response = self.client.http.request(method, path, json=body, timeout=TIMEOUT_S)
        if response.is_error:
            raise refusal(self.client.url, response.status_code, path, detail_of(response))
        answer: Json = response.json()
        return answer


def draw(annotator: Annotator, shown: Shown, classes: int) -> None:
    """Draw what the screen calls for; first strokes as long as it is empty."""
    if shown.is_empty:
        annotator.begin()
    else:
        annotator.react(shown.as_probabilities(classes), ())


def _brush(control: str, material: str, mask: NDArray[np.bool_]) -> Json:
    height, width = mask.shape
    return {
        "id": uuid4().hex[:10], "from_name": control, "to_name": IMAGE, "type": BRUSH,
        "origin": "manual", "original_width": width, "original_height": height,
        "value": {"format": "rle", "rle": encode_mask(mask), BRUSH: [material]},
    }  # fmt: skip


def _box(value: Json, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a box given in percent."""
    top, left = value["y"] / 100 * shape[0], value["x"] / 100 * shape[1]
    height, width = value["height"] / 100 * shape[0], value["width"] / 100 * shape[1]
    rows = slice(round(top), round(top + height))
    return rows, slice(round(left), round(left + width))
