"""Kills processes that write, starts them again, and checks that nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import httpx
import numpy as np
from label_studio_stand_in import (
    LABEL_CONFIG,
    MATERIALS,
    SIDE_PX,
    LabelStudioStandIn,
    draft,
    prompt,
    stroke,
    two_halves,
)
from loopback import Answer
from warm_process import Forked, WarmProcess

from backend.annotation.rle import decode_mask
from backend.annotation.scribbles import rasterize
from backend.annotation.tasks import parse_draft
from backend.arrays import UNLABELED, LabelMap
from backend.learning.networks import load_tensors
from backend.learning.registry import Registry
from backend.state.label_pngs import from_png
from backend.state.state_database import STATE, StateDatabase
from backend.state.turn_record import TurnRecord
from backend.state.turn_replay import replay_task
from backend.trials.processes import free_port

STROKES = 6
"""Drawn on a task before the next one is taken."""
KEY = "0" * 40
PATIENCE_S = 900
"""On a machine that does much else."""
PATIENT = {"timeout": PATIENCE_S, "trust_env": False}
LINES_A_CYCLE = 3000
"""Of the writers, that a cycle runs through, about: where to kill it is chosen among them."""


@dataclass
class Drawn:
    """What happened on a task."""

    asked: int = 0  # strokes that were sent
    answered: int = 0  # strokes of the last answer that came
    turns: int = 0  # answers that came
    label_map: LabelMap | None = None  # of the last one
    is_done: bool = False  # all strokes are drawn, and were checked once more


@dataclass
class Backend:
    """A backend on a state folder, to be killed; the strokes that were sent to it outlive it."""

    warm: WarmProcess
    label_studio: LabelStudioStandIn
    folder: Path
    tasks: dict[int, Drawn] = field(default_factory=dict)
    process: Forked | None = None
    url: str = ""
    said: str = ""  # the last answer, as it came

    def start(self, kill_at: int = 0, log: Path | None = None, **environ: str) -> None:
        """Start a process; without waiting, since it may die at once."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "LABEL_STUDIO_URL": self.label_studio.server.url,
            "LABEL_STUDIO_API_KEY": KEY,
            "MODEL_DIR": str(self.folder),
            "PORT": str(port),
            "GUIDE_CACHE_MB": "0",  # guides are let go, and read again
            "DRAFT_TIMEOUT_S": "0.2",
            "ANSWER_TIMEOUT_S": str(PATIENCE_S),
        }
        log = log or self.folder.parent / "backend.log"
        self.process = self.warm.fork("backend", settings | environ, log, kill_at)

    def wait_until_ready(self, timeout_s: float = PATIENCE_S) -> bool:
        """Wait for `/health`; False if the process has died meanwhile."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                return httpx.get(f"{self.url}/health", **PATIENT).is_success
            except httpx.TransportError:
                if self.process and not Path(f"/proc/{self.process.pid}/cmdline").read_bytes():
                    return False  # a zombie
                time.sleep(0.02)
        raise TimeoutError(f"no backend at {self.url}")

    def ask(self, number: int, strokes: int, moment: str = "") -> LabelMap | None:
        """Ask for a task with so many strokes; None if the process dies before it answers."""
        drawn = self.tasks.setdefault(number, Drawn())
        drawn.asked = max(drawn.asked, strokes)
        task = self.label_studio.task(id=number, drafts=[draft_of(strokes, moment)])
        context = {"context": {"result": [prompt()]}}
        body = {"tasks": [task], "label_config": LABEL_CONFIG, "params": context}
        try:
            answer = httpx.post(f"{self.url}/predict", json=body, **PATIENT)
        except httpx.TransportError:
            return None
        assert answer.is_success, answer.text
        self.said = answer.text
        drawn.answered = max(drawn.answered, strokes)
        label_map = label_map_of(answer.json()["results"][0]["result"])
        if "ask again" not in answer.text:  # else it is the answer before
            drawn.turns += 1
            drawn.label_map = label_map
        return label_map

    def submit(self, number: int, strokes: int) -> None:
        """Submit an annotation; it is learned in the background."""
        body = self.label_studio.submit(*results_of(strokes), updated_at=now())
        task = self.label_studio.task(id=number)
        self.label_studio.server.answer("GET", f"/api/tasks/{number}/", Answer(task))
        try:
            httpx.post(f"{self.url}/webhook", json={**body, "task": {"id": number}}, **PATIENT)
        except httpx.TransportError:
            return


def play(backend: Backend, dice: random.Random, asks: int) -> None:
    """Ask on two tasks in turn, one more stroke each time, until the process dies."""
    open_tasks = [n for n, drawn in backend.tasks.items() if drawn.asked < STROKES][-2:]
    for _ in range(asks):
        while len(open_tasks) < 2:
            open_tasks.append(max(backend.tasks, default=10) + 1)
            backend.tasks[open_tasks[-1]] = Drawn()
        number = dice.choice(open_tasks)
        strokes = min(STROKES, backend.tasks[number].asked + 1)
        if dice.random() < 0.2:
            backend.submit(number, backend.tasks[number].asked or 1)
        if backend.ask(number, strokes) is None:
            return
        open_tasks = [n for n in open_tasks if backend.tasks[n].asked < STROKES]


def backend_cycle(backend: Backend, dice: random.Random, asks: int = 4) -> int:
    """Start, check what the last process left, work, kill; return how many answers were replayed.

    It is killed by the clock, or kills itself at a line of those that write.
    """
    at_line = dice.random() < 0.5
    kill_at = dice.randrange(1, LINES_A_CYCLE) if at_line else 0
    backend.start(kill_at)
    clock = threading.Timer(dice.uniform(0.3, 8), backend.process.signal, [signal.SIGKILL])
    if not at_line:
        clock.start()
    try:
        if backend.wait_until_ready():
            play(backend, dice, asks)
    finally:
        clock.cancel()
        clock.join() if clock.is_alive() else None
        backend.process.kill()
    return check_state(backend, only_done=dice.random() < 0.8)


def check_state(backend: Backend, *, only_done: bool = False) -> int:
    """Check all that a killed process left; return how many answers were replayed.

    That takes a while: it can be left until all strokes of a task are drawn.
    """
    if not (backend.folder / STATE).exists():
        return 0
    check_database(backend.folder / STATE)
    for path in backend.folder.glob("tasks/*/*"):
        check_file(path)
    with closing(StateDatabase(backend.folder)) as database:
        record = TurnRecord(database)
        return sum(
            check_task(backend, record, number, only_done=only_done)
            for number, drawn in backend.tasks.items()
            if drawn.asked and not drawn.is_done
        )


def check_database(path: Path) -> None:
    """It is sound, whatever happened."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)], path
        assert database.execute("pragma foreign_key_check").fetchall() == [], path


