"""What a load needs before it begins: a project with images, and an account for each annotator."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from backend.annotation.accounts import sign_up
from backend.annotation.client import LabelStudioClient
from backend.annotation.label_config import IMAGE, write_label_config
from backend.annotation.projects import (
    BackendAddress,
    connect_backend,
    ensure_project,
    import_image,
)
from backend.annotation.tasks import parse_task
from backend.arrays import LabelMap
from backend.microscope.equipment import EquipmentName
from backend.microscope.synthetic import make_image
from backend.state.store import state_key
from backend.trials.demo_images import as_png
from backend.trials.editor_calls import TIMEOUT_S, Editor

EQUIPMENT: tuple[EquipmentName, ...] = ("A", "B", "C")
MORE_TASKS = 1.3
"""Images prepared, times those that will be needed on average."""


@dataclass(frozen=True)
class Pace:
    """How people work; each figure is drawn anew, even between the two."""

    think_s: tuple[float, float] = (15.0, 45.0)
    """From an answer to the next ask: looking, and drawing some strokes."""
    turns: tuple[int, int] = (3, 6)
    autosave_s: float = 5.0
    """The editor saves a draft so long after a change: each prompt reaches it by chance sooner."""

    @property
    def task_s(self) -> float:
        """What a task takes on average, without waiting for answers."""
        return sum(self.think_s) * sum(self.turns) / 4


@dataclass(frozen=True)
class Load:
    """One run."""

    annotators: int
    minutes: float
    pace: Pace
    size_px: int
    seed: int

    @property
    def tasks(self) -> int:
        """How many are prepared."""
        each = self.minutes * 60 / self.pace.task_s
        return round(self.annotators * (1 + MORE_TASKS * each))


@dataclass(frozen=True)
class Servers:
    """Where the load goes."""

    label_studio: LabelStudioClient  # with the key of somebody who may invite people
    backend: BackendAddress
    state: Path  # the MODEL_DIR of the backend, which is on this machine


@dataclass(frozen=True)
class Job:
    """One image to annotate."""

    task: int
    truth: LabelMap
    state_key: str


def prepare(
    servers: Servers, load: Load, title: str
) -> tuple[int, Sequence[str], queue.SimpleQueue[Job]]:
    """Make a project with images that no earlier run has seen; return its number and the work."""
    client, shape = servers.label_studio, (load.size_px, load.size_px)
    first = make_image("gate", "A", load.seed, shape)
    project, _ = ensure_project(client, title, write_label_config(first.materials))
    truths = []
    for number in tqdm(range(load.tasks), desc="images", leave=False):
        seed = 1000 * load.seed + number
        image = make_image("gate", EQUIPMENT[number % len(EQUIPMENT)], seed, shape)
        import_image(client, project, f"{number:04}.png", as_png(image.image))
        truths.append(image.label_map)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for body, truth in zip(client.tasks(project), truths, strict=True):
        key = state_key(str(client.url), parse_task(body, IMAGE), first.materials)
        jobs.put(Job(body["id"], truth, key))
    connect_backend(client, project, servers.backend)  # after the import, which it need not hear of
    return project, first.materials, jobs


def new_editor(servers: Servers, project: int, materials: Sequence[str]) -> Editor:
    """Give a person an account and an editor."""
    email = f"annotator-{secrets.token_hex(6)}@example.com"
    key = sign_up(servers.label_studio, email, secrets.token_urlsafe(16))
    client = LabelStudioClient(str(servers.label_studio.url), key, timeout_s=TIMEOUT_S)
    return Editor(client, project, materials)
