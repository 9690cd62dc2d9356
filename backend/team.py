"""A team of simulated annotators in a real Label Studio: they draw, ask, correct and finish tasks.

They see what a person sees, masks and boxes, and call what the editor calls. So the whole cycle
can be watched: the more tasks are finished, the fewer strokes the next ones need.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray

from backend.annotation.client import LabelStudioClient, errors_as_sentences, refusal
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
from backend.annotation.projects import BackendAddress
from backend.annotation.rle import encode_mask
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import BRUSH, Json, parse_results
from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.errors import LabelStudioError
from backend.learning.scores import score
from backend.learning.simulated_annotator import Annotator, split_strokes
from backend.training_process import ENDED, TrainingStatus

SURE, UNSURE = 0.95, 0.55
"""What an annotator makes of a mask outside and inside of the boxes: its probability."""


@dataclass(frozen=True)
class Finished:
    """What a task took."""

    task: int
    strokes: int
    asks: int
    accuracy: float  # of the answer that was accepted
    accuracy_before: float  # before the first stroke; 0 if nothing was shown
    waited_s: float  # for all answers


@dataclass(frozen=True)
class Person:
    """One who annotates tasks of a project over Label Studio's API."""

    client: LabelStudioClient
    project: int
    materials: Sequence[str]
    enough: float
    """Accuracy at which a person calls it right."""
    max_asks: int = 9

    def finish(self, task_id: int, truth: LabelMap) -> Finished:
        """Annotate one task until it is right, and submit it as ground truth.

        Args:
            task_id: The task.
            truth: Class per pixel, as the person sees it in the image. Shape (H, W).
        """
        annotator = Annotator("careful", truth, seed=0)
        shown = self._open(task_id, truth.shape)
        before = accuracy = score(shown.label_map, truth, ()).accuracy
        asks, waited_s = 0, 0.0
        while accuracy < self.enough and asks < self.max_asks:
            if (shown.label_map == UNLABELED).all():
                annotator.begin()
            else:
                annotator.react(shown.as_probabilities(len(self.materials)), ())
            start = time.perf_counter()
            shown = self._ask(task_id, annotator.scribbles)
            waited_s += time.perf_counter() - start
            accuracy, asks = score(shown.label_map, truth, ()).accuracy, asks + 1
        self._submit(task_id, annotator.scribbles, shown)
        return Finished(task_id, annotator.strokes, asks, accuracy, before, waited_s)

    def _open(self, task_id: int, shape: tuple[int, ...]) -> Shown:
        """Open a task as the editor does: Label Studio asks the backend for a prediction."""
        predictions = self.client.task(task_id).get("predictions") or [{"id": 0, "result": []}]
        return self._read(max(predictions, key=lambda one: one["id"])["result"], shape)

    def _ask(self, task_id: int, scribbles: LabelMap) -> Shown:
        """Save a draft with all strokes and a prompt, and ask for an answer."""
        strokes, prompt = self._strokes(scribbles), _prompt(scribbles.shape)
        drafts = self.client.drafts(task_id)
        body = {"result": [*strokes, prompt], "lead_time": 1.0}
        if drafts:
            self._send("PATCH", f"/api/drafts/{drafts[0]['id']}/", body)
        else:
            self._send("POST", f"/api/tasks/{task_id}/drafts?project={self.project}", body)
        (backend,) = self.client.sdk.ml.list(project=self.project)
        answer = self._send(
            "POST",
            f"/api/ml/{backend.id}/interactive-annotating",
            {"task": task_id, "context": {"result": [prompt]}},
        )
        return self._read(answer["data"]["result"], scribbles.shape)

    def _submit(self, task_id: int, scribbles: LabelMap, shown: Shown) -> None:
        """Accept the masks, tick Finished GT and submit."""
        tick = {"id": uuid4().hex[:10], "from_name": STATUS, "to_name": IMAGE, "type": "choices",
                "value": {"choices": [FINISHED_CHOICE]}}  # fmt: skip
        result = [*self._strokes(scribbles), *shown.masks, tick]
        self._send("POST", f"/api/tasks/{task_id}/annotations/", {"result": result})

    def _strokes(self, scribbles: LabelMap) -> list[Json]:
        """What the editor has of strokes: a region each."""
        return [
            _brush(SCRIBBLE, self.materials[label], mask)
            for mask, label in split_strokes(scribbles)
        ]

    def _read(self, results: Sequence[Json], shape: tuple[int, ...]) -> Shown:
        """Look at the masks and boxes of an answer."""
        boxed = np.zeros(shape, np.bool_)
        masks = [result for result in results if result["from_name"] == SEG]
        label_map = rasterize(parse_results(masks), self.materials, (shape[0], shape[1]))
        for result in results:
            if result["from_name"] == UNCERTAIN:
                boxed[_box(result["value"], shape)] = True
        return Shown(label_map, boxed, masks)

    def _send(self, method: str, path: str, body: Json) -> Json:
        with errors_as_sentences(self.client.url):
            response = self.client.http.request(method, path, json=body, timeout=120)
        if response.is_error:
            raise refusal(self.client.url, response.status_code, path)
        answer: Json = response.json()
        return answer


