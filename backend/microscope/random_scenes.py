"""Random arrangements of materials: layers, devices, films, particles, grains, cracks.

Unlike `devices`, nothing here is meant to be real: the scenes vary more than any set of micrographs
does, so that a network which has learned from them has seen stranger things than it will meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from backend.arrays import LabelMap, Mask

MAX_MATERIALS = 6
MIN_MATERIAL_PX = 80
"""A material of fewer pixels could hardly be drawn on; the scene is drawn again."""

Field = NDArray[np.float32]  # (H, W), one value per pixel


@dataclass(frozen=True)
class Scene:
    """What has been drawn so far, and the bent coordinates in which to draw on."""

    label_map: LabelMap  # (H, W), material per pixel
    rows: Field  # (H, W), bent row coordinate, px
    columns: Field
    materials: int
    unit_px: float
    """Side of a square of the same area; sizes are drawn in shares of it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.label_map.shape[0], self.label_map.shape[1]

    def painted(self, where: Mask, material: int) -> Scene:
        """The scene with `material` wherever `where` is true."""
        return replace(self, label_map=np.where(where, np.uint8(material), self.label_map))


Painter = Callable[[Scene, np.random.Generator], Scene]


def draw_scene(rng: np.random.Generator, shape: tuple[int, int]) -> LabelMap:
    """Arrange 2 to `MAX_MATERIALS` materials at random.

    Args:
        rng: Source of all choices.
        shape: Height and width in px, at least 64 each.

    Returns:
        Material per pixel, 0 to K - 1, each of at least `MIN_MATERIAL_PX`. Shape (H, W).
    """
    while True:
        scene = _ground(_blank(rng, shape), rng)
        for _ in range(rng.integers(1, 5)):
            scene = PAINTERS[rng.choice(len(PAINTERS), p=_PAINTER_SHARES)](scene, rng)
        materials, label_map, sizes = np.unique(
            scene.label_map, return_inverse=True, return_counts=True
        )
        if len(materials) > 1 and sizes.min() >= MIN_MATERIAL_PX:
            return label_map.reshape(shape).astype(np.uint8)


def chance(rng: np.random.Generator, share: float) -> bool:
    """True in this share of the calls."""
    return bool(rng.random() < share)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], row_px: float, column_px: float | None = None
) -> Field:
    """Noise of mean 0 and standard deviation 1 whose grains have these sizes. Shape (H, W)."""
    column_px = row_px if column_px is None else column_px
    grid = [
        max(2, round(side / max(size, 1)))
        for side, size in zip(shape, (row_px, column_px), strict=True)
    ]
    coarse = Image.fromarray(rng.standard_normal(grid).astype(np.float32))
    noise = np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))
    return (noise - noise.mean()) / (noise.std() + np.float32(1e-6))


