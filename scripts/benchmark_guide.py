"""Measure the guide on this machine: times of its answers, what they are made of, its memory.

    python scripts/benchmark_guide.py --sizes 512 1024 --repeat 5

Draws synthetic gates, paints strokes into every material, and prints a table with the goals. The
stages are looked at from outside, so that the package needs no timers of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import CodeType

from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

import backend
from backend.annotation.label_config import LabelConfig
from backend.annotation.predictions import to_results
from backend.annotation.rle import encode_mask
from backend.arrays import UNLABELED
from backend.learning.guide import Guide
from backend.memory import resident_bytes
from backend.microscope.images import to_gray
from backend.trials.benchmark_cases import Case, make_case, noisy_masks
from backend.trials.benchmark_table import Row, medians, print_table, timed
from backend.work.resources import to_store

RATIO = "guide's second update : forest's turn"
GOALS = {  # largest value wanted, by side in px and subject
    (512, "guide: first answer"): 3.0,
    (1024, "guide: first answer"): 6.0,
    (512, RATIO): 1.25,
    (1024, RATIO): 1.5,
    (1024, "encoding of four noisy masks"): 20.0,
}
MEMORY_GOAL_GB = 1.5

WORKERS = 2  # of the random forest, as many as the guide has
STEPS = 8  # of training

STAGES = {  # functions of the package, as a profile names them
    "cell_features": "features",
    "classify_cells": "classifier",
    "refine": "prior",
    "probabilities": "network",
    "normalized_entropy": "uncertainty",
    "rank_spots": "spots",
    "smooth_for_display": "clean-up",
    "encode_mask": "encoding",
}
PACKAGE = str(Path(backend.__file__).parent)


def time_guide(case: Case) -> dict[str, float]:
    """Open a guide, take two turns and train its network; return seconds."""
    times: dict[str, float] = {}
    with timed(times, "guide: preparation"):
        guide = Guide(case.image, len(case.materials), class_names=case.materials)
    with timed(times, "guide: first update"):
        guide.update(case.scribbles[0])
    with timed(times, "guide: second update"):
        guide.update(case.scribbles[1])
    with timed(times, "guide: training step"):
        guide.train(STEPS)
    times["guide: training step"] /= STEPS
    with timed(times, "guide: answer with the trained network"):
        prediction = guide.predict()
    with timed(times, "guide: encoding"):
        encode(prediction, case)
    steps = ("preparation", "first update", "encoding")
    times["guide: first answer"] = sum(times[f"guide: {step}"] for step in steps)
    return times


def encode(prediction: backend.Prediction, case: Case) -> None:
    """Write a prediction as Label Studio wants it, and forget it."""
    stored = to_store(prediction, None)
    config = LabelConfig(case.materials)
    to_results(stored.label_map, stored.spots, config, scores=stored.scores)


def share_of_stages(case: Case) -> dict[str, float]:
    """Profile a first answer, a later one and the network joining; return percent by stage.

    A profile sees the calling thread only, which waits where others work: its times are those of
    the clock. Only the shares are used, since profiling slows Python down.
    """
    shares: dict[str, float] = {}
    with profiled(shares, "first answer"):
        guide = Guide(case.image, len(case.materials), class_names=case.materials)
        encode(guide.update(case.scribbles[0]), case)
    guide.train(STEPS)
    with profiled(shares, "later answer"):
        encode(guide.update(case.scribbles[1]), case)
    with profiled(shares, "network joins"):
        guide.predict()
    return shares


@contextmanager
def profiled(shares: dict[str, float], name: str) -> Iterator[None]:
    """Put the share of each stage that ran in the block into `shares`, in percent."""
    start = time.perf_counter()
    with cProfile.Profile() as profile:
        yield
    whole_s = time.perf_counter() - start
    spent = {
        entry.code.co_name: entry.totaltime
        for entry in profile.getstats()
        if isinstance(entry.code, CodeType) and entry.code.co_filename.startswith(PACKAGE)
    }
    stages = {stage: spent[code] for code, stage in STAGES.items() if code in spent}
    stages["the rest"] = whole_s - sum(stages.values())
    for stage, seconds in stages.items():
        shares[f"{name}: {stage}"] = 100 * seconds / whole_s


def time_forest(case: Case) -> dict[str, float]:
    """Do a turn of the usual recipe, a random forest on filter features; return seconds."""
    times: dict[str, float] = {}
    scribbles = case.scribbles[1]
    drawn = scribbles != UNLABELED
    gray = to_gray(case.image)
    with timed(times, "random forest: features"):
        features = multiscale_basic_features(gray, sigma_min=0.5, sigma_max=16, workers=WORKERS)
    with timed(times, "random forest: turn"):
        forest = RandomForestClassifier(100, n_jobs=WORKERS, class_weight="balanced")
        forest.fit(features[drawn], scribbles[drawn])
        forest.predict_proba(features.reshape(drawn.size, -1))
    return times


def time_encoding_ms(size_px: int) -> float:
    """Encode four masks full of speckle; return milliseconds."""
    masks, times = noisy_masks(size_px), dict[str, float]()
    with timed(times, "all"):
        for mask in masks:
            encode_mask(mask)
    return 1000 * times["all"]


def measure_size(size_px: int, repeat: int) -> list[Row]:
    """Measure all times on an image of this side; each value is a median."""
    case = make_case(size_px)
    seconds, percents, encodings_ms = [], [], []
    for _ in tqdm(range(repeat), desc=f"{size_px} px", leave=False):
        seconds.append(time_guide(case) | time_forest(case))
        percents.append(share_of_stages(case))
        encodings_ms.append(time_encoding_ms(size_px))
    ratios = [run["guide: second update"] / run["random forest: turn"] for run in seconds]
    measured = [
        *((name, value, "s") for name, value in medians(seconds)),
        (RATIO, median(ratios), "x"),
        *((name, value, "%") for name, value in medians(percents)),
        ("encoding of four noisy masks", median(encodings_ms), "ms"),
    ]
    return [
        Row(f"{size_px} px", what, value, unit, GOALS.get((size_px, what), math.inf))
        for what, value, unit in measured
    ]


def measure_memory(size_px: int) -> Row:
    """Open a task and take two turns in a process of its own; return its peak memory."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        peak_gb = pool.submit(peak_memory_gb, make_case(size_px)).result()
    return Row(f"{size_px} px", "peak memory of an open task", peak_gb, "GB", MEMORY_GOAL_GB)


def peak_memory_gb(case: Case) -> float:
    """Take two turns; return the largest resident set of this process so far."""
    time_guide(case)
    return resident_bytes()[1] / 1e9


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(description="Measure the guide on this machine.")
    add = parser.add_argument
    add("--sizes", nargs="+", type=int, default=[512, 1024], metavar="PX", help="sides of images")
    add("--repeat", type=int, default=3, metavar="N", help="runs of which medians are shown")
    add("--memory-size", type=int, default=1024, metavar="PX", help="side of the open task")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table; 0 if it worked, 1 if it cannot be measured, 2 for a mistake."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error("--repeat must be more than 0")
    return print_table(lambda: measure(options))


def measure(options: argparse.Namespace) -> list[Row]:
    """Measure all sizes, and the memory of a task."""
    time_guide(make_case(min(options.sizes)))  # the first run loads libraries
    rows = [row for size in options.sizes for row in measure_size(size, options.repeat)]
    return [*rows, measure_memory(options.memory_size)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
