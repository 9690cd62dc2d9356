"""CD database → how far a model's labels move each CD from where drawn labels put it.

Pairs are those of the view `label_vs_model`: same image, recipe and scale, nearest in position.
Images that the model was trained on stand apart: on them any model looks good. Both sides are
noisy, so the slope is fitted with errors in both (Deming), and limits of agreement are those of
Bland and Altman.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.metrology.database import CdDatabase
from backend.metrology.records import TRAINED_ON, RowsOfModel
from backend.metrology.schema import COMPARED_RUNS, NEWEST_RUNS
from backend.metrology.summary import confidence_factor, is_counted, name_series

_LEAST_IMAGES = 5  # with drawn labels, before a model's error is known
_ERROR_DIGITS = 6  # the order of summing has no say then
_LIMITS = 1.96  # standard deviations that hold 95 % of differences
_IS_TRAINED_ON = f'"{TRAINED_ON}"'  # in the JSON of flags


@dataclass(frozen=True)
class Pair:
    """One CD from drawn labels and from a model's."""

    image: str
    label: float
    model: float
    label_u: float | None = None
    model_u: float | None = None

    @property
    def delta(self) -> float:
        """How much larger the model's is."""
        return self.model - self.label


@dataclass(frozen=True)
class Group:
    """What is compared: a series of a recipe, of one model."""

    recipe: str
    model: str
    measurement: str
    side: str
    unit: str  # nm, nm^2, deg, ratio, and px, px^2 for the same in pixels
    seen: str = ""  # "trained on": images that the model has learned from


@dataclass(frozen=True)
class Comparison:
    """All pairs of a group, and how many CDs found no partner."""

    group: Group
    pairs: tuple[Pair, ...]
    only_label: int = 0
    only_model: int = 0


@dataclass(frozen=True)
class Agreement:
    """Figures of a comparison; None where there are too few pairs, or images."""

    pairs: int
    images: int
    bias: float | None = None  # mean of model minus label
    ci95: tuple[float, float] | None = None  # of the bias; needs two images
    three_sigma: float | None = None  # of the differences
    limits: tuple[float, float] | None = None
    slope: float | None = None
    r2: float | None = None


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Compare.

    CDs of one image share its tilt and its model's mood, so the interval of the bias takes images
    as what was drawn at random, not CDs.

    Example:
        >>> found = agreement([Pair("a", 20, 21), Pair("a", 30, 31), Pair("b", 25, 28)])
        >>> round(found.bias, 3), found.images
        (1.667, 2)
    """
    images = len({pair.image for pair in pairs})
    if not pairs:
        return Agreement(0, 0)
    deltas = [pair.delta for pair in pairs]
    bias = statistics.fmean(deltas)
    if len(pairs) < 2:  # noqa: PLR2004 - one difference shows no spread
        return Agreement(1, 1, bias)
    std = statistics.stdev(deltas)
    return Agreement(
        len(pairs), images, bias, _interval(pairs, bias), 3 * std,
        (bias - _LIMITS * std, bias + _LIMITS * std), deming_slope(pairs), _r2(pairs),
    )  # fmt: skip


def _interval(pairs: Sequence[Pair], bias: float) -> tuple[float, float] | None:
    """95 % interval of the bias, its error from the sums of the images (clustered)."""
    sums: dict[str, float] = defaultdict(float)
    for pair in pairs:
        sums[pair.image] += pair.delta - bias
    images = len(sums)
    if images < 2:  # noqa: PLR2004 - one image does not show how others would differ
        return None
    squares = sum(value**2 for value in sums.values())
    error = math.sqrt(images / (images - 1) * squares) / len(pairs)
    half = confidence_factor(images) * error
    return bias - half, bias + half


def deming_slope(pairs: Sequence[Pair]) -> float | None:
    """Slope of model over label with errors in both; None if the labels do not vary.

    The ratio of the errors is that of the stated uncertainties, else 1.

    Example:
        >>> round(deming_slope([Pair("a", x, 1.1 * x) for x in (20, 30, 40)]), 6)
        1.1
    """
    x, y = [pair.label for pair in pairs], [pair.model for pair in pairs]
    spread = statistics.variance(x) if len(set(x)) > 1 else 0.0
    if not spread:
        return None
    other, common = statistics.variance(y), statistics.covariance(x, y)
    if not common:
        return None
    ratio = _error_ratio(pairs)
    difference = other - ratio * spread
    root = math.sqrt(difference**2 + 4 * ratio * common**2)
    return (difference + root) / (2 * common)


def _error_ratio(pairs: Sequence[Pair]) -> float:
    """Variance of the model's error over that of the label's."""
    stated = [(one.label_u, one.model_u) for one in pairs if one.label_u and one.model_u]
    if len(stated) < len(pairs):
        return 1.0
    return sum(model**2 for _, model in stated) / sum(label**2 for label, _ in stated)


def _r2(pairs: Sequence[Pair]) -> float | None:
    x, y = [pair.label for pair in pairs], [pair.model for pair in pairs]
    if len(set(x)) < 2 or len(set(y)) < 2:  # noqa: PLR2004 - of a constant there is none
        return None
    return statistics.correlation(x, y) ** 2


def compare(database: CdDatabase) -> list[Comparison]:
    """Compare each model's CDs with those of the drawn labels, in their unit and in pixels."""
    paired = list(
        database.query(
            "select pair.*, truth_run as run_id, runs.flags as model_flags"
            " from label_vs_model pair join runs on runs.id = model_run"
        )
    )
    matched = {
        (row["model_run"], row[name]) for row in paired for name in ("truth_id", "model_row_id")
    }
    pairs: dict[Group, list[Pair]] = defaultdict(list)
    for series, row in name_series(paired):
        for unit, suffix in _scales(row):
            values = row[f"label_value{suffix}"], row[f"model_value{suffix}"]
            if None not in values:
                us = (row["label_u_value"], row["model_u_value"])
                pairs[_group(series, row, unit)].append(Pair(row["image_id"], *values, *us))
    alone: dict[tuple[Group, str], int] = defaultdict(int)
    for whose in ("truth_run", "model_run"):
        for series, row in name_series(_compared_rows(database, whose)):
            if (row["model_run"], row["id"]) not in matched:
                for unit, _ in _scales(row):
                    alone[_group(series, row, unit), whose] += 1
    groups = sorted({*pairs, *(group for group, _ in alone)}, key=str)
    return [
        Comparison(one, tuple(pairs[one]), alone[one, "truth_run"], alone[one, "model_run"])
        for one in groups
    ]


