"""The accuracy goals G1 to G13, each measured on images with exact truth and set beside its limit.

Lengths are in px of the image, angles in degrees. Biases and spreads are those of the values that
the tier in question gave; how many fell back to another tier or failed is told with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.metrology.accuracy_scenes import Scene, SceneSettings, draw_scene, scene_recipe
from backend.metrology.measure import measure_image
from backend.metrology.results import MeasuredCD, Tier
from backend.metrology.rows import measurement_rows
from backend.metrology.subject import Subject
from backend.microscope.calibration import Calibration

CLEAR = SceneSettings(cnr=10)
PERFECT = SceneSettings(tilt=(-1.2, 1.2))  # every wall crosses at least one column in 42 rows
SOFT = SceneSettings(soft=True, tilt=(0.0, 5.0))
WRONG = replace(CLEAR, label_off=(-2.0, 2.0))
_ROWS = 42  # between 15 and 85 % of the height
STRESS = SceneSettings(dose=200, curtain=0.05, speckle=0.1)
ALIGNED = SceneSettings(angle=90.0, tilt=(0.0, 0.0), cnr=10)
ALMOST_CLEAN = SceneSettings(cnr=100)  # windows count pixels, so noise differs when upsampled
WIDE_LABEL = replace(CLEAR, label_off=(2.0, 2.0))


@dataclass(frozen=True)
class Check:
    """One goal's condition, what it asks for and what was measured."""

    goal: str
    condition: str
    wanted: str
    measured: str
    reached: bool


@dataclass(frozen=True)
class Sample:
    """What many images gave for one measurement."""

    errors: NDArray[np.float64]  # value minus truth, of the values by the tier in question
    stated: NDArray[np.float64]  # u_value of each
    asked: int  # values there should be
    flagged: int = 0  # of the values, `grid_locked`

    @property
    def bias(self) -> float:
        """Mean error."""
        return float(self.errors.mean()) if len(self.errors) else np.nan

    @property
    def spread(self) -> float:
        """Standard deviation of the errors."""
        return float(self.errors.std(ddof=1)) if len(self.errors) > 1 else np.nan

    @property
    def honesty(self) -> float:
        """Stated over true spread."""
        return float(np.sqrt((self.stated**2).mean())) / self.spread if self.spread else np.nan

    def told(self) -> str:
        """Bias, 3 sigma and how many values they come from."""
        text = f"bias {self.bias:+.3f}, 3s {3 * self.spread:.3f}, n {len(self.errors)}"
        lost = self.asked - len(self.errors)
        return f"{text} ({lost} by another tier or none)" if lost else text


Samples = Mapping[str, Sample]


@cache
def collect(settings: SceneSettings, tier: Tier, trials: int) -> Samples:
    """Measure `trials` images; errors by measurement. The label stands in where a tier fails."""
    recipe = scene_recipe(*dict.fromkeys((tier, "label")))
    rows: dict[str, list[MeasuredCD]] = {}
    truth: Mapping[str, float] = {}
    for trial in range(trials):
        scene = draw_scene(settings, np.random.default_rng([13, trial]))
        truth = scene.truth
        for cd in measure_image(scene.subject, recipe).cds:
            if cd.quantity in ("", "mean"):
                rows.setdefault(cd.measurement, []).append(cd)
    return {name: _sample(cds, truth[name], tier) for name, cds in rows.items()}


def _sample(cds: list[MeasuredCD], truth: float, tier: Tier) -> Sample:
    good = [cd for cd in cds if cd.value is not None and cd.method == tier]
    return Sample(
        np.array([cd.value for cd in good], dtype=float) - truth,
        np.array([cd.u_value for cd in good], dtype=float),
        len(cds),
        sum("grid_locked" in cd.flags for cd in good),
    )


def _within(
    goal: str, condition: str, sample: Sample, bias: float | None, three_sigma: float
) -> Check:
    wanted = f"3s < {three_sigma:g}" if bias is None else f"bias < {bias:g}, 3s < {three_sigma:g}"
    reached = (bias is None or abs(sample.bias) < bias) and 3 * sample.spread < three_sigma
    return Check(goal, condition, wanted, sample.told(), bool(reached))


