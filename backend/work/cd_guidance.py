"""Boxes ranked by how much they move the CDs of a recipe, and what is told of the CDs.

An answer waits for them only so long. What takes longer is measured when nobody waits, and then
replaces the boxes of what is stored, and what the Data Manager shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from backend.annotation.image_facts import task_scale
from backend.annotation.label_config import LabelConfig
from backend.annotation.tasks import Task
from backend.arrays import UNLABELED, GrayImage, LabelMap
from backend.errors import RecipeError
from backend.learning.guide import Prediction
from backend.learning.spots import MAX_SPOTS, Spot
from backend.metrology.cd_draws import Gauge, ReportStoppedError
from backend.metrology.cd_spots import CDReport, report_cds
from backend.metrology.cd_statements import count_within, state_report
from backend.metrology.recipe import Recipe
from backend.metrology.recipe_file import load_recipe

logger = logging.getLogger(__name__)

LATE = "The CDs take longer to measure: boxes are by doubt until the task is opened again."


@dataclass(frozen=True)
class Guidance:
    """Where to scribble next, and what is told of the CDs."""

    spots: tuple[Spot, ...]
    notes: tuple[str, ...] = ()
    cds: str | None = None  # how many are within their tolerance; None: nobody asked
    is_late: bool = False  # the CDs are not measured yet

    @property
    def told(self) -> tuple[str | None, str | None]:
        """What the Data Manager shows: how many are within tolerance, and each CD."""
        return self.cds, None if self.cds is None else "; ".join(self.notes)


@dataclass(frozen=True)
class Drawn:
    """What is drawn on the image of a task."""

    task: Task
    config: LabelConfig
    gray: GrayImage  # (H, W), the image
    scribbles: LabelMap  # (H, W)


def read_cd_recipe(path: Path | None) -> Recipe | None:
    """Read the recipe of the setting CD_RECIPE.

    Raises:
        ValueError: It cannot be read; says why.
    """
    if path is None:
        return None
    try:
        return load_recipe(path)
    except OSError as error:
        raise ValueError(f"CD_RECIPE: {path} cannot be read: {error.strerror or error}") from None
    except RecipeError as error:
        raise ValueError(f"CD_RECIPE cannot be used: {error}") from None


class CDGuidance:
    """Ranks boxes by the CDs of one recipe; without one they stay ranked by doubt."""

    def __init__(self, recipe: Recipe | None, timeout_s: float) -> None:
        """Take the recipe, and how long an answer may wait."""
        self._recipe = recipe
        self._timeout_s = timeout_s

    @property
    def has_recipe(self) -> bool:
        """Whether CDs are asked for."""
        return self._recipe is not None

    def now(self, drawn: Drawn, prediction: Prediction) -> Guidance:
        """Rank the boxes of an answer that somebody waits for."""
        deadline = time.monotonic() + self._timeout_s
        return self._guide(drawn, prediction, lambda: time.monotonic() < deadline)

    def at_leisure(
        self, drawn: Drawn, prediction: Prediction, may_go_on: Callable[[], bool]
    ) -> Guidance:
        """Rank the boxes of what is stored; late if it may not go on to the end."""
        return self._guide(drawn, prediction, may_go_on)

    def _guide(
        self, drawn: Drawn, prediction: Prediction, may_go_on: Callable[[], bool]
    ) -> Guidance:
        materials = drawn.config.materials
        ordinary = Guidance(prediction.spots)
        if self._recipe is None or (prediction.label_map == UNLABELED).all():
            return ordinary
        unknown = sorted(set(self._recipe.materials.values()) - set(materials))
        if unknown:
            return self._refusal(
                drawn,
                prediction,
                f"the project has no {', '.join(unknown)}, which its materials name",
            )
        scale, doubts = task_scale(drawn.task.data)
        gauge = Gauge(materials, self._recipe, scale, may_go_on, drawn.gray)
        try:
            report = report_cds(prediction.probabilities, drawn.scribbles, gauge)
        except ReportStoppedError:
            return replace(ordinary, notes=(LATE,), cds="not yet", is_late=True)
        except ValueError as error:
            return self._refusal(drawn, prediction, str(error))
        if all(state.cd.value is None for state in report.cds) and scale is None:
            return self._refusal(
                drawn, prediction, "nothing can be measured, and no pixel size is known"
            )
        notes = (*doubts, *state_report(report, gauge))
        return Guidance(_filled(report, prediction.spots), notes, count_within(report))

    def _refusal(self, drawn: Drawn, prediction: Prediction, why: str) -> Guidance:
        """Ordinary boxes, and in log and answer why."""
        name = self._recipe.name if self._recipe else ""
        sentence = f"the recipe {name} gives no CDs here, boxes are ranked by doubt: {why}"
        logger.warning("task %d: %s", drawn.task.id, sentence)
        return Guidance(prediction.spots, (sentence,), "none")


def _filled(report: CDReport, doubtful: tuple[Spot, ...]) -> tuple[Spot, ...]:
    """The boxes that move CDs; where none does and CDs are still open, those in doubt instead."""
    ranked = report.spots
    if not ranked and not report.is_settled:
        ranked = doubtful[: MAX_SPOTS - len(report.audits)]
    return (*ranked, *report.audits)
