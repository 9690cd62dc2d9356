"""Images of two gates on a film whose CDs are known exactly, to prove the accuracy of measuring.

Two metal gates stand on a thin oxide over silicon, under a fill. Their polygons are exact; a pixel
is the sum of coverage x gray level, blurred, with white noise, dose noise, speckle or curtains.
The label may be wrong on purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage as ndi
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from backend.metrology.recipe import Recipe
from backend.metrology.results import Tier
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration
from backend.microscope.coverage import coverage_fractions, label_at_centers

LABELS = ("Si", "Oxide", "Metal", "Fill")
GRAY = (100.0, 220.0, 60.0, 180.0)
CONTRAST = 120.0  # of a gate's wall; no other interface has less
NM_PER_PX = 0.2
_FAR = 500.0


@dataclass(frozen=True)
class SceneSettings:
    """What is drawn and how it is recorded; lengths in px, angles in degrees."""

    width: float = 37.3  # at half height
    height: float = 60.4
    angle: float = 87.2
    film: float = 6.4
    pitch: float = 80.0
    tilt: tuple[float, float] = (-1.7, 1.7)  # drawn between
    blur: float = 1.5
    cnr: float = np.inf  # of a wall, by white noise
    dose: float = np.inf  # electrons a pixel at gray 255
    curtain: float = 0.0  # relative, 1 sigma, at the foot of a gate
    speckle: float = 0.0  # relative, 1 sigma
    label_off: tuple[float, float] = (0.0, 0.0)  # each wall outward, drawn between
    soft: bool = False  # probabilities of a perfect, blurred model instead of gray values
    shape: tuple[int, int] = (144, 208)


@dataclass(frozen=True)
class Scene:
    """One image and its truth, in px and degrees."""

    subject: Subject
    truth: dict[str, float]  # by measurement


def draw_scene(settings: SceneSettings, rng: np.random.Generator) -> Scene:
    """Place two gates at a random phase and tilt, label and photograph them."""
    tilt, phase = math.radians(rng.uniform(*settings.tilt)), rng.uniform(-0.5, 0.5, 2)
    middle = np.array([settings.shape[1] / 2, settings.shape[0] * 0.72]) + phase
    turn = [math.cos(tilt), math.sin(tilt), math.sin(tilt), -math.cos(tilt), *middle.tolist()]
    exact = _tiles(settings, np.zeros(4))
    drawn = _tiles(settings, rng.uniform(*settings.label_off, 4))
    fractions = coverage_fractions([affine_transform(p, turn) for p in exact], settings.shape)
    label_map = label_at_centers([affine_transform(p, turn) for p in drawn], settings.shape)
    subject = Subject(label_map, LABELS, Calibration(NM_PER_PX, NM_PER_PX, "manual"))
    if settings.soft:
        soft = np.stack([ndi.gaussian_filter(part, settings.blur) for part in fractions])
        subject = replace(subject, probabilities=(soft / soft.sum(axis=0)).astype(np.float32))
    else:
        subject = replace(subject, gray=_photograph(fractions, settings, rng))
    truth = {
        "width": settings.width,
        "height": settings.height,
        "angle": settings.angle,
        "film": settings.film,
        "pitch": settings.pitch,
    }
    return Scene(subject, truth)


def scene_recipe(*prefer: Tier) -> Recipe:
    """Measure widths and pitch over at least 40 rows, height, wall angles and the film."""
    at = {"fraction": 0.5, "band": 0.7}
    gates = {
        "materials": ["gate"],
        "base": {"interface_with": "ox"},
        "expect": {"min": 2, "max": 2},
        "min_area_px2": 100,
    }
    film = {"film": "ox", "between": ["si", "gate"], "film_gray": "auto"}
    site = {"structure": "gate", "part": "base", "inset_px": 4}
    content = {
        "schema": "tem-cd-recipe/1",
        "name": "accuracy",
        "version": 1,
        "materials": {"si": "Si", "ox": "Oxide", "gate": "Metal", "fill": "Fill"},
        "frame": {"align": "interface", "between": ["si", "ox"]},
        "edges": {"prefer": list(prefer), "u_place_px": 0.0, "u_gray_px": 0.05},
        "structures": {"gate": gates},
        "measurements": [
            {"id": "width", "kind": "width", "of": "gate", "at": at},
            {"id": "height", "kind": "height", "of": "gate"},
            {"id": "angle", "kind": "sidewall_angle", "of": "gate"},
            {"id": "film", "kind": "thickness", **film, "site": site},
            {"id": "pitch", "kind": "pitch", "of": "gate", "at": at},
        ],
    }
    return Recipe.model_validate(content)


def _tiles(settings: SceneSettings, wall_off: NDArray[np.float64]) -> list[BaseGeometry]:
    """Polygons of (u, v) px from the middle of the oxide's lower face, in the order of LABELS."""
    silicon = shapely.box(-_FAR, -_FAR, _FAR, 0)
    oxide = shapely.box(-_FAR, 0, _FAR, settings.film)
    lean = settings.height / 2 / math.tan(math.radians(settings.angle))
    gates = []
    for side, (left, right) in zip((-0.5, 0.5), wall_off.reshape(2, 2).tolist(), strict=True):
        center, half = side * settings.pitch, settings.width / 2
        low, high = settings.film, settings.film + settings.height
        corners = [
            (center - half - lean - left, low),
            (center + half + lean + right, low),
            (center + half - lean + right, high),
            (center - half + lean - left, high),
        ]
        gates.append(shapely.Polygon(corners))
    metal = shapely.union_all(gates)
    fill = shapely.box(-_FAR, settings.film, _FAR, _FAR) - metal
    return [silicon, oxide, metal, fill]


def _photograph(
    fractions: NDArray[np.float32], settings: SceneSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Gray values, linear and unclipped."""
    shape = settings.shape
    sharp = np.tensordot(np.array(GRAY), fractions.astype(np.float64), 1)
    if settings.speckle:
        grain = ndi.gaussian_filter(rng.standard_normal(shape), 1.0)
        sharp *= 1 + settings.speckle * grain / grain.std()
    if settings.curtain:
        streaks = ndi.gaussian_filter1d(rng.standard_normal(shape[1]), 2.0)
        metal_above = np.cumsum(fractions[LABELS.index("Metal")], axis=0)
        grown = np.minimum(metal_above / settings.height, 1)  # they begin under what is dense
        sharp *= 1 + settings.curtain * grown * streaks / streaks.std()
    image: NDArray[np.float64] = ndi.gaussian_filter(sharp, settings.blur)
    if np.isfinite(settings.dose):
        scale = settings.dose / 255
        image = rng.poisson(np.maximum(image, 0) * scale) / scale
    if np.isfinite(settings.cnr):
        image = image + rng.normal(0, CONTRAST / settings.cnr, shape)
    return image
