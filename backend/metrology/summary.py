"""The statistics of one image: rows of measurements → rows of `measurement_stats`.

Instances of one image share its scale and its tilt, so these figures describe the image; across
images its means are compared, and instances are never pooled.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import special

from backend.metrology.recipe import Statistic
from backend.metrology.results import UNEVEN

_CONFIDENCE = 0.95


def summarize(values: Sequence[float]) -> dict[str, float | int | None]:
    """Statistics of some values; None where there are too few for one.

    Example:
        >>> found = summarize([21.0, 22.0, 23.0])
        >>> found["mean"], found["std"], found["three_sigma"], found["range"]
        (22.0, 1.0, 3.0, 2.0)
        >>> round(found["ci95_high"], 3)  # 22 + 4.303 / sqrt(3)
        24.484
    """
    n = len(values)
    if not n:
        return {
            "n": 0,
            **dict.fromkeys(("mean", "median", "min", "max", "range")),
            **_spread(values),
        }
    low, high = min(values), max(values)
    return {
        "n": n,
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "min": low,
        "max": high,
        "range": high - low,
        **_spread(values),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    n = len(values)
    if n < 2:  # noqa: PLR2004 - one value shows no spread
        return dict.fromkeys(("std", "three_sigma", "ci95_low", "ci95_high"))
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = confidence_factor(n) * std / math.sqrt(n)
    return {"std": std, "three_sigma": 3 * std, "ci95_low": mean - half, "ci95_high": mean + half}


def confidence_factor(n: int) -> float:
    """Half the width of the 95 % confidence interval of n values, in standard errors."""
    return float(special.stdtrit(n - 1, (1 + _CONFIDENCE) / 2))  # quantile of Student's t


def is_counted(row: Mapping[str, Any]) -> bool:
    """Whether a row of `measurements` counts in statistics, comparisons and tables of values.

    A missing or failed measurement has no value. A gap in which a structure may be lost has one,
    but it is that of two gaps: in a mean it would look like a change of the process.
    """
    return row["status"] in ("ok", "flagged") and UNEVEN not in row["flags"]


def summarize_run(
    rows: Iterable[Mapping[str, Any]], wanted: Sequence[Statistic]
) -> list[dict[str, Any]]:
    """Statistics over the instances, a row for each series and side of the measured `rows`.

    Args:
        rows: Rows of the table `measurements`, all of one run.
        wanted: Which statistics the recipe asks for; n is always told.
    """
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for series, row in name_series(rows):
        values = groups[series, row["side"], _unit(row)]
        value = row["value_px"] if _is_in_px(row) else row["value"]
        if is_counted(row) and value is not None:
            values.append(value)
    columns = {"n", *wanted} | ({"ci95_low", "ci95_high"} if "ci95" in wanted else set())
    return [
        {"measurement": series, "side": side, "unit": unit}
        | {name: value if name in columns else None for name, value in summarize(values).items()}
        for (series, side, unit), values in groups.items()
    ]


def name_series(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name what may be averaged over instances: `gox_t`, its `gox_t.max`, the level `gate_w@0.3`.

    Minima are not averaged with maxima, nor the levels of a sweep with each other.
    """
    listed = list(rows)
    levels: dict[tuple[Any, ...], set[float | None]] = defaultdict(set)
    for row in listed:
        levels[_place(row)].add(row["at_fraction"])
    swept = {(place[0], place[-1]) for place, found in levels.items() if len(found) > 1}
    return [(_series(row, swept), row) for row in listed]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A measurement of an instance; the widest place of each may lie at a level of its own."""
    return row["measurement"], row["run_id"], row["instance"], row["side"], row["quantity"]


def _series(row: Mapping[str, Any], swept: set[tuple[str, str]]) -> str:
    name, quantity = row["measurement"], row["quantity"]
    suffix = "" if quantity in ("", "mean") else f".{quantity}"
    is_level = (name, quantity) in swept and row["at_fraction"] is not None
    return name + suffix + (f"@{row['at_fraction']:g}" if is_level else "")


def _is_in_px(row: Mapping[str, Any]) -> bool:
    """Tell whether a length has no nanometres, for want of a calibration."""
    return row["unit"] in ("nm", "nm^2") and "uncalibrated" in row["flags"]


def _unit(row: Mapping[str, Any]) -> str:
    return row["unit"].replace("nm", "px") if _is_in_px(row) else row["unit"]