def check_file(path: Path) -> None:
    """It is whole; a half one has another name."""
    readers = {".png": lambda p: from_png(p.read_bytes()), ".npz": read_arrays,
               ".safetensors": load_tensors}  # fmt: skip
    assert path.suffix in {*readers, ".part", ".lock"}, path
    if path.suffix in readers:
        readers[path.suffix](path)


def read_arrays(path: Path) -> None:
    """Read all arrays of a file, which verifies their checksums."""
    with np.load(path) as arrays:
        assert {name: arrays[name] for name in arrays}


def check_task(backend: Backend, record: TurnRecord, number: int, *, only_done: bool) -> int:
    """Every stroke and answer that came is there, and a fresh guide gives the answers again."""
    drawn, turns = backend.tasks[number], record.of_task(number)
    (key,) = {turn.key for turn in turns} or {None}
    path = backend.folder / "tasks" / str(key) / "scribbles.png"
    if drawn.answered:
        kept = from_png(path.read_bytes())
        possible = range(drawn.answered, drawn.asked + 1)
        assert any((kept == scribbles_of(strokes)).all() for strokes in possible), number
        assert len(turns) >= drawn.turns, f"{len(turns)} turns of task {number}: {drawn}"
    if drawn.label_map is not None:
        answers = [record.answer(turn) for turn in turns]
        assert any((answer == drawn.label_map).all() for answer in answers), number
    drawn.is_done = drawn.asked >= STROKES
    if not turns or (only_done and not drawn.is_done):
        return 0
    registry = Registry(backend.folder / "models")
    replayed = list(replay_task(record, number, two_halves(), registry))
    for one in replayed:
        assert one.same is not None
        assert one.same == 1 or (one.turn.opinion_steps and one.same > 0.9), one
    return len(replayed)