@dataclass(frozen=True)
class Shown:
    """Masks and boxes on the screen."""

    label_map: LabelMap  # (H, W), UNLABELED where there is no mask
    boxed: NDArray[np.bool_]  # (H, W)
    masks: Sequence[Json]

    def as_probabilities(self, classes: int) -> Probabilities:
        """What a person makes of it: sure outside of the boxes, unsure inside. (C, H, W)."""
        certain = np.where(self.boxed, UNSURE, SURE).astype(np.float32)
        others = (1 - certain) / (classes - 1)
        return np.stack(
            [np.where(self.label_map == label, certain, others) for label in range(classes)]
        )


def train(client: LabelStudioClient, project: int, backend: BackendAddress) -> TrainingStatus:
    """Press *Start Training* and wait for the end.

    Raises:
        LabelStudioError: It cannot be started.
    """
    (connection,) = client.sdk.ml.list(project=project)
    before = training_status(backend)
    with errors_as_sentences(client.url):
        client.sdk.ml.train(id=connection.id)
    while True:
        status = training_status(backend)
        if status.state in ENDED and status != before:
            return status
        time.sleep(1)


def training_status(backend: BackendAddress) -> TrainingStatus:
    """Read how far a training is.

    Raises:
        LabelStudioError: The backend does not answer.
    """
    answer = httpx.get(
        f"{backend.url}/training", auth=(backend.user, backend.password), trust_env=False
    )
    if answer.is_error:
        raise LabelStudioError(f"the backend at {backend.url} answered {answer.status_code}")
    return TrainingStatus(**answer.json())


def _brush(control: str, material: str, mask: NDArray[np.bool_]) -> Json:
    height, width = mask.shape
    return {
        "id": uuid4().hex[:10], "from_name": control, "to_name": IMAGE, "type": BRUSH,
        "origin": "manual", "original_width": width, "original_height": height,
        "value": {"format": "rle", "rle": encode_mask(mask), BRUSH: [material]},
    }  # fmt: skip


def _prompt(shape: tuple[int, ...]) -> Json:
    return {
        "id": uuid4().hex[:10], "from_name": ASK, "to_name": IMAGE, "type": "rectanglelabels",
        "origin": "manual", "original_width": shape[1], "original_height": shape[0],
        "value": {"x": 1, "y": 1, "width": 4, "height": 4, "rotation": 0,
                  "rectanglelabels": [ASK_LABEL]},
    }  # fmt: skip


def _box(value: Json, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a box given in percent."""
    top, left = value["y"] / 100 * shape[0], value["x"] / 100 * shape[1]
    height, width = value["height"] / 100 * shape[0], value["width"] / 100 * shape[1]
    rows = slice(round(top), round(top + height))
    return rows, slice(round(left), round(left + width))
