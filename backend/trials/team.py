"""A team of simulated annotators in a real Label Studio: they draw, ask, correct and finish tasks.

They see what a person sees, masks and boxes, and call what the editor calls. So the whole cycle
can be watched: the more tasks are finished, the fewer strokes the next ones need.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from backend.annotation.client import LabelStudioClient, errors_as_sentences
from backend.annotation.projects import BackendAddress
from backend.arrays import LabelMap
from backend.errors import LabelStudioError
from backend.learning.scores import score
from backend.learning.simulated_annotator import Annotator
from backend.trials.editor_calls import Editor, draw
from backend.work.training_process import ENDED, TrainingStatus


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
        editor = Editor(self.client, self.project, self.materials)
        annotator = Annotator("careful", truth, seed=0)
        shown = editor.open(task_id, (truth.shape[0], truth.shape[1]))
        before = accuracy = score(shown.label_map, truth, ()).accuracy
        asks, waited_s = 0, 0.0
        while accuracy < self.enough and asks < self.max_asks:
            draw(annotator, shown, len(self.materials))
            start, prompt = time.perf_counter(), editor.prompt()
            editor.save(annotator.scribbles, prompt)
            shown = editor.ask(prompt)
            waited_s += time.perf_counter() - start
            accuracy, asks = score(shown.label_map, truth, ()).accuracy, asks + 1
        editor.submit(annotator.scribbles, shown)
        return Finished(task_id, annotator.strokes, asks, accuracy, before, waited_s)


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
