"""Image means in their order in time → control charts: is the process the one it was?

Limits come from a baseline: all points, or the first ones, frozen. Instances of one image share its
scale and its tilt, so a point is always the mean of an image, and a subgroup holds such means.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backend.metrology.database import CdDatabase

_MEAN_RANGE_TO_LIMIT = 2.66  # 3 / d2, d2 = 1.128 of two values
_RANGE_LIMIT = 3.267  # D4 of two values
_SIGMAS = 3
_PAIR = 2


@dataclass(frozen=True)
class ImageMean:
    """What one image says about a series."""

    image: str
    mean: float
    n: int
    lot: str = ""
    instrument: str = ""
    acquired_at: str = ""  # ISO 8601; "" if nobody knows
    measured_at: str = ""  # the first time


@dataclass(frozen=True)
class Series:
    """Means in the order of one clock: two would put images where they never were."""

    means: tuple[ImageMean, ...]
    order: str  # which clock, for readers of a chart

    @classmethod
    def of(cls, means: Sequence[ImageMean]) -> Series:
        """Order by acquisition, or by measuring if it is unknown of any image."""
        undated = sum(not one.acquired_at for one in means)
        if not undated:
            ordered = sorted(means, key=lambda one: (one.acquired_at, one.image))
            return cls(tuple(ordered), "in the order of acquisition")
        ordered = sorted(means, key=lambda one: (one.measured_at, one.image))
        why = f"{undated} of {len(means)} have no time of acquisition"
        return cls(tuple(ordered), f"in the order of first measuring: {why}")


@dataclass(frozen=True)
class SeriesKey:
    """A series of a recipe, by source and unit."""

    recipe: str
    source: str
    measurement: str
    side: str
    unit: str


@dataclass(frozen=True)
class Chart:
    """Points with their limits; those of a subgroup depend on its size."""

    points: tuple[float, ...]
    center: float
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    baseline: int = 0  # points that the limits come from

    @property
    def signals(self) -> tuple[int, ...]:
        """Which points lie outside."""
        limits = zip(self.points, self.lower, self.upper, strict=True)
        return tuple(i for i, (point, low, high) in enumerate(limits) if not low <= point <= high)


def individuals_charts(values: Sequence[float], baseline: int | None = None) -> tuple[Chart, Chart]:
    """Charts of single values and of their moving range (I-MR).

    Args:
        values: In the order of time.
        baseline: How many of the first values the limits come from; None: all.

    Raises:
        ValueError: The baseline has fewer than two values.

    Example:
        >>> single, ranges = individuals_charts([10, 12, 11, 13])
        >>> single.center, round(single.upper[0], 3)  # mean range (2 + 1 + 2) / 3
        (11.5, 15.933)
    """
    first = list(values[:baseline])
    if len(first) < _PAIR:
        raise ValueError("limits need a baseline of two images or more")
    ranges = [abs(b - a) for a, b in pairwise(values)]
    mean, mean_range = statistics.fmean(first), statistics.fmean(ranges[: len(first) - 1])
    reach = _MEAN_RANGE_TO_LIMIT * mean_range
    single = _flat(values, mean, mean - reach, mean + reach, len(first))
    return single, _flat(ranges, mean_range, 0.0, _RANGE_LIMIT * mean_range, len(first) - 1)


def subgroup_charts(
    groups: Sequence[Sequence[float]], baseline: int | None = None
) -> tuple[Chart, Chart]:
    """Charts of the means and the standard deviations of subgroups (X-bar and S).

    Args:
        groups: Values of each subgroup, in the order of time.
        baseline: How many of the first subgroups the limits come from; None: all.

    Raises:
        ValueError: A subgroup has fewer than two values, or there is no subgroup.
    """
    if not groups or min(map(len, groups)) < _PAIR:
        raise ValueError("an X-bar chart needs two images or more in each lot or subgroup")
    means, stds = (
        [statistics.fmean(one) for one in groups],
        [statistics.stdev(one) for one in groups],
    )
    first = groups[:baseline]
    center = statistics.fmean(value for one in first for value in one)
    sigma = statistics.fmean(statistics.stdev(one) / c4(len(one)) for one in first)
    reach = [_SIGMAS * sigma / math.sqrt(len(one)) for one in groups]
    expected = [c4(len(one)) * sigma for one in groups]
    spread = [_SIGMAS * sigma * math.sqrt(1 - c4(len(one)) ** 2) for one in groups]
    of_means = Chart(
        tuple(means),
        center,
        tuple(center - r for r in reach),
        tuple(center + r for r in reach),
        len(first),
    )
    low = tuple(max(0.0, e - s) for e, s in zip(expected, spread, strict=True))
    high = tuple(e + s for e, s in zip(expected, spread, strict=True))
    return of_means, Chart(tuple(stds), statistics.fmean(expected), low, high, len(first))


def c4(n: int) -> float:
    """How much smaller than sigma the standard deviation of n values is on average.

    Example:
        >>> round(c4(2), 4), round(c4(5), 4)
        (0.7979, 0.94)
    """
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def image_means(database: CdDatabase) -> dict[SeriesKey, Series]:
    """The means of each series, newest run of each image."""
    rows = database.query(
        "select images.name as image, images.lot, images.instrument, images.acquired_at,"
        " recipes.name as recipe, runs.source, s.measurement, s.side, s.unit, s.n, s.mean,"
        # a run that was rescaled or made again says nothing of when the image was new
        " (select min(created_at) from runs r where r.image_id = images.id) as measured_at"
        " from measurement_stats s"
        " join runs on runs.id = s.run_id join images on images.id = runs.image_id"
        " join recipes on recipes.id = runs.recipe_id"
        " where s.mean is not null and s.run_id in (select run_id from measurement_latest)"
    )
    found: dict[SeriesKey, list[ImageMean]] = defaultdict(list)
    for row in rows:
        key = SeriesKey(row["recipe"], row["source"], row["measurement"], row["side"], row["unit"])
        told = (row[name] or "" for name in ("lot", "instrument", "acquired_at", "measured_at"))
        found[key].append(ImageMean(row["image"], row["mean"], row["n"], *told))
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    return {key: Series.of(means) for key, means in ordered}


def _flat(
    points: Sequence[float], center: float, lower: float, upper: float, baseline: int
) -> Chart:
    count = len(points)
    return Chart(tuple(points), center, (lower,) * count, (upper,) * count, baseline)
