"""Measure what many open tasks cost on this machine: memory, and the time to ask one again.

    python scripts/benchmark_memory.py --tasks 20 --size 1024

Asks about one synthetic image after the other, then about all of them again, by which time the
guides of the first are no longer in memory; the networks learn between two asks. Prints a table
with the goals.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pydantic import SecretStr
from tqdm import tqdm

from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import write_label_config
from backend.annotation.tasks import Json
from backend.learning.guide import Guide
from backend.memory import resident_bytes
from backend.serving.service import GuideService
from backend.settings import Settings
from backend.trials.benchmark_cases import Case, brush_results, make_case, prompt_result
from backend.trials.benchmark_table import Row, print_table, timed
from backend.trials.demo_images import as_png

GOAL = {(20, 1024): 3.0}  # GB, by tasks and side in px
NOWHERE = "http://127.0.0.1:9"  # images are files, and drafts come with the request


def task_body(number: int, case: Case, turn: int) -> Json:
    """Write the task as Label Studio sends it once a box was drawn at this turn, 0 or 1."""
    draft = {
        "id": number,
        "user": "a@example.com",
        "annotation": None,
        "updated_at": "2026-01-01T00:00:00Z",
        "result": [*brush_results(case, turn), prompt_result(case)],
    }
    image = {"image": f"{number}.png"}
    return {"id": number, "project": 1, "data": image, "annotations": [], "drafts": [draft]}


class Session:
    """Asks the service about tasks as Label Studio would, and takes the time."""

    def __init__(self, folder: Path, pause_s: float) -> None:
        """Open the service on a folder for state and images.

        Args:
            folder: An empty one.
            pause_s: What an annotator takes between two asks, while networks learn.
        """
        self._folder = folder
        self._pause_s = pause_s
        self._opened = 0  # guides made, again or for the first time
        key = SecretStr("0" * 40)
        settings = Settings(
            label_studio_url=NOWHERE,
            label_studio_api_key=key,
            model_dir=folder / "state",
            image_root=folder,
            answer_timeout_s=600,
        )
        client = LabelStudioClient(NOWHERE, key.get_secret_value(), timeout_s=1)
        self.service = GuideService(settings, client, self._make_guide)

    def ask(self, number: int, case: Case, turn: int) -> tuple[float, bool]:
        """Ask about a task; return the seconds, and whether its guide had to be opened."""
        image = self._folder / f"{number}.png"
        if not image.exists():
            image.write_bytes(as_png(case.image))
        body, times, opened = task_body(number, case, turn), dict[str, float](), self._opened
        context = {"result": [prompt_result(case)]}
        with timed(times, "ask"):
            self.service.predict([body], write_label_config(case.materials), context)
        time.sleep(self._pause_s)
        return times["ask"], self._opened > opened

    def _make_guide(self, *arguments: object, **options: object) -> Guide:
        self._opened += 1
        return Guide(*arguments, **options)  # type: ignore[arg-type]  # handed on as they are


def measure(tasks: int, size_px: int, pause_s: float) -> list[Row]:
    """Ask about each task, about each again, and about the last once more."""
    first_s, again_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder), pause_s)
        try:
            for number in tqdm(range(1, tasks + 1), desc="first", leave=False):
                first_s.append(session.ask(number, make_case(size_px, number), turn=0)[0])
            for number in tqdm([*range(1, tasks + 1), tasks], desc="again", leave=False):
                again_s.append(session.ask(number, make_case(size_px, number), turn=1))
            now, peak = resident_bytes()
        finally:
            session.service.close()
    where, goal = f"{tasks} tasks, {size_px} px", GOAL.get((tasks, size_px), math.inf)
    rows = [
        Row(where, "memory, at most", peak / 1e9, "GB", goal),
        Row(where, "memory, at the end", now / 1e9, "GB", goal),
        Row(where, "first ask", median(first_s), "s"),
    ]
    for what, wanted in (("asking again, let go meanwhile", True), ("asking again, open", False)):
        seconds = [taken_s for taken_s, reopened in again_s if reopened == wanted]
        rows.append(Row(where, f"{what}: how many", len(seconds), ""))
        if seconds:
            rows.append(Row(where, what, median(seconds), "s"))
    return rows


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0 if it worked, 1 if it cannot be measured, 2 for a mistake."""
    parser = argparse.ArgumentParser(description="Measure what many open tasks cost.")
    add = parser.add_argument
    add("--tasks", type=int, default=20, metavar="N", help="how many are open")
    add("--size", type=int, default=1024, metavar="PX", help="side of their images")
    add("--pause", type=float, default=2, metavar="S", help="between two asks")
    options = parser.parse_args(arguments)
    if options.tasks < 1 or options.pause < 0:
        parser.error("--tasks must be more than 0, --pause not less")
    return print_table(lambda: measure(options.tasks, options.size, options.pause))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