def _soft(trials: int) -> Iterator[Check]:
    samples = collect(SOFT, "prob", trials)
    for name in ("width", "film"):
        yield _within("G1", f"noise-free soft p, tilt 0-5: {name}", samples[name], 0.01, 0.03)


def _hard_label(trials: int) -> Iterator[Check]:
    samples = collect(PERFECT, "label", trials)
    yield _within("G2", "perfect label, 42 rows: width", samples["width"], 0.05, 0.2)
    tilted = collect(replace(PERFECT, tilt=(4.5, 6.0)), "label", trials)
    yield _within("G2", "perfect label, tilt 4.5-6: film", tilted["film"], 0.05, 0.1)
    film = samples["film"]  # its faces cross less than one row: missed, and it says so
    condition = f"perfect label, tilt up to 1.2: film, {film.flagged} flagged grid_locked"
    yield _within("G2", condition, film, 0.05, 0.1)


def _locked_label(trials: int) -> Iterator[Check]:
    samples = collect(ALIGNED, "label", trials)
    for name in ("width", "film"):
        one = samples[name]
        told = f"u {one.stated.min():.3f}, spread {one.spread:.3f}, flagged {one.flagged}"
        reached = one.stated.min() >= 0.4 and one.flagged == len(one.errors)  # noqa: PLR2004
        wanted = "u >= 0.4, all flagged grid_locked"
        yield Check("G3", f"axis-aligned label: {name}", wanted, told, bool(reached))


def _gray(trials: int) -> Iterator[Check]:
    yield _within("G4", "gray, CNR 10: width", collect(CLEAR, "gray", trials)["width"], 0.03, 0.25)
    wrong = collect(WRONG, "gray", trials)["width"]
    yield _within("G5", "gray, label wrong by up to 2 px: width", wrong, 0.03, 0.25)


def _film(trials: int) -> Iterator[Check]:
    film = collect(CLEAR, "gray", trials)["film"]
    yield _within("G6", "gray, film of 4.3 sigma, CNR 10", film, 0.05, 0.5)
    for thickness in (5.0, 4.0, 3.0):  # its gray level is nowhere to be read: gray must decline
        film = collect(replace(CLEAR, film=thickness), "gray", trials)["film"]
        told = film.told() if len(film.errors) else f"none of {film.asked} by gray"
        worst = float(np.abs(film.errors).max(initial=0.0))
        condition = f"gray, film of {thickness / CLEAR.blur:.1f} sigma, its gray unknown"
        reached = worst < 0.15  # noqa: PLR2004
        yield Check("G6", condition, "each error < 0.15 or declined", told, reached)


def _angles(trials: int) -> Iterator[Check]:
    gray = collect(CLEAR, "gray", trials)["angle"]
    row_px = np.sqrt(2 * np.sqrt(np.pi) * CLEAR.blur) / CLEAR.cnr  # Cramer-Rao, of one row
    bound = 3 * np.degrees(row_px * np.sqrt(12 / _ROWS**3))
    condition = f"gray, CNR 10, {_ROWS} rows (no fit is below 3s {bound:.2f}): wall angle"
    yield _within("G7", condition, gray, 0.05, 0.5)
    label = collect(PERFECT, "label", trials)["angle"]
    yield _within("G7", "perfect label: wall angle", label, None, 2.0)


def _stress(trials: int) -> Iterator[Check]:
    width = collect(STRESS, "gray", trials)["width"]
    yield _within("G8", "gray, dose 200, curtain 0.05, speckle 0.1: width", width, 0.05, 0.35)


def _honesty(trials: int) -> Iterator[Check]:
    everything = ("width", "angle", "height", "film")
    conditions: tuple[tuple[str, SceneSettings, Tier, tuple[str, ...]], ...] = (
        ("perfect label", PERFECT, "label", everything),
        ("aligned label", ALIGNED, "label", ("width", "film")),  # the others don't scatter
        ("gray, CNR 10", CLEAR, "gray", everything),
        ("gray, stress", STRESS, "gray", everything),
    )
    for condition, settings, tier, names in conditions:
        samples = collect(settings, tier, trials)
        for name in names:
            sample = samples[name]
            if tier == "gray" and not len(sample.errors):
                continue  # told by the goal of that measurement
            ratio = sample.honesty
            told = f"{ratio:.2f} (u {np.sqrt((sample.stated**2).mean()):.3f})"
            reached = 0.7 <= ratio <= 1.5  # noqa: PLR2004
            yield Check("G9", f"{condition}: {name}", "u / spread 0.7 to 1.5", told, reached)


