"""Many annotators at once in a real Label Studio, at the pace of people.

Each has an account, and tasks that nobody else works on. Each opens a task, draws for a while, its
editor saving drafts meanwhile as the real one does, asks, looks, draws again, submits with Finished
GT, and takes the next. After every answer, and again at the end of a task, all strokes must be
where they belong: in the state of the backend, and in the submitted annotation.
"""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from backend.annotation.label_config import SCRIBBLE
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import parse_results
from backend.arrays import UNLABELED, LabelMap
from backend.errors import LabelStudioError
from backend.learning.simulated_annotator import Annotator, split_strokes
from backend.state.store import GuideStore
from backend.trials.editor_calls import Editor, Shown, draw
from backend.trials.load_records import Answer, Records
from backend.trials.load_setup import Job, Load, Servers, new_editor, prepare
from backend.trials.load_watch import watching


def run_load(servers: Servers, load: Load) -> Records:
    """Play one load to its end.

    Raises:
        LabelStudioError: Project, accounts or images cannot be prepared.
    """
    name = f"Load of {load.annotators}, {time.strftime('%Y-%m-%d %H.%M.%S')}"
    project, materials, jobs = prepare(servers, load, name)
    editors = [new_editor(servers, project, materials) for _ in range(load.annotators)]
    store, records = GuideStore(servers.state), Records()
    urls = {"Label Studio": str(servers.label_studio.url), "backend": servers.backend.url}
    try:
        players = [
            Player(str(number), editor, load, store, records)
            for number, editor in enumerate(editors, 1)
        ]
        with (
            watching(records, urls, probed="backend"),
            ThreadPoolExecutor(load.annotators) as threads,
        ):
            deadline = time.monotonic() + 60 * load.minutes
            plays = [threads.submit(player.play, jobs, deadline) for player in players]
        for play in plays:
            play.result()  # raises what nobody expected
    finally:
        store.close()
    return records


class Player:
    """One annotator at play."""

    def __init__(
        self, name: str, editor: Editor, load: Load, store: GuideStore, records: Records
    ) -> None:
        """Sit down.

        Args:
            name: "1", "2", ...
            editor: With an account of its own.
            load: The pace; its seed and the name decide what is drawn by chance.
            store: The state of the backend, for looking.
            records: All that happens is added.
        """
        self._name, self._editor, self._store, self._records = name, editor, store, records
        self._pace = load.pace
        self._rng = np.random.default_rng([load.seed, int(name)])
        self._autosave = ThreadPoolExecutor(1)
        records.take_down(editor.client.http, name)

    def play(self, jobs: queue.SimpleQueue[Job], deadline: float) -> None:
        """Annotate one image, and others until then; what is open at the end is submitted."""
        time.sleep(self._rng.uniform(0, self._pace.think_s[0]))  # people do not come all at once
        while True:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                self._records.errors.append(f"annotator {self._name}: no task was left")
                break
            try:
                self._annotate(job, deadline)
            except LabelStudioError as error:
                self._records.errors.append(f"annotator {self._name}, task {job.task}: {error}")
            if time.monotonic() >= deadline:
                break
        self._autosave.shutdown()
        self._editor.client.http.close()

    def _annotate(self, job: Job, deadline: float) -> None:
        shape = (job.truth.shape[0], job.truth.shape[1])
        annotator = Annotator("careful", job.truth, seed=int(self._rng.integers(1, 1000)))
        shown = self._editor.open(job.task, shape)
        for turn in range(1, 1 + int(self._rng.integers(*self._pace.turns, endpoint=True))):
            if turn > 1 and time.monotonic() > deadline:
                break
            self._draw(annotator, shown)
            shown = self._ask(job, annotator, turn)
        annotation = self._editor.submit(annotator.scribbles, shown)
        results = self._editor.client.annotation(annotation)["result"]
        kept = [result for result in results if result["from_name"] == SCRIBBLE]
        in_label_studio = rasterize(parse_results(kept), self._editor.materials, shape)
        for where, found in (("Label Studio", in_label_studio), ("the backend", self._stored(job))):
            if lost := lost_strokes(annotator.scribbles, found):
                self._records.errors.append(f"task {job.task}: {where} lost {lost} strokes")
        self._records.finished.append(job.task)

    def _draw(self, annotator: Annotator, shown: Shown) -> None:
        """Look and draw; strokes come one by one, and drafts are saved on the way."""
        drawn = annotator.scribbles.copy()
        draw(annotator, shown, len(self._editor.materials))
        new = np.where(annotator.scribbles == drawn, UNLABELED, annotator.scribbles)
        strokes = split_strokes(new.astype(np.uint8))
        thinking_s = self._rng.uniform(*self._pace.think_s)
        saves = int(thinking_s / self._pace.autosave_s)
        for part in np.array_split(np.arange(len(strokes)), saves) if saves else ():
            time.sleep(self._pace.autosave_s)
            for index in part:
                drawn[strokes[index][0]] = strokes[index][1]
            if part.size:
                self._editor.save(drawn)
        time.sleep(thinking_s - saves * self._pace.autosave_s)

    def _ask(self, job: Job, annotator: Annotator, turn: int) -> Shown:
        """Ask; the draft that holds prompt and strokes follows when the editor saves it."""
        prompt, late_s = self._editor.prompt(), self._rng.uniform(0, self._pace.autosave_s)

        def save_late() -> None:
            time.sleep(late_s)
            self._editor.save(annotator.scribbles, prompt)

        saved, start = self._autosave.submit(save_late), time.perf_counter()
        try:
            shown = self._editor.ask(prompt)
        finally:
            seconds = time.perf_counter() - start
            saved.result()
        strokes = len(split_strokes(annotator.scribbles))
        lost = lost_strokes(annotator.scribbles, self._stored(job))
        put_off = any("ask again" in note for note in shown.notes)
        self._records.answers.append(
            Answer(self._records.at_s, self._name, job.task, turn, seconds, late_s, strokes, lost,
                   put_off)
        )  # fmt: skip
        return shown

    def _stored(self, job: Job) -> LabelMap | None:
        return self._store.load_scribbles(job.state_key)


def lost_strokes(drawn: LabelMap, found: LabelMap | None) -> int:
    """Count the strokes that are not found as they were drawn, each (H, W).

    Example:
        >>> drawn = np.array([[0, 255, 1, 255, 1]], np.uint8)
        >>> lost_strokes(drawn, np.array([[0, 255, 1, 255, 0]], np.uint8))
        1
        >>> lost_strokes(drawn, None)
        3
    """
    strokes = split_strokes(drawn)
    if found is None:
        return len(strokes)
    return sum(bool((found[mask] != label).any()) for mask, label in strokes)
