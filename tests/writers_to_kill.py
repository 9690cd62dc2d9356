"""What a process does until it is killed: publish models, write CDs. It says what is done."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timezone
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import torch
from cd_runs import gate_run, gates

import backend.__main__  # noqa: F401 - so that a fork need not import it
from backend.annotation.tasks import SentRegion
from backend.learning import networks
from backend.learning.guide_state import GuideState
from backend.learning.publication import publish
from backend.learning.registry import ModelCard, Registry
from backend.metrology.database import open_database, write_run
from backend.state.store import GuideStore, StoredPrediction
from backend.state.turn_record import Evidence, Turn

CARD = ModelCard("2026-11-30T19:40:00+00:00", ("Si", "Oxide"), None, {"a": "b"},
                 {"image_iou": {"a": 0.9}})  # fmt: skip
WIDTHS = tuple(30.0 + 0.5 * number for number in range(12))


def say(sentence: str) -> None:
    """Acknowledge a work in the log, at once."""
    os.write(1, f"{sentence}\n".encode())


@cache
def a_network() -> networks.SharedNetwork:
    """An untrained network of two classes, made before the fork."""
    torch.manual_seed(0)
    return networks.SharedNetwork(2, "random").eval()


def write_state() -> None:
    """Keep strokes, answers and turns as a backend does, without learning, on and on."""
    from kill_runs import STROKES, scribbles_of  # which imports the other way round

    state = GuideState.blank(2, (128, 128))
    with closing(GuideStore(Path(os.environ["FOLDER"]))) as store:
        for task in count(int(os.environ["FIRST"])):
            key = f"task {task}"
            for strokes in range(1, STROKES + 1):
                scribbles = scribbles_of(strokes)
                store.save_scribbles(key, scribbles, datetime.now(timezone.utc))
                say(f"kept {task} {strokes}")
                turn = Turn(task, "now", strokes, 1, 0.5, "tem-guide-v0")
                store.record_turn(key, turn, Evidence(scribbles, scribbles % 2, {"seed": task}))
                say(f"recorded {task} {strokes}")
                uncertainty = np.zeros(scribbles.shape, np.float32)
                store.save_prediction(key, StoredPrediction(scribbles % 2, uncertainty, ()))
                store.remember_sent(task, [SentRegion(f"{task}-{strokes}", "seg", "Si", "a")])
                networks.save_tensors(state.tensors(), store.guide_path(key), {"turns": strokes})


def publish_models() -> None:
    """Add, publish and roll back, on and on."""
    registry, network = Registry(Path(os.environ["FOLDER"])), a_network()
    for number in count(1):
        card = registry.add(network, CARD, {"report.md": b"good"})
        publish(registry, card.version)
        say(f"published {card.version}")
        if number % 3 == 0:
            registry.roll_back()
            say(f"rolled back {card.version}")


def write_cds() -> None:
    """Measure images into the database, each again now and then, on and on."""
    with closing(open_database(Path(os.environ["FOLDER"]) / "cds.db")) as database:
        for number in count(int(os.environ["FIRST"])):
            for image in (number, number // 2):
                write_run(database, gate_run(image), gates(*WIDTHS))
                say(f"written {image}")
