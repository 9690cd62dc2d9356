"""The record of all turns: what was drawn, who drew it, what was answered, and by what.

It only grows. Strokes, answers and settings are kept by their SHA-256, each once, in the database
itself: a turn and what it stands on are written together or not at all. From them a turn can be
replayed, to see what the guide knew when it answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from backend.arrays import LabelMap
from backend.state.label_pngs import from_png, to_png
from backend.state.state_database import Row, StateDatabase


@dataclass(frozen=True)
class Turn:
    """What was drawn by an answer, and what the answer was; empty: a version that kept less."""

    task: int
    at: str  # date and time, ISO 8601
    strokes: int  # regions of the scribble brush
    drawn_px: int
    uncertainty: float  # mean of the image, 0 to 1
    model: str  # version
    annotator: str = ""  # as Label Studio names the user, if it does
    opinion_steps: int = 0  # the guide's own network had trained for its part in it; 0: it had none
    scribbles: str = ""  # SHA-256 of the content
    answer: str = ""  # likewise
    settings: str = ""  # likewise
    key: str = ""  # of the task's state


@dataclass(frozen=True)
class Evidence:
    """What a turn can be replayed from."""

    scribbles: LabelMap  # (H, W)
    answer: LabelMap  # (H, W)
    settings: Mapping[str, Any]  # all else that decides an answer, see `Guide.decided_by`


class TurnRecord:
    """The turns in a state database."""

    def __init__(self, database: StateDatabase) -> None:
        """Take the database."""
        self._database = database

    def add(self, key: str, turn: Turn, evidence: Evidence | None) -> None:
        """Add a turn; without evidence it cannot be replayed.

        Raises:
            OSError: It cannot be written yet, and waits in memory.
        """
        kept = _kept(evidence) if evidence else {}
        names = {name: content["sha256"] for name, content in kept.items()}
        row = asdict(replace(turn, key=key, **names))
        self._database.add({"contents": list(kept.values()), "turns": [row]})

    def turns(self, key: str) -> list[Turn]:
        """The turns of a task in their order."""
        return [_to_turn(row) for row in self._database.find("turns", "key", key)]

    def of_task(self, task: int) -> list[Turn]:
        """The turns of a task under whatever materials and image, in their order."""
        return [_to_turn(row) for row in self._database.find("turns", "task", task)]

    def scribbles(self, turn: Turn) -> LabelMap | None:
        """What was drawn by then, shape (H, W); None if that was not kept."""
        return self._map(turn.scribbles)

    def answer(self, turn: Turn) -> LabelMap | None:
        """What was answered, shape (H, W); None if that was not kept."""
        return self._map(turn.answer)

    def settings(self, turn: Turn) -> dict[str, Any]:
        """What else decided the answer; {} if that was not kept."""
        return json.loads(self._content(turn.settings)) if turn.settings else {}

    def _map(self, name: str) -> LabelMap | None:
        return from_png(self._content(name)) if name else None

    def _content(self, name: str) -> bytes:
        """Read a content, and make sure that it is what was kept.

        Raises:
            ValueError: It is missing or was changed.
        """
        for row in self._database.find("contents", "sha256", name):
            content = bytes(row["content"])
            if hashlib.sha256(content).hexdigest() == name:
                return content
        raise ValueError(f"the content {name[:12]} of the record is missing or was changed")


def _kept(evidence: Evidence) -> dict[str, Row]:
    """What evidence becomes in the database, by the column that names it."""
    contents = {
        "scribbles": to_png(evidence.scribbles),
        "answer": to_png(evidence.answer),
        "settings": json.dumps(evidence.settings, sort_keys=True).encode(),
    }
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "content": content}
        for name, content in contents.items()
    }


def _to_turn(row: Row) -> Turn:
    return Turn(**{name: row[name] for name in Turn.__annotations__})