def _pitch(trials: int) -> Iterator[Check]:
    for tier in ("gray", "label"):
        pitch = collect(WIDE_LABEL, tier, trials)["pitch"]
        told = pitch.told()
        reached = abs(pitch.bias) < 0.02  # noqa: PLR2004
        yield Check("G10", f"{tier}, label 2 px too wide: pitch", "bias < 0.02", told, reached)


def _scale(_: int) -> Iterator[Check]:
    scene = draw_scene(CLEAR, np.random.default_rng(11))
    sizes = (0.2, 0.31)
    tables = []
    for size in sizes:
        calibration = Calibration(size, size, "manual")
        measured = measure_image(replace(scene.subject, calibration=calibration), _BOTH)
        tables.append(measurement_rows("run", measured.cds, calibration))
    worst, moved = 0.0, 0.0
    for one, other in zip(*tables, strict=True):
        if one["unit"] == "nm" and one["value"] is not None:
            worst = max(worst, abs(one["value"] / one["value_px"] / sizes[0] - 1))
            moved = max(moved, abs(one["value_px"] - other["value_px"]))
    told = f"nm/px off by {worst:.1e}, px moved by {moved:.1e}"
    reached = max(worst, moved) <= 1e-9  # noqa: PLR2004
    yield Check("G11", "two scales, fraction recipe", "both <= 1e-9", told, reached)


def _invariance(trials: int) -> Iterator[Check]:
    changes: Mapping[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], float]] = {
        "flipped": (lambda array: array[:, ::-1], 1.0),
        "cropped": (lambda array: array[7:-3, 5:-4], 1.0),
        "2 x upsampled": (_doubled, 2.0),
    }
    for name, (change, factor) in changes.items():
        worst = 0.0
        for trial in range(max(2, trials // 10)):
            scene = draw_scene(ALMOST_CLEAN, np.random.default_rng([12, trial]))
            gray = None if scene.subject.gray is None else change(scene.subject.gray)
            changed = replace(scene.subject, label_map=change(scene.subject.label_map), gray=gray)
            before, after = _widths(scene.subject), _widths(changed)
            after = after[::-1] if name == "flipped" else after
            worst = max([worst, *np.abs(np.array(before) - np.array(after) / factor).tolist()])
        reached = worst <= 0.03  # noqa: PLR2004
        yield Check("G12", f"{name}, CNR 100", "width within 0.03", f"{worst:.3f}", reached)


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    """Labels repeat; gray values are interpolated, with pixel edges where they were."""
    order = 0 if array.dtype == np.uint8 else 3
    return ndi.zoom(array, 2, order=order, mode="nearest", grid_mode=True)


def _widths(subject: Subject) -> list[float]:
    cds = measure_image(subject, _BOTH).cds
    return [cd.value if cd.value is not None else np.nan for cd in cds if cd.measurement == "width"]


def _repeat(_: int) -> Iterator[Check]:
    scene: Scene = draw_scene(CLEAR, np.random.default_rng(13))
    same = measure_image(scene.subject, _BOTH) == measure_image(scene.subject, _BOTH)
    yield Check("G13", "measured twice", "identical", "identical" if same else "different", same)


_BOTH = scene_recipe("gray", "label")

GOALS: Mapping[str, Callable[[int], Iterator[Check]]] = {
    "G1": _soft,
    "G2": _hard_label,
    "G3": _locked_label,
    "G4": _gray,
    "G5": _gray,
    "G6": _film,
    "G7": _angles,
    "G8": _stress,
    "G9": _honesty,
    "G10": _pitch,
    "G11": _scale,
    "G12": _invariance,
    "G13": _repeat,
}


def check_goals(goals: list[str], trials: int) -> list[Check]:
    """Measure the goals asked for, each condition on `trials` images of two gates."""
    unknown = [goal for goal in goals if goal not in GOALS]
    if unknown:
        raise ValueError(f"no such goal: {', '.join(unknown)}; use some of {', '.join(GOALS)}")
    checks = [check for goal in goals for check in GOALS[goal](trials) if check.goal == goal]
    return list(dict.fromkeys(checks))
