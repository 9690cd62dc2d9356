"""What the prior learns from: pictures, strokes on them, and what a pixel classifier made of these.

Two thirds of the pictures show random scenes, the others our synthetic devices. A simulated
annotator with random habits draws on each, and corrects the pixel classifier three times.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from backend.arrays import UNLABELED, GrayImage, LabelMap, Probabilities
from backend.files import write_atomically
from backend.learning.pixel_classifier import CELL_PX, cell_features, classify_cells
from backend.learning.simulated_annotator import Habits, correct, dab, depth_px, first_strokes
from backend.microscope.devices import Module
from backend.microscope.equipment import EquipmentName
from backend.microscope.images import to_gray
from backend.microscope.random_micrographs import photograph
from backend.microscope.random_scenes import MIN_MATERIAL_PX, chance, draw_scene
from backend.microscope.synthetic import make_image

SIDE_PX = 384
SAMPLES_A_SHARD = 25
CORRECTIONS = (1, 1, 3)
"""Rounds of correction before the second, third and fourth stage."""
TRAINING_SEEDS = (100_000, 2**31)
"""Of devices; evaluations use seeds below, so that no image of theirs was trained on."""

_TREES = 60
_DEVICE_SHARE = 0.35
_DEVICE_SIDES_PX = (400, 900)
_FULL_SCALE = 255


@dataclass(frozen=True)
class PriorSample:
    """A picture and four stages of drawing on it."""

    image: NDArray[np.uint8]  # (H, W)
    label_map: LabelMap  # (H, W), 0..K-1
    scribbles: NDArray[np.uint8]  # (stages, H, W), UNLABELED where nobody drew
    beliefs: NDArray[np.uint8]  # (stages, K, H / 2, W / 2), probability times 255


def draw_sample(rng: np.random.Generator) -> PriorSample:
    """Draw a picture, and on it; everything is chosen by `rng`."""
    image, label_map = _draw_picture(rng)
    if chance(rng, 0.3):
        image, label_map = image[::-1].copy(), label_map[::-1].copy()
    gray = to_gray(image)
    features = cell_features(gray)
    classes = int(label_map.max()) + 1
    habits = _draw_habits(rng)
    scribbles = _begin(rng, label_map, habits)
    stages: list[LabelMap] = []
    beliefs: list[NDArray[np.uint8]] = []
    for rounds in (0, *CORRECTIONS):
        if rounds:
            eager = replace(habits, windows=habits.windows * rounds, errors=habits.errors * rounds)
            correct(scribbles, label_map, _enlarged(beliefs[-1]), eager)
            _wander_somewhere(rng, scribbles, label_map, habits)
        seed = int(rng.integers(2**31))
        belief = classify_cells(features, scribbles, classes, seed, trees=_TREES)
        stages.append(scribbles.copy())
        beliefs.append(np.rint(belief * _FULL_SCALE).astype(np.uint8))
    shown = np.rint(gray * _FULL_SCALE).astype(np.uint8)
    return PriorSample(shown, label_map, np.stack(stages), np.stack(beliefs))


def make_samples(folder: Path, count: int, seed: int, workers: int) -> list[PriorSample]:
    """Draw samples into `folder`, by several processes; shards that are there already are kept.

    Args:
        folder: Of one seed; a shard depends on the seed and its number only.
        count: How many, rounded up to whole shards of `SAMPLES_A_SHARD`.
        seed: Not negative.
        workers: Processes.

    Returns:
        All of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}-{i:04d}.npz" for i in range(-(-count // SAMPLES_A_SHARD))]
    missing = [(path, seed, index) for index, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        shards = pool.map(_write_shard, missing)
        list(tqdm(shards, total=len(missing), desc="samples", unit="shard", disable=not missing))
    return [sample for path in paths for sample in _read_shard(path)]


def _write_shard(job: tuple[Path, int, int]) -> None:
    path, seed, index = job
    rng = np.random.default_rng([seed, index])
    arrays: dict[str, NDArray[np.uint8]] = {}
    for number in range(SAMPLES_A_SHARD):
        for name, array in vars(draw_sample(rng)).items():
            arrays[f"{number}.{name}"] = array
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def _read_shard(path: Path) -> Iterator[PriorSample]:
    with np.load(path) as arrays:
        for number in range(SAMPLES_A_SHARD):
            yield PriorSample(
                **{name: arrays[f"{number}.{name}"] for name in PriorSample.__annotations__}
            )


def _draw_picture(rng: np.random.Generator) -> tuple[NDArray[np.uint8], LabelMap]:
    if chance(rng, _DEVICE_SHARE):
        return _draw_device(rng)
    label_map = draw_scene(rng, (SIDE_PX, SIDE_PX))
    return photograph(rng, label_map), label_map


def _draw_device(rng: np.random.Generator) -> tuple[NDArray[np.uint8], LabelMap]:
    """A part of a synthetic device, at a random zoom, polarity and gamma."""
    while True:
        side = int(rng.integers(*_DEVICE_SIDES_PX))
        module = get_args(Module)[rng.integers(2)]
        equipment = get_args(EquipmentName)[rng.integers(3)]
        seed = int(rng.integers(*TRAINING_SEEDS))
        device = make_image(module, equipment, seed, (side, side)).without_databar()
        gray, label_map = _zoomed(rng, to_gray(device.image), device.label_map)
        rows, columns = (
            slice(start, start + SIDE_PX)
            for start in (rng.integers(length - SIDE_PX + 1) for length in gray.shape)
        )
        materials, renumbered, sizes = np.unique(
            label_map[rows, columns], return_inverse=True, return_counts=True
        )
        if len(materials) > 1 and sizes.min() >= MIN_MATERIAL_PX:
            shape = (SIDE_PX, SIDE_PX)
            return _developed(rng, gray[rows, columns]), renumbered.reshape(shape).astype(np.uint8)


def _zoomed(
    rng: np.random.Generator, gray: GrayImage, label_map: LabelMap
) -> tuple[GrayImage, LabelMap]:
    """Resize both; neither side becomes shorter than `SIDE_PX`."""
    smallest = SIDE_PX / min(gray.shape)
    zoom = max(rng.uniform(0.7, 1.3) * (smallest if chance(rng, 1 / 3) else 1), smallest)
    size = int(np.ceil(gray.shape[1] * zoom)), int(np.ceil(gray.shape[0] * zoom))
    larger = Image.fromarray(gray).resize(size, Image.Resampling.BICUBIC)
    labels = Image.fromarray(label_map).resize(size, Image.Resampling.NEAREST)
    return np.asarray(larger), np.asarray(labels)


def _developed(rng: np.random.Generator, gray: GrayImage) -> NDArray[np.uint8]:
    """Other polarity, gamma and noise than the generator's. (H, W) in 0..1 -> 8 bits."""
    if chance(rng, 0.25):
        gray = 1 - gray
    gray = np.clip(gray, 0, 1) ** rng.uniform(0.7, 1.4)
    noise = rng.uniform(0, 0.06) if chance(rng, 0.3) else 0
    noisy = gray + noise * rng.standard_normal(gray.shape)
    return np.rint(np.clip(noisy, 0, 1) * _FULL_SCALE).astype(np.uint8)


def _draw_habits(rng: np.random.Generator) -> Habits:
    """The usual habits for half of the annotators."""
    if chance(rng, 0.5):
        return Habits()
    return Habits(
        stroke_px=int(rng.integers(3, 60)),
        brush_px=int(rng.integers(1, 7)),
        dab_px=int(rng.integers(2, 5)),
        windows=int(rng.integers(1, 5)),
        window_px=int(rng.integers(24, 64)),
        errors=int(rng.integers(1, 4)),
    )


def _begin(rng: np.random.Generator, label_map: LabelMap, habits: Habits) -> LabelMap:
    """First strokes: crosses in the widest places, or lines anywhere; at least in two classes."""
    while True:
        scribbles = np.full(label_map.shape, UNLABELED, np.uint8)
        if chance(rng, 0.7):
            scribbles = first_strokes(label_map, rng, habits)
        for label in range(int(label_map.max()) + 1):
            if not (scribbles == label).any():
                for _ in range(rng.integers(1, 3)):
                    _wander(rng, scribbles, label_map, label, habits)
        if len(np.unique(scribbles[scribbles != UNLABELED])) > 1:
            return scribbles


def _wander_somewhere(
    rng: np.random.Generator, scribbles: LabelMap, label_map: LabelMap, habits: Habits
) -> None:
    """Draw a few more lines, now and then."""
    if chance(rng, 0.4):
        for _ in range(rng.integers(1, 5)):
            label = int(rng.integers(int(label_map.max()) + 1))
            _wander(rng, scribbles, label_map, label, habits)


def _wander(
    rng: np.random.Generator, scribbles: LabelMap, label_map: LabelMap, label: int, habits: Habits
) -> None:
    """Draw a slightly bent line of a random length inside a material, in place."""
    depth = depth_px(label_map == label)
    wide = np.argwhere(depth >= max(1.5, depth.max() * rng.uniform(0.1, 0.95)))
    if not len(wide):
        return
    row, column = (float(i) for i in wide[rng.integers(len(wide))])
    heading = rng.uniform(0, 2 * np.pi) if chance(rng, 0.4) else float(rng.choice([0, np.pi]))
    for _ in range(rng.integers(1, 70)):
        at = int(row), int(column)
        inside = 0 <= at[0] < depth.shape[0] and 0 <= at[1] < depth.shape[1]
        if not inside or depth[at] < 1.5:  # noqa: PLR2004 - a brush would paint over the border
            return
        dab(scribbles, label_map, at, min(habits.brush_px, depth[at]))
        row, column = row + np.sin(heading), column + np.cos(heading)
        heading += rng.normal(0, 0.1)


def _enlarged(belief: NDArray[np.uint8]) -> Probabilities:
    """(K, h, w) of 8 bits -> (K, H, W)."""
    values = (belief / _FULL_SCALE).astype(np.float32)
    return values.repeat(CELL_PX, axis=1).repeat(CELL_PX, axis=2)
