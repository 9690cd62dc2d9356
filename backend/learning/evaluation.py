"""An evaluation anyone can rerun: images, methods, annotators and seeds → a table of turns.

The table, `turns.csv`, is written after each run, so that an evaluation which was stopped goes on
where it was. Maps are drawn as their runs end, curves from the table when all are done.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from tqdm import tqdm

from backend.files import write_atomically
from backend.learning.guide import Prediction
from backend.learning.labeled_images import LabeledImage
from backend.learning.methods import Method
from backend.learning.replay import Run, Turn, replay
from backend.learning.simulated_annotator import AnnotatorName

TABLE_NAME = "turns.csv"
SETTINGS_NAME = "settings.json"
WORST_LOSS_GOAL_POINTS = 0.5
"""How much accuracy added strokes that are right may cost at most, percent of the pixels."""
RIGHT_ANNOTATORS: frozenset[AnnotatorName] = frozenset(get_args(AnnotatorName)) - {"erring"}

_SUMMARIZED = (
    "accuracy",
    "mean_iou",
    "edge_band_accuracy",
    "error_in_spots",
    "error_elsewhere",
    "calibration_error",
    "wall_s",
)

ShowMaps = Callable[[LabeledImage, Run, Sequence[Prediction]], None]
"""Draws the answers of a run, one a turn."""


@dataclass(frozen=True)
class Plan:
    """What is to be compared."""

    methods: Mapping[str, Method]  # by the names in the table
    annotators: Sequence[AnnotatorName]
    seeds: int  # annotators of each kind for each image
    turns: int
    steps: int  # training steps a turn, of methods that train

    def runs(self, image: LabeledImage) -> list[Run]:
        """All runs on an image, those of one annotator next to each other.

        Parts and variants play with the first annotator only: else they took most of the time.
        """
        return [
            Run(image.data_set, image.name, method, annotator, seed)
            for annotator in self.annotators
            for seed in range(self.seeds)
            for method in self.methods
            if annotator == self.annotators[0] or self.methods[method].meets_all
        ]


def evaluate(
    images: Sequence[LabeledImage], plan: Plan, folder: Path, show_maps: ShowMaps
) -> list[Turn]:
    """Do all runs that are not in the folder's table yet; return those of the plan.

    Args:
        images: What is annotated; names are unique within a data set.
        plan: By whom, and how.
        folder: Where the table is written.
        show_maps: Called for the first image of each data set, annotator and seed.

    Raises:
        ValueError: The folder holds an evaluation with other settings, a name is not unique, or
            there is no image.
        OSError: The folder cannot be written.
    """
    if not images:
        raise ValueError("there is nothing to annotate: name a module or a folder of images")
    runs = [(run, image) for image in images for run in plan.runs(image)]
    if len({run for run, _ in runs}) < len(runs):
        raise ValueError("two images of a data set have one name: give each folder its own name")
    _check_settings(folder / SETTINGS_NAME, {"turns": plan.turns, "steps": plan.steps})
    path = folder / TABLE_NAME
    table = read_turns(path)
    done = {turn.run for turn in table}
    todo = [(run, image) for run, image in runs if run not in done]
    firsts = {image.data_set: image.name for image in reversed(images)}
    with tqdm(total=len(todo) * plan.turns, unit="turn") as progress:
        for run, image in todo:
            progress.set_description(f"{run.data_set}, {run.image}, {run.method}, {run.annotator}")
            predictions = []
            method = plan.methods[run.method]
            for turn, prediction in replay(run, method, image, plan.turns, plan.steps):
                table.append(turn)
                predictions.append(prediction)
                progress.update(turn.turn > 0)
            write_turns(path, table)
            is_first = run.image == firsts[run.data_set] and run.seed == 0
            if is_first and run.annotator == plan.annotators[0]:
                show_maps(image, run, predictions)
    wanted = {run for run, _ in runs}
    return [turn for turn in table if turn.run in wanted]


def write_turns(path: Path, turns: Iterable[Turn]) -> None:
    """Write a table as CSV, wholly or not at all; an empty cell stands for NaN."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Turn)])
    writer.writeheader()
    writer.writerows(
        {name: _to_cell(cell) for name, cell in asdict(turn).items()} for turn in turns
    )
    write_atomically(path, text.getvalue().encode())