def _compared_rows(database: CdDatabase, whose: str) -> Iterable[Mapping[str, Any]]:
    """The measured CDs of all runs that have a counterpart."""
    rows = database.query(
        f"with newest as ({NEWEST_RUNS}), compared as ({COMPARED_RUNS}) "  # noqa: S608 - constants
        "select m.*, compared.model_run, newest.flags as model_flags, recipes.name as recipe,"
        " recipes.version as recipe_version, models.name as model,"
        " models.version as model_version from compared"
        f" join measurements m on m.run_id = compared.{whose}"
        " join newest on newest.id = compared.model_run"
        " join recipes on recipes.id = compared.recipe_id"
        " join models on models.id = compared.model_id"
    )
    return filter(is_counted, rows)


def _scales(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Units in which a row can be compared, with the suffix of its columns."""
    if row["unit"] in ("deg", "ratio"):
        return [(row["unit"], "")]
    in_px = (row["unit"].replace("nm", "px"), "_px")
    known = row["label_value"] if "label_value" in row else row["value"]
    return [in_px] if known is None else [(row["unit"], ""), in_px]


def _group(series: str, row: Mapping[str, Any], unit: str) -> Group:
    model = f"{row['model']} {row['model_version'] or ''}".strip()
    recipe = f"{row['recipe']} {row['recipe_version']}"
    seen = "trained on" if _IS_TRAINED_ON in row["model_flags"] else ""
    return Group(recipe, model, series, row["side"], unit, seen)


def model_errors(database: CdDatabase) -> dict[RowsOfModel, float]:
    """How far each model's CDs are off from drawn labels, root mean square, bias included.

    In pixels, degrees or as ratios, as `MeasuredCD` has them; of series with five images or more
    that the model was not trained on. The bias is part of it, since nobody takes it off the CDs:
    an uncertainty of the scatter alone would leave the truth out of reach of a model that is
    always 2 px too wide. Rounded, since it is part of what names a run.
    """
    rows = database.query(
        "select model_id, recipe_id, measurement, side, part, quantity,"
        " avg(coalesce(delta_px, delta) * coalesce(delta_px, delta)) as square"
        " from label_vs_model where model_run in (select id from runs where flags not like ?)"
        " group by model_id, recipe_id, measurement, side, part, quantity"
        " having count(distinct image_id) >= ?",
        [f"%{_IS_TRAINED_ON}%", _LEAST_IMAGES],
    )
    return {
        RowsOfModel(*list(row.values())[:-1]): round(math.sqrt(row["square"]), _ERROR_DIGITS)
        for row in rows
    }
