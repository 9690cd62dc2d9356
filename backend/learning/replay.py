"""Replays an annotator at work: image, method and annotator → one row of figures a turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backend.arrays import UNLABELED
from backend.learning.guide import Prediction
from backend.learning.labeled_images import LabeledImage
from backend.learning.methods import Method, Player
from backend.learning.scores import reliability, score
from backend.learning.simulated_annotator import Annotator, AnnotatorName

STROKE_S = 2.0
"""Assumed for a stroke: find the place, choose the material, paint."""


@dataclass(frozen=True)
class Run:
    """One annotation of one image: who does what with which method."""

    data_set: str
    image: str
    method: str
    annotator: AnnotatorName
    seed: int


@dataclass(frozen=True)
class Turn:
    """What one turn of a run gave; NaN where there is no such pixel."""

    data_set: str
    image: str
    method: str
    annotator: AnnotatorName
    seed: int
    turn: int  # from 1; 0 before the first stroke
    strokes: int  # drawn so far
    drawn_px: int  # so far
    accuracy: float  # of all pixels whose truth is known, 0 to 1
    mean_iou: float
    edge_band_accuracy: float  # within 3 px of a true edge
    error_in_spots: float  # share that is wrong in the recommended boxes
    error_elsewhere: float
    calibration_error: float  # expected, of the probabilities, 0 to 1
    wall_s: float  # the annotator waits so long for this answer; at the first turn, also to open
    cpu_s: float  # of all cores, also while the annotator draws
    elapsed_s: float  # since the image was opened: all waits, and `STROKE_S` for each stroke

    @property
    def run(self) -> Run:
        """The run that it belongs to."""
        return Run(self.data_set, self.image, self.method, self.annotator, self.seed)


def replay(
    run: Run, method: Method, image: LabeledImage, turns: int, steps: int
) -> Iterator[tuple[Turn, Prediction]]:
    """Let an annotator draw, and a method answer, so many times.

    Args:
        run: Who draws, and what answers.
        method: The method that the run names. One that knows the materials before the first stroke
            answers first, as turn 0, and the annotator corrects that.
        image: The image that the run names.
        turns: How many times the annotator asks.
        steps: Training steps a turn, of methods that train.

    Yields:
        The figures of each turn, and the answer itself.
    """
    annotator = Annotator(run.annotator, image.truth, run.seed)
    if not method.is_warm:
        annotator.begin()
    waited_s = 0.0
    cpu_start, start = time.process_time(), time.perf_counter()
    player: Player = method.start(image.image, image.materials, steps, run.seed)
    for turn in range(0 if method.is_warm else 1, turns + 1):
        prediction = player.answer(annotator.scribbles)
        wall_s = time.perf_counter() - start
        player.go_on()
        cpu_s = time.process_time() - cpu_start
        waited_s += wall_s
        calibration = reliability(prediction.probabilities, image.truth)
        scores = score(prediction.label_map, image.truth, prediction.spots)
        yield (
            Turn(
                **vars(run),
                turn=turn,
                strokes=annotator.strokes,
                drawn_px=int(np.count_nonzero(annotator.scribbles != UNLABELED)),
                **vars(scores),
                calibration_error=calibration.expected_calibration_error,
                wall_s=wall_s,
                cpu_s=cpu_s,
                elapsed_s=waited_s + STROKE_S * annotator.strokes,
            ),
            prediction,
        )
        annotator.react(prediction.probabilities, prediction.spots)
        cpu_start, start = time.process_time(), time.perf_counter()
