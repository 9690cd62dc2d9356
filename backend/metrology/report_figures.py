"""Figures of a report on CDs: is the process steady, do lots and microscopes agree, does a model?

Points are means of images. What cannot be drawn from so few says so in its panel.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backend.metrology.agreement import Agreement, Comparison
from backend.metrology.control_charts import (
    Chart,
    ImageMean,
    Series,
    SeriesKey,
    individuals_charts,
    subgroup_charts,
)

_DPI = 100
_PANEL_INCHES = (4.4, 3.2)
_SIGNAL, _POINT = "#c62828", "#1565c0"
_ENOUGH = 20  # points, before limits are what a process can be judged by
_COLUMNS = 34  # of text in a panel


def draw_series(key: SeriesKey, series: Series, baseline: int | None = None) -> Figure:
    """Draw control charts and box plots of a series.

    Args:
        key: Whose means they are.
        series: One for each image, in the order of time.
        baseline: How many of the first images the limits of single values come from; None: all.
    """
    figure = Figure((3 * _PANEL_INCHES[0], 2 * _PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(2, 3)
    means = series.means
    values = [one.mean for one in means]
    labels = [one.image for one in means]
    _draw_charts(
        (axes[0, 0], axes[1, 0]), ("image means", "moving range"),
        lambda: individuals_charts(values, baseline), (labels, labels[1:]),
    )  # fmt: skip
    lots = _grouped(means, lambda one: one.lot)
    told = {name: values for name, values in lots.items() if name}
    _draw_charts(
        (axes[0, 1], axes[1, 1]), ("means of lots", "standard deviations of lots"),
        lambda: subgroup_charts(list(told.values())), (list(told), list(told)),
    )  # fmt: skip
    _draw_boxes(axes[0, 2], lots, "lot")
    _draw_boxes(axes[1, 2], _grouped(means, lambda one: one.instrument), "microscope")
    for ax in axes.flat:
        ax.set_ylabel(key.unit)
    for ax in axes[:, :2].flat:
        ax.set_xlabel(series.order, fontsize="x-small")
    side = f", {key.side}" if key.side else ""
    figure.suptitle(f"{key.measurement}{side} ({key.unit}), recipe {key.recipe}, {key.source}")
    return figure


def draw_agreement(comparison: Comparison, found: Agreement) -> Figure:
    """Draw a model's CDs over those of drawn labels, and their differences (Bland-Altman)."""
    group = comparison.group
    figure = Figure((2 * _PANEL_INCHES[0], 1.2 * _PANEL_INCHES[1]), layout="constrained")
    scatter, differences = figure.subplots(1, 2)
    x, y = [one.label for one in comparison.pairs], [one.model for one in comparison.pairs]
    ends = (min(*x, *y), max(*x, *y))
    scatter.plot(ends, ends, "k--", lw=0.8, label="equal")
    scatter.plot(x, y, "o", ms=4, color=_POINT, alpha=0.7)
    if found.slope is not None:
        middle = (sum(x) / len(x), sum(y) / len(y))
        label = f"slope {found.slope:.3f}" + (
            f", R² {found.r2:.3f}" if found.r2 is not None else ""
        )
        scatter.axline(middle, slope=found.slope, color=_SIGNAL, lw=0.8, label=label)
    scatter.set(xlabel=f"drawn labels, {group.unit}", ylabel=f"model, {group.unit}")
    scatter.legend(fontsize="x-small")
    mean = [(a + b) / 2 for a, b in zip(x, y, strict=True)]
    differences.plot(
        mean, [one.delta for one in comparison.pairs], "o", ms=4, color=_POINT, alpha=0.7
    )
    differences.axhline(0, color="k", lw=0.8, ls="--")
    if found.bias is not None:
        differences.axhline(found.bias, color=_SIGNAL, lw=1, label=f"bias {found.bias:.3f}")
    for limit in found.limits or ():
        differences.axhline(limit, color=_SIGNAL, lw=0.8, ls=":", label=f"limit {limit:.3f}")
    differences.set(xlabel=f"mean of both, {group.unit}", ylabel=f"model - label, {group.unit}")
    differences.legend(fontsize="x-small")
    side = f", {group.side}" if group.side else ""
    seen = ", images it was trained on" if group.seen else ""
    figure.suptitle(
        f"{group.measurement}{side}, recipe {group.recipe}, model {group.model}{seen}\n"
        f"{found.pairs} CDs on {found.images} images",
        fontsize="medium",
    )
    return figure


def to_png(figure: Figure) -> bytes:
    """Write a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png")
    return buffer.getvalue()


def _draw_charts(
    axes: tuple[Axes, Axes],
    titles: tuple[str, str],
    make: Callable[[], tuple[Chart, Chart]],
    labels: tuple[Sequence[str], Sequence[str]],
) -> None:
    """Draw two charts, or tell in their place why there are none."""
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize="medium")
    try:
        charts = make()
    except ValueError as error:
        for ax in axes:
            why = textwrap.fill(str(error), _COLUMNS)
            ax.text(0.5, 0.5, why, ha="center", va="center", fontsize="small")
            ax.set(xticks=[], yticks=[])
        return
    for ax, chart, names in zip(axes, charts, labels, strict=True):
        _draw_chart(ax, chart, names)
    baseline = charts[0].baseline
    if baseline < _ENOUGH:  # such limits hold almost everything
        for ax in axes:
            ax.text(
                0.5, 0.97, f"limits of {baseline} points: provisional below {_ENOUGH}",
                transform=ax.transAxes, ha="center", va="top", fontsize="x-small", color=_SIGNAL,
            )  # fmt: skip


def _draw_chart(ax: Axes, chart: Chart, names: Sequence[str]) -> None:
    places = range(len(chart.points))
    ax.plot(places, chart.points, marker="o", ms=4, lw=0.8, color=_POINT)
    ax.axhline(chart.center, color="k", lw=0.8)
    for limits in (chart.lower, chart.upper):
        ax.step(places, limits, where="mid", color=_SIGNAL, lw=0.8, ls="--")
    outside = chart.signals
    ax.plot(outside, [chart.points[i] for i in outside], "o", ms=8, mfc="none", color=_SIGNAL)
    shown = list(places)[:: max(1, len(names) // 8)]
    ax.set_xticks(shown, [names[i] for i in shown], rotation=30, ha="right", fontsize="x-small")


def _draw_boxes(ax: Axes, groups: dict[str, list[float]], what: str) -> None:
    """Box plots of image means, each mean a dot: a box of three is no distribution."""
    ax.set_title(f"image means by {what}", fontsize="medium")
    ax.boxplot(list(groups.values()), showfliers=False)
    for place, values in enumerate(groups.values(), start=1):
        ax.plot([place] * len(values), values, "o", ms=3, color=_POINT, alpha=0.6)
    names = [f"{name or 'not told'} (n={len(values)})" for name, values in groups.items()]
    ax.set_xticks(range(1, len(groups) + 1), names, rotation=30, ha="right", fontsize="x-small")


def _grouped(
    means: Sequence[ImageMean], name: Callable[[ImageMean], str]
) -> dict[str, list[float]]:
    """Means by lot or microscope, each group in the place of its first image."""
    groups: dict[str, list[float]] = {}
    for one in means:
        groups.setdefault(name(one), []).append(one.mean)
    return groups
