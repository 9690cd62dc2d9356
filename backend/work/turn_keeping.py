"""Puts the turns of guides into the record, and tells guides of turns that they have missed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from backend.arrays import UNLABELED, LabelMap
from backend.learning.guide import Guide, Prediction
from backend.learning.provenance import decided_by
from backend.state.store import GuideStore
from backend.state.turn_record import Evidence, Turn
from backend.work.resources import started_by

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sketch:
    """What is drawn on the image of a task when its guide is asked, and by whom."""

    task_id: int
    scribbles: LabelMap | None  # (H, W); None: nothing
    strokes: int
    annotator: str

    def on(self, shape: tuple[int, int]) -> LabelMap:
        """The strokes, or an empty map of this shape."""
        return np.full(shape, UNLABELED, np.uint8) if self.scribbles is None else self.scribbles


def keep_turn(
    store: GuideStore, key: str, sketch: Sketch, guide: Guide, prediction: Prediction
) -> Turn:
    """Put a turn into the record, with all that it can be replayed from.

    Args:
        store: Holds the record.
        key: Of the task's state.
        sketch: What was drawn.
        guide: Has answered; it has heard of this turn then.
        prediction: Its answer.
    """
    scribbles = sketch.on(guide.shape)
    turn = Turn(
        sketch.task_id,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sketch.strokes,
        int(np.count_nonzero(scribbles != UNLABELED)),
        float(prediction.uncertainty.mean()),
        started_by(guide),
        sketch.annotator,
        guide.opinion_steps,
    )
    evidence = Evidence(scribbles, prediction.label_map, decided_by(guide))
    guide.turns_heard = store.record_turn(key, turn, evidence)
    return turn


def catch_up(store: GuideStore, key: str, guide: Guide) -> None:
    """Let a guide hear the turns that it has missed, so that it answers as if it had been there.

    This process answered them before it was killed, or another one that shares the folder.
    """
    for turn in store.missed_turns(key, guide):
        try:
            scribbles = store.record.scribbles(turn)
        except ValueError as error:
            logger.warning("task %d: a turn cannot be told to its guide: %s", turn.task, error)
            scribbles = None
        if scribbles is not None and scribbles.shape == guide.shape:
            guide.update(scribbles)
        guide.turns_heard += 1