def read_turns(path: Path) -> list[Turn]:
    """Read a table written by `write_turns`; none if there is no file.

    Raises:
        ValueError: It is not such a table.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        try:
            return [_parse_turn(row) for row in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no table of an evaluation ({error}): choose another folder"
            ) from None


def worst_loss_points(turns: Iterable[Turn]) -> tuple[float, Turn | None]:
    """Find the largest loss of accuracy from a turn to the next, where all strokes are right.

    Returns:
        The loss in percent of the pixels, 0 if there is none, and the turn that had it.
    """
    worst: tuple[float, Turn | None] = (0.0, None)
    for run in by(turns, "run").values():
        ordered = sorted(run, key=lambda turn: turn.turn)
        for before, after in pairwise(ordered):
            loss = 100 * (before.accuracy - after.accuracy)
            if after.annotator in RIGHT_ANNOTATORS and loss > worst[0]:
                worst = loss, after
    return worst


def by(turns: Iterable[Turn], attribute: str) -> dict[Any, list[Turn]]:
    """Group turns by an attribute, in the order in which its values appear."""
    groups: defaultdict[Any, list[Turn]] = defaultdict(list)
    for turn in turns:
        groups[getattr(turn, attribute)].append(turn)
    return dict(groups)


def means(turns: Iterable[Turn], attribute: str) -> dict[int, float]:
    """Mean of a figure at each turn; NaN where no run has one."""
    values = {
        number: [v for turn in group if not math.isnan(v := getattr(turn, attribute))]
        for number, group in sorted(by(turns, "turn").items())
    }
    return {number: float(np.mean(v)) if v else math.nan for number, v in values.items()}


def summarize(turns: Sequence[Turn]) -> str:
    """Write means by method, annotator and turn, and the worst loss, as Markdown."""
    numbers = sorted(by(turns, "turn"))
    lines = [
        ("method", "annotator", "mean of", *(f"t{number}" for number in numbers), "worst loss")
    ]
    for method, of_method in by(turns, "method").items():
        for annotator, group in by(of_method, "annotator").items():
            loss = f"{worst_loss_points(group)[0]:.1f}" if annotator in RIGHT_ANNOTATORS else ""
            for attribute in _SUMMARIZED:
                values = means(group, attribute)  # turn 0 is of warm methods alone
                cells = [_to_text(values.get(number, math.nan)) for number in numbers]
                last = loss if attribute == "accuracy" else ""
                lines.append((method, annotator, attribute, *cells, last))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join([*(f"| {' | '.join(line)} |" for line in padded), "", _verdict(turns)])


def _verdict(turns: Sequence[Turn]) -> str:
    """Say for each method how much accuracy a turn of right strokes cost at most."""
    lines = []
    for method, group in by(turns, "method").items():
        loss, at = worst_loss_points(group)
        verdict = "met" if loss <= WORST_LOSS_GOAL_POINTS else "missed"
        where = (
            f" ({at.data_set}, {at.image}, {at.annotator}, seed {at.seed}, turn {at.turn})"
            if at
            else ""
        )
        lines.append(
            f"{method}: a turn of right strokes cost {loss:.2f} points at worst{where}; "
            f"goal, at most {WORST_LOSS_GOAL_POINTS}: {verdict}"
        )
    return "\n".join(lines)


def _check_settings(path: Path, settings: dict[str, int]) -> None:
    """Refuse to mix rows measured with other settings; keep them at the first run."""
    if path.exists() and (found := json.loads(path.read_text())) != settings:
        raise ValueError(
            f"{path.parent} holds an evaluation with {found}, not {settings}: choose another folder"
        )
    write_atomically(path, json.dumps(settings).encode())


def _to_cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def _parse_turn(row: dict[str, str]) -> Turn:
    kinds = get_type_hints(Turn)
    cells: dict[str, Any] = {
        name: kinds[name](cell or math.nan) if kinds[name] in (int, float) else cell
        for name, cell in row.items()
    }
    return Turn(**cells)


def _to_text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}".lstrip("0") or "0"
