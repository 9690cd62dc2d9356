"""Replays the record of a task: a fresh guide gets the strokes of each turn, and answers again.

Its answers are compared with those of the record. They are the same to the last pixel unless there
is a reason, which is told: what the guide knew when it answered is then what the record holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learning.guide import Guide
from backend.learning.provenance import decided_by, differences, settings_from
from backend.learning.registry import Registry
from backend.learning.shared_model import SharedModel
from backend.state.turn_record import Turn, TurnRecord

Image = NDArray[np.generic]


@dataclass(frozen=True)
class Replayed:
    """A turn, and how a fresh guide answers to it."""

    turn: Turn
    same: float | None  # share of pixels that have the same class, 0 to 1; None: not replayed
    reasons: tuple[str, ...] = ()  # why it may differ, or was not replayed

    @property
    def is_unexplained(self) -> bool:
        """It differs, and nothing tells why: record, guide or image are not what they seem."""
        return self.same is not None and self.same < 1 and not self.reasons


def replay_task(
    record: TurnRecord, task: int, image: Image | None, registry: Registry
) -> Iterator[Replayed]:
    """Replay all turns of a task, those under each list of materials by a guide of their own.

    Args:
        record: Of the backend.
        task: Number in Label Studio.
        image: Of the task, (H, W); without it the record is told only.
        registry: Of the shared models that started guides.

    Raises:
        ValueError: There is no turn, the image is another one, a model cannot be read, or a
            content of the record was changed.
    """
    turns = sorted(record.of_task(task), key=lambda turn: turn.key)  # the order of each key stays
    if not turns:
        raise ValueError(f"nothing is recorded of task {task}")
    for _, of_one_key in groupby(turns, lambda turn: turn.key):
        if image is None:
            yield from (Replayed(turn, None, ("no image is given",)) for turn in of_one_key)
        else:
            yield from Replay(record, image, registry).run(list(of_one_key))


def describe(one: Replayed) -> str:
    """Tell a turn and its replay, in two lines."""
    turn, reasons = one.turn, "; ".join(one.reasons)
    if one.same is None:
        found = f"not replayed: {reasons}"
    elif one.same == 1:
        found = "replayed: the same answer"
    else:
        found = f"replayed: {one.same:.4%} of the pixels are the same: {reasons or 'UNEXPLAINED'}"
    return (
        f"{turn.at}, {turn.annotator or 'unknown'}: {turn.strokes} strokes, {turn.drawn_px} px, "
        f"{turn.model}, settings {turn.settings[:12] or 'not kept'}, "
        f"answer {turn.answer[:12] or 'not kept'}, mean uncertainty {turn.uncertainty:.3f}\n"
        f"  {found}"
    )


class Replay:
    """A fresh guide that hears the recorded turns of one key of state, in their order."""

    def __init__(self, record: TurnRecord, image: Image, registry: Registry) -> None:
        """Take the record, the image (H, W) of the task, and where shared models are found."""
        self._record = record
        self._image = image
        self._registry = registry
        self._guide: Guide | None = None
        self._reasons: list[str] = []  # each counts for all later turns too

    def run(self, turns: Sequence[Turn]) -> Iterator[Replayed]:
        """Replay turns; raises as `replay_task`."""
        for turn in turns:
            scribbles, answer = self._record.scribbles(turn), self._record.answer(turn)
            if scribbles is None or answer is None:
                self._note("an earlier version kept no strokes of a turn")
                yield Replayed(turn, None, tuple(self._reasons))
                continue
            guide = self._guide_for(self._record.settings(turn))
            if turn.opinion_steps:
                self._note(f"its network had a part, after {turn.opinion_steps} steps of training")
            label_map = guide.update(scribbles).label_map
            yield Replayed(turn, float((label_map == answer).mean()), tuple(self._reasons))

    def _guide_for(self, said: dict[str, Any]) -> Guide:
        """Return the guide; a new one that goes on where the last was, under another model."""
        before = self._guide
        named = before.shared.card.name if before and before.shared else None
        guide = before if before and named == said["shared_model"] else self._make_guide(said)
        if before and guide is not before:
            _hand_over(before, guide)
        self._guide = guide
        if guide.image_sha256 != said["image_sha256"]:
            raise ValueError("the image is not the one that was answered for: other gray values")
        for difference in differences(said, decided_by(guide)):
            self._note(difference)
        return guide

    def _make_guide(self, said: dict[str, Any]) -> Guide:
        names, model = said["classes"], said["shared_model"]
        try:
            settings = settings_from(said)
        except ValueError as error:
            settings = None
            self._note(str(error))
        return Guide(
            self._image,
            len(names),
            class_names=names,
            settings=settings,
            seed=said["seed"],
            shared=self._shared(model, names) if model else None,
        )

    def _shared(self, name: str, materials: Sequence[str]) -> SharedModel:
        card = self._registry.card(int(name.removeprefix("v")))
        return SharedModel(card, self._registry.load(card)).for_materials(materials)

    def _note(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.append(reason)


def _hand_over(before: Guide, after: Guide) -> None:
    """Let a guide go on where another was, as after a restart of the backend."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guide.safetensors"
        before.save(path)
        after.load(path)