def _blank(rng: np.random.Generator, shape: tuple[int, int]) -> Scene:
    """Nothing drawn yet; coordinates tilted (mostly a little) and bent."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.normal(0, 0.05) if chance(rng, 0.75) else rng.uniform(-np.pi, np.pi)
    middle_row, middle_column = shape[0] / 2, shape[1] / 2
    y, x = rows - middle_row, columns - middle_column
    bend_px, grain_px = rng.uniform(0, 4) * (chance(rng, 0.8)), rng.uniform(8, 80)
    bent_rows = x * np.sin(angle) + y * np.cos(angle) + middle_row
    bent_columns = x * np.cos(angle) - y * np.sin(angle) + middle_column
    return Scene(
        label_map=np.zeros(shape, np.uint8),
        rows=bent_rows + np.float32(bend_px) * smooth_noise(rng, shape, grain_px),
        columns=bent_columns + np.float32(bend_px) * smooth_noise(rng, shape, grain_px),
        materials=int(rng.integers(2, MAX_MATERIALS + 1)),
        unit_px=float(np.sqrt(shape[0] * shape[1])),
    )


def _ground(scene: Scene, rng: np.random.Generator) -> Scene:
    """Fill the whole image: layers most of the time, else one material, blobs or grains."""
    grounds: list[Painter] = [_layers, _plain, _blobs, _grains]
    return grounds[rng.choice(4, p=[0.55, 0.2, 0.12, 0.13])](scene, rng)


def _material(scene: Scene, rng: np.random.Generator) -> int:
    return int(rng.integers(scene.materials))


def _plain(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene.painted(np.ones(scene.shape, bool), _material(scene, rng))


def _layers(scene: Scene, rng: np.random.Generator) -> Scene:
    """Materials on top of each other, with wavy borders; some layers are thin films."""
    height, width = scene.shape
    scene = _plain(scene, rng)
    border = rng.uniform(0.02, 0.5) * height
    for _ in range(rng.integers(1, 7)):
        wave_px = rng.uniform(0, 0.03) * scene.unit_px * (chance(rng, 0.5))
        wave = wave_px * smooth_noise(rng, (2, width), 2, rng.uniform(5, 100))[0]
        scene = scene.painted(scene.rows > border + wave, _material(scene, rng))
        thin = chance(rng, 0.4)
        border += rng.uniform(3, 14) if thin else rng.uniform(0.04, 0.45) * height
    return scene


def _blobs(scene: Scene, rng: np.random.Generator) -> Scene:
    """Areas without any order."""
    shape = scene.shape
    grain_px = rng.uniform(0.05, 0.25) * scene.unit_px
    fields = [smooth_noise(rng, shape, grain_px) for _ in range(scene.materials)]
    return replace(scene, label_map=np.argmax(fields, axis=0).astype(np.uint8))


def _grains(scene: Scene, rng: np.random.Generator) -> Scene:
    """Cells around random points, with a boundary phase between them most of the time."""
    first, second = _cell_distances(scene, rng)
    scene = _plain(scene, rng)
    if chance(rng, 0.3):  # two kinds of cells
        nearest_cell = smooth_noise(rng, scene.shape, 0.2 * scene.unit_px) > 0
        scene = scene.painted(nearest_cell, _material(scene, rng))
    wall_px = rng.uniform(1.5, 0.03 * scene.unit_px)
    ragged = 1 + 0.4 * smooth_noise(rng, scene.shape, rng.uniform(4, 40))
    return scene.painted(second - first < wall_px * ragged, _material(scene, rng))


def _cell_distances(scene: Scene, rng: np.random.Generator) -> tuple[Field, Field]:
    """Distance from each pixel to the nearest and to the next random point, each (H, W)."""
    height, width = scene.shape
    count = int(rng.integers(6, 60))
    points = rng.uniform((-0.1 * height, -0.1 * width), (1.1 * height, 1.1 * width), (count, 2))
    tree = cKDTree(points)
    pixels = np.stack([scene.rows.ravel(), scene.columns.ravel()], axis=1)
    distances = tree.query(pixels, k=2)[0].astype(np.float32)
    return distances[:, 0].reshape(height, width), distances[:, 1].reshape(height, width)


def _structures(scene: Scene, rng: np.random.Generator) -> Scene:
    """A row (or several) of equal structures: pillars, vias, contacts, with liners around them."""
    height, width = scene.shape
    pitch_px = width / rng.uniform(1, 8)
    half_width = pitch_px * rng.uniform(0.1, 0.4)
    half_height = rng.uniform(0.03, 0.35) * height
    center = rng.uniform(0, height)
    offset, row_pitch = rng.uniform(0, pitch_px), 2 * half_height * rng.uniform(1.1, 1.8)
    single = chance(rng, 0.12)
    taper, kind = rng.uniform(-0.25, 0.25), int(rng.integers(3))
    shifted = chance(rng, 0.4)  # every other row by half a pitch
    liners = _draw_liners(scene, rng)
    core = _material(scene, rng)
    spread = 0.06 * pitch_px * rng.random()
    for row in range(rng.integers(1, 5) if chance(rng, 0.3) else 1):
        start = offset + (pitch_px / 2 if shifted and row % 2 else 0)
        along = scene.columns - start
        u = along if single else (along % pitch_px) - pitch_px / 2
        if spread > 1:  # not all of them are equal
            index = np.floor(along / pitch_px).astype(int)
            widths = rng.normal(0, spread / 3, 64)
            u = np.abs(u) - widths[index % 64].astype(np.float32)
        v = scene.rows - center - row * row_pitch
        distance = _signed_distance(kind, u, v, half_width + taper * v, half_height)
        for thickness, material in liners:
            scene = scene.painted(distance < thickness, material)
        scene = scene.painted(distance < 0, core)
    return scene


def _draw_liners(scene: Scene, rng: np.random.Generator) -> list[tuple[float, int]]:
    """Up to three nested liners as (outer distance in px, material), the outermost first."""
    distances = np.cumsum(rng.uniform(2, 9, rng.integers(0, 4)))[::-1]
    return [(float(distance), _material(scene, rng)) for distance in distances]


def _signed_distance(kind: int, u: Field, v: Field, half_width: Field, half_height: float) -> Field:
    """Distance to the outline of a trapezoid, ellipse or rounded box; negative inside. (H, W)."""
    mean_half_width = max(float(np.median(half_width)), 1.0)
    if kind == 0:
        return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)
    if kind == 1:
        radius = np.hypot(u / mean_half_width, v / half_height) - 1
        return radius * np.float32(min(mean_half_width, half_height))
    corner = 0.5 * min(mean_half_width, half_height)
    outside_u = np.maximum(np.abs(u) - half_width + corner, 0)
    outside_v = np.maximum(np.abs(v) - half_height + corner, 0)
    return np.hypot(outside_u, outside_v) - np.float32(corner)


def _film(scene: Scene, rng: np.random.Generator) -> Scene:
    """A film of even thickness on one of the materials present, as deposition leaves it."""
    present = np.unique(scene.label_map)
    inside = scene.label_map == rng.choice(present)
    thickness_px = rng.uniform(2, 14) if chance(rng, 0.8) else rng.uniform(14, 40)
    distance = ndi.distance_transform_edt(~inside)
    return scene.painted((distance > 0) & (distance <= thickness_px), _material(scene, rng))


def _particles(scene: Scene, rng: np.random.Generator) -> Scene:
    """Ellipses of one material, or of two where the large ones count as another material."""
    height, width = scene.shape
    mean_px = rng.uniform(0.008, 0.06) * scene.unit_px + 2
    by_size = chance(rng, 0.4)
    small, large = _material(scene, rng), _material(scene, rng)
    square = chance(rng, 0.35)
    label_map = scene.label_map.copy()
    for _ in range(rng.integers(4, 70)):
        center, radii = rng.uniform((0, 0), (height, width)), mean_px * rng.lognormal(0, 0.6, 2)
        if by_size and chance(rng, 0.25):
            radii = radii + rng.uniform(2, 5) * mean_px
        angle = rng.uniform(0, np.pi) if not square else rng.normal(0.6, 0.1)
        material = large if by_size and radii.mean() > 2 * mean_px else small
        _stamp(label_map, center, np.minimum(radii, 0.2 * scene.unit_px), angle, square, material)
    return replace(scene, label_map=label_map)


def _laths(scene: Scene, rng: np.random.Generator) -> Scene:
    """Long thin plates in a few directions."""
    height, width = scene.shape
    directions = rng.uniform(0, np.pi, rng.integers(1, 4))
    thickness_px, material = rng.uniform(1.2, 5), _material(scene, rng)
    label_map = scene.label_map.copy()
    for _ in range(rng.integers(3, 40)):
        center = rng.uniform((0, 0), (height, width))
        radii = np.array(
            [thickness_px * rng.uniform(0.7, 1.4), rng.uniform(0.02, 0.2) * scene.unit_px]
        )
        angle = rng.choice(directions) + rng.normal(0, 0.08)
        _stamp(label_map, center, radii, angle, False, material)
    return replace(scene, label_map=label_map)


def _stamp(
    label_map: LabelMap,
    center: NDArray[np.float64],
    radii: NDArray[np.float64],
    angle: float,
    square: bool,
    material: int,
) -> None:
    """Draw a filled ellipse, or a rounded square, into `label_map`."""
    reach = int(np.ceil(radii.max() * 1.5)) + 1
    row, column = (int(c) for c in center)
    rows = slice(max(0, row - reach), max(0, row + reach + 1))
    columns = slice(max(0, column - reach), max(0, column + reach + 1))
    y, x = np.ogrid[rows, columns]
    y, x = y - center[0], x - center[1]
    u = (x * np.cos(angle) + y * np.sin(angle)) / radii[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / radii[1]
    power = 5 if square else 2
    window = label_map[rows, columns]
    inside = (np.abs(u) ** power + np.abs(v) ** power < 1)[: window.shape[0], : window.shape[1]]
    window[inside] = material


def _crack(scene: Scene, rng: np.random.Generator) -> Scene:
    """Wandering lines, wider here and narrower there; some fill only one material."""
    height, width = scene.shape
    mask = np.zeros((height, width), bool)
    heading = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.2)
    for _ in range(rng.integers(1, 5)):
        steps = int(rng.uniform(0.15, 1.2) * scene.unit_px)
        angles = heading + np.cumsum(rng.normal(0, 0.12, steps)) * 0.6
        start = rng.uniform((0, 0), (height, width))
        rows = np.clip(start[0] + np.cumsum(np.sin(angles)), 0, height - 1).astype(int)
        columns = np.clip(start[1] + np.cumsum(np.cos(angles)), 0, width - 1).astype(int)
        mask[rows, columns] = True
    distance = ndi.distance_transform_edt(~mask)
    half_width = rng.uniform(1, 6) * (1 + 0.5 * smooth_noise(rng, mask.shape, rng.uniform(6, 40)))
    crack = distance < np.maximum(half_width, 0.8)
    if chance(rng, 0.5):
        crack &= scene.label_map == rng.choice(np.unique(scene.label_map))
    return scene.painted(crack, _material(scene, rng))


def _network(scene: Scene, rng: np.random.Generator) -> Scene:
    """Walls of cells inside one material."""
    first, second = _cell_distances(scene, rng)
    wall = second - first < rng.uniform(2, 0.025 * scene.unit_px)
    return scene.painted(
        wall & (scene.label_map == rng.choice(np.unique(scene.label_map))), _material(scene, rng)
    )


PAINTERS: tuple[Painter, ...] = (_structures, _film, _particles, _laths, _crack, _network)
_PAINTER_SHARES = (0.45, 0.2, 0.15, 0.07, 0.07, 0.06)
