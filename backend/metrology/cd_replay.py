"""Replays an annotator who follows a ranking of boxes until every CD is right.

All is the same but the ranking: first strokes, the guide, how many boxes are looked at each turn
and how large they are. In a box each material is painted to its true border, one stroke each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import gt, lt
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.learning.guide import Guide
from backend.learning.simulated_annotator import (
    first_strokes,
    split_strokes,
    uncertain_windows,
)
from backend.learning.uncertainty import normalized_entropy
from backend.metrology.cd_audits import BOX_PX
from backend.metrology.cd_draws import Gauge, paired_values
from backend.metrology.cd_spots import report_cds, with_scribbles
from backend.metrology.recipe import Recipe
from backend.microscope.calibration import Calibration
from backend.microscope.images import to_gray
from backend.microscope.synthetic import SyntheticImage

RIGHT_PX = 0.5
"""Every CD is right where none is further off than this."""
BOXES = 3  # looked at each turn

Window = tuple[slice, slice]
Ranking = Callable[[Probabilities, Gauge, np.random.Generator], Iterator[Window]]


@dataclass(frozen=True)
class CdTurn:
    """Where an annotation stands after one answer of the guide."""

    turn: int  # 0: after the first strokes
    strokes: int  # drawn so far, without the first ones
    worst_px: float  # error of the CD that is furthest off; infinite if one is not measured
    off: int  # how many CDs are not right


def replay_cds(
    image: SyntheticImage, ranking: Ranking, turns: int, seed: int = 0
) -> Iterator[CdTurn]:
    """Annotate an image turn by turn, until every CD is right or the turns are used up.

    Truth is what the recipe gives on the true labels: what an annotator would get in the end.
    """
    rng = np.random.default_rng(seed)
    gauge = gate_gauge(image)
    truth = gauge.measure(image.label_map)
    rows = [cd for cd in truth.cds if cd.value is not None and cd.quantity in ("", "mean")]
    right = np.array([cd.value for cd in rows])
    guide = Guide(image.image, len(image.materials), class_names=image.materials, seed=seed)
    scribbles = first_strokes(image.label_map, rng)
    strokes = 0
    for turn in range(turns + 1):
        believed = with_scribbles(guide.update(scribbles).probabilities, scribbles)
        found = gauge.measure(believed.argmax(axis=0).astype(np.uint8))
        errors = np.abs(paired_values(rows, found.cds) - right)
        errors[np.isnan(errors)] = math.inf
        yield CdTurn(turn, strokes, float(errors.max()), int((errors > RIGHT_PX).sum()))
        if errors.max() <= RIGHT_PX:
            return
        for window in islice(ranking(believed, gauge, rng), BOXES):
            strokes += _paint(scribbles, image.label_map, window)


def _paint(scribbles: LabelMap, truth: LabelMap, window: Window) -> int:
    """Paint what is true in a box, in place; return how many strokes that takes."""
    new = np.where(scribbles[window] == UNLABELED, truth[window], UNLABELED)
    scribbles[window] = truth[window]
    return len(split_strokes(new.astype(np.uint8)))


def gate_gauge(image: SyntheticImage) -> Gauge:
    """Measure width, height and gate oxide of gates; half of `RIGHT_PX` is tolerated, 1 sigma."""
    scale = Calibration(image.nm_per_px_x, image.nm_per_px_y, "manual")
    film = {"film": "ox", "between": ["si", "gate"]}
    site = {"structure": "gate", "part": "base", "inset_px": 3}
    measurements: list[dict[str, Any]] = [
        {"id": "gate_mcd", "kind": "width", "of": "gate", "at": {"fraction": 0.5}},
        {"id": "gate_h", "kind": "height", "of": "gate"},
        {"id": "gox_t", "kind": "thickness", **film, "site": site},
    ]
    u_max_nm = RIGHT_PX / 2 * scale.nm_per_px
    content = {
        "schema": "tem-cd-recipe/1",
        "name": "gates",
        "version": 1,
        "materials": {"si": "Si", "ox": "Oxide", "gate": "Metal"},
        "frame": {"between": ["si", "ox"]},
        "structures": {
            "gate": {
                "materials": ["gate"],
                "base": {"interface_with": "ox"},
                "min_area_px2": 150,
            }
        },
        "measurements": measurements,
        "annotation": {"u_max_nm": {rule["id"]: u_max_nm for rule in measurements}},
    }
    recipe = Recipe.model_validate(content)
    return Gauge(image.materials, recipe, scale, gray=to_gray(image.image))


def by_cds(believed: Probabilities, gauge: Gauge, rng: np.random.Generator) -> Iterator[Window]:
    """What moves the CDs; where nothing more does, what is most uncertain."""
    drawn = np.full(believed.shape[1:], UNLABELED, np.uint8)  # it is in what is believed
    report = report_cds(believed, drawn, gauge)
    for spot in (*report.spots, *report.audits):
        yield spot.window
    yield from by_entropy(believed, gauge, rng)


def by_entropy(believed: Probabilities, gauge: Gauge, rng: np.random.Generator) -> Iterator[Window]:  # noqa: ARG001
    """What is most uncertain, by mean entropy; none is left where the annotator drew."""
    yield from uncertain_windows(normalized_entropy(believed), BOXES, BOX_PX)


def at_random(believed: Probabilities, gauge: Gauge, rng: np.random.Generator) -> Iterator[Window]:  # noqa: ARG001
    """Anywhere."""
    height, width = believed.shape[1:]
    while True:
        row, column = rng.integers(height - BOX_PX + 1), rng.integers(width - BOX_PX + 1)
        yield slice(int(row), int(row) + BOX_PX), slice(int(column), int(column) + BOX_PX)


RANKINGS: Mapping[str, Ranking] = {"cd": by_cds, "entropy": by_entropy, "random": at_random}


@dataclass(frozen=True)
class Effort:
    """What a ranking asked of the annotator; infinite where the turns did not suffice."""

    ranking: str
    turns: tuple[float, ...]  # of each image, until every CD was right
    strokes: tuple[float, ...]

    def told(self) -> str:
        """Medians, and on how many images every CD became right."""
        reached = sum(math.isfinite(turns) for turns in self.turns)
        return (
            f"| {self.ranking} | {median(self.turns):g} | {median(self.strokes):g} "
            f"| {reached} of {len(self.turns)} |"
        )

    def beside(self, other: Effort) -> str:
        """On how many of the same images it asked for fewer strokes, and on how many for more."""
        pairs = list(zip(self.strokes, other.strokes, strict=True))
        fewer, more = (sum(compare(*pair) for pair in pairs) for compare in (lt, gt))
        return (
            f"{self.ranking} against {other.ranking}: fewer strokes on {fewer} of {len(pairs)} "
            f"images, more on {more}"
        )


def compare_rankings(
    images: Sequence[SyntheticImage], turns: int, rankings: Mapping[str, Ranking] = RANKINGS
) -> list[Effort]:
    """Annotate each image by each ranking; the first strokes on an image are always the same."""
    efforts = []
    for name, ranking in rankings.items():
        ends = [
            list(replay_cds(image, ranking, turns, seed))[-1]
            for seed, image in enumerate(tqdm(images, name, leave=False))
        ]
        efforts.append(
            Effort(
                name,
                tuple(math.inf if end.off else end.turn for end in ends),
                tuple(math.inf if end.off else end.strokes for end in ends),
            )
        )
    return efforts