def results_of(strokes: int) -> list[dict]:
    """The results of so many strokes: in turn above and below, each at a place of its own."""
    rows = [(20, 80), (5, 95), (35, 65)]
    return [stroke(f"s{n}", MATERIALS[n % 2], rows[n // 2 % 3][n % 2]) for n in range(strokes)]


def draft_of(strokes: int, moment: str = "") -> dict:
    """The draft of so many strokes, saved at a moment, else now."""
    return {**draft(*results_of(strokes), prompt()), "updated_at": moment or now()}


@cache
def scribbles_of(strokes: int) -> LabelMap:
    """What so many strokes are on the image."""
    regions = [region for region in parse_draft(draft_of(strokes)).regions if region.is_painted]
    return rasterize(regions, MATERIALS, (SIDE_PX, SIDE_PX))


def label_map_of(results: Sequence[dict]) -> LabelMap:
    """What an answer says, (64, 64)."""
    label_map = np.full((SIDE_PX, SIDE_PX), UNLABELED, np.uint8)
    for result in results:
        if result["from_name"] == "seg":
            mask = decode_mask(result["value"]["rle"], label_map.shape) > 127
            label_map[mask] = MATERIALS.index(result["value"]["brushlabels"][0])
    return label_map


def now() -> str:
    """The time, as Label Studio writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def state_cycle(warm: WarmProcess, folder: Path, dice: random.Random, first: int) -> int:
    """Write strokes, answers and turns until killed; check; return how many were acknowledged."""
    said = _said(warm, "write_state", folder, dice, FIRST=str(first))
    if not (folder / STATE).exists():
        assert not said
        return 0
    check_database(folder / STATE)
    for path in folder.glob("tasks/*/*"):
        check_file(path)
    with closing(StateDatabase(folder)) as database:
        record = TurnRecord(database)
        for line in said:
            what, task, strokes = line.split()
            kept = from_png((folder / "tasks" / f"task {task}" / "scribbles.png").read_bytes())
            assert any((kept == scribbles_of(n)).all() for n in range(int(strokes), STROKES + 1))
            if what == "recorded":
                turn = record.of_task(int(task))[int(strokes) - 1]
                assert (record.scribbles(turn) == scribbles_of(int(strokes))).all()
                assert record.answer(turn) is not None
    return len(said)


def registry_cycle(warm: WarmProcess, folder: Path, dice: random.Random) -> int:
    """Publish until killed; check; return how many publications were acknowledged."""
    said = _said(warm, "publish_models", folder, dice)
    registry = Registry(folder)
    history, cards = registry.history(), {card.version for card in registry.cards()}
    whole = {int(path.name[1:]) for path in folder.glob("v*")}
    assert whole == cards, "half a version appeared"
    published = [int(line.split()[-1]) for line in said if line.startswith("published")]
    back = {int(line.split()[-1]) for line in said if line.startswith("rolled")}
    lost = set(published) - back - set(history)
    assert lost <= set(published[-1:]), f"{lost} was published and is not"  # rolling back, perhaps
    if published:
        registry.load(registry.published())
    for path in folder.glob("v*"):  # room for more; what serves stays
        if int(path.name[1:]) not in history[-2:] and int(path.name[1:]) != max(cards):
            for file in sorted(path.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            path.rmdir()
    return len(published)


def cds_cycle(warm: WarmProcess, folder: Path, dice: random.Random, first: int) -> int:
    """Write CDs until killed; check; return how many runs were acknowledged."""
    said = _said(warm, "write_cds", folder, dice, FIRST=str(first))
    path = folder / "cds.db"
    if not path.exists():
        assert not said
        return 0
    check_database(path)
    written = {f"gate_{line.split()[-1]}.tif" for line in said}
    with closing(sqlite3.connect(path)) as database:
        rows = (
            database.execute(
                "select images.name, count(m.id) from runs join images on images.id = runs.image_id"
                " left join measurements m on m.run_id = runs.id group by runs.id"
            ).fetchall()
            if written
            else []
        )
    assert written <= {name for name, _ in rows}
    assert {count for _, count in rows} <= {36}, rows  # three of each of twelve gates
    return len(said)


def _said(
    warm: WarmProcess, work: str, folder: Path, dice: random.Random, **environ: str
) -> list[str]:
    """Let a process work and kill it, by the clock or at a line; return what it acknowledged."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.parent / f"{work}.log"
    log.write_bytes(b"")  # a process may be killed before it opens it
    kill_at = dice.randrange(1, 400) if dice.random() < 0.5 else 0
    process = warm.fork(work, {"FOLDER": str(folder), **environ}, log, kill_at)
    if kill_at:
        assert process.wait() == -signal.SIGKILL, log.read_text()
    else:
        time.sleep(dice.uniform(0.02, 1.5))
        assert process.kill() == -signal.SIGKILL, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text, text
    return text.splitlines()
