"""The paper's figures, drawn from an evaluation: a table of turns → PNG files.

Figs. 5 to 7 are curves; Figs. 8 and 9 show how maps and recommended boxes change over the turns.
Two more show what the paper does not: where the errors are, and which annotator gets how far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from backend.arrays import UNLABELED, LabelMap
from backend.learning.evaluation import ShowMaps, by, means
from backend.learning.guide import Prediction
from backend.learning.labeled_images import LabeledImage
from backend.learning.replay import STROKE_S, Run, Turn
from backend.learning.scores import reliability, score
from backend.learning.spots import Spot
from backend.microscope.images import to_gray

MAX_MAPS = 5
"""Turns shown side by side."""
ELAPSED = f"elapsed time, s ({STROKE_S:g} s a stroke assumed)"

_PANEL_INCHES = 4.0
_COLUMNS = 3
_DPI = 110
_COLOR_COUNT = 10
_STRAIGHT_LINE = 1

Draw = Callable[[Axes, Sequence[Turn]], None]
"""Draws turns into a panel."""


def draw_curves(turns: Sequence[Turn], folder: Path) -> list[Path]:
    """Draw all curves into `folder`; those of Figs. 5 to 7 for the first annotator of the table.

    Returns:
        The files written.
    """
    first = next(iter(by(turns, "annotator").values()), [])
    figures = {
        "fig5_accuracy": panels(by(first, "data_set"), _draw_accuracy),
        "fig6_elapsed": panels(by(first, "method"), _draw_elapsed),
        "fig7_accuracy_over_time": panels(by(first, "data_set"), _draw_accuracy_over_time),
        "errors_in_spots": panels(by(turns, "method"), _draw_errors_in_spots),
        "annotators": panels(by(turns, "method"), _draw_annotators),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=_DPI)
    return paths


def maps_drawer(folder: Path) -> ShowMaps:
    """Return what draws the maps of a run into `folder`."""
    return partial(_save_maps, folder)


def draw_maps(image: LabeledImage, predictions: Sequence[Prediction]) -> Figure:
    """Draw segmentation and uncertainty over the turns, with the recommended boxes.

    Args:
        image: Image and truth are shown in the first column.
        predictions: One a turn, the first turn first; at most `MAX_MAPS` of them are shown.
    """
    count = min(MAX_MAPS, len(predictions))
    shown = np.unique(np.linspace(0, len(predictions) - 1, count).round().astype(int)).tolist()
    figure = Figure((2.6 * (len(shown) + 1), 5.6), layout="constrained")
    axes = figure.subplots(2, len(shown) + 1, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 0].imshow(to_gray(image.image), cmap="gray")
    axes[0, 0].set_title("image")
    _show_classes(axes[1, 0], image.truth)
    axes[1, 0].set_title("truth")
    for column, index in enumerate(shown, start=1):
        prediction = predictions[index]
        _show_classes(axes[0, column], prediction.label_map)
        _show_boxes(axes[0, column], prediction.spots)
        accuracy = score(prediction.label_map, image.truth, ()).accuracy
        axes[0, column].set_title(f"turn {index + 1}: {100 * accuracy:.1f} %")
        axes[1, column].imshow(prediction.uncertainty, cmap="jet", vmin=0, vmax=1)
        axes[1, column].set_title(f"mean uncertainty {prediction.uncertainty.mean():.2f}")
    return figure


def draw_reliability(image: LabeledImage, predictions: Sequence[Prediction]) -> Figure:
    """Draw how often answers are right against how sure they are, a line a turn."""
    figure = Figure((_PANEL_INCHES, _PANEL_INCHES), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], "k--", lw=0.8)
    for turn, prediction in enumerate(predictions, start=1):
        measured = reliability(prediction.probabilities, image.truth)
        label = f"turn {turn}, error {measured.expected_calibration_error:.3f}"
        ax.plot(measured.confidence, measured.accuracy, marker="o", label=label)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    ax.legend(fontsize="x-small")
    return figure


def panels(groups: Mapping[str, Sequence[Turn]], draw: Draw) -> Figure:
    """Draw each group of turns into a panel of its own; one legend if all panels name the same."""
    columns = min(_COLUMNS, max(1, len(groups)))
    rows = max(1, math.ceil(len(groups) / columns))
    size = (_PANEL_INCHES * columns, 0.8 * _PANEL_INCHES * rows)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, turns) in zip(axes, groups.items(), strict=False):
        ax.set_axis_on()
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(name)
        ax.set_prop_cycle(color=mpl.colormaps["tab20"].colors)  # type: ignore[attr-defined]
        draw(ax, turns)
    legends = [ax.get_legend_handles_labels() for ax in axes[: len(groups)]]
    if len(legends) > 1 and all(labels == legends[0][1] for _, labels in legends):
        figure.legend(*legends[0], loc="outside right upper", fontsize="small")
    else:
        for ax in axes[: len(groups)]:
            ax.legend(fontsize="x-small")
    return figure


def straight_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit a line; return its slope, its value at 0, and R², NaN if all `y` are equal.

    Example:
        >>> slope, start, r2 = straight_line(np.array([1.0, 2, 3]), np.array([3.0, 5, 7]))
        >>> round(slope, 6), round(start, 6), round(r2, 6)
        (2.0, 1.0, 1.0)
    """
    slope, start = np.polyfit(x, y, _STRAIGHT_LINE)
    spread = float(((y - y.mean()) ** 2).sum())
    rest = float(((y - slope * x - start) ** 2).sum())
    return float(slope), float(start), 1 - rest / spread if spread else math.nan


def _draw_accuracy(ax: Axes, turns: Sequence[Turn]) -> None:
    """Fig. 5: mean of all images and seeds, error bars of one standard deviation."""
    for method, group in by(turns, "method").items():
        at = means(group, "accuracy")
        deviations = [np.std([turn.accuracy for turn in same]) for same in _by_turn(group)]
        ax.errorbar(list(at), list(at.values()), deviations, marker="o", capsize=2, label=method)
    ax.set(xlabel="turn", ylabel="all-pixel accuracy")
    ax.grid(alpha=0.3)


def _draw_elapsed(ax: Axes, turns: Sequence[Turn]) -> None:
    """Fig. 6: one thin line a run, the mean dashed, and the line fitted to it."""
    for run in by(turns, "run").values():
        ax.plot([turn.turn for turn in run], [turn.elapsed_s for turn in run], lw=0.7, alpha=0.6)
    mean = means(turns, "elapsed_s")
    x, y = np.array(list(mean), float), np.array(list(mean.values()))
    ax.plot(x, y, "k--", label="mean")
    if len(x) > 1:
        slope, start, r2 = straight_line(x, y)
        ax.plot(x, slope * x + start, "r--", label=f"{slope:.1f} s a turn, R² = {r2:.3f}")
    ax.set(xlabel="turn", ylabel=ELAPSED)


def _draw_accuracy_over_time(ax: Axes, turns: Sequence[Turn]) -> None:
    """Fig. 7: means of all images and seeds, a dot a turn."""
    for method, group in by(turns, "method").items():
        seconds, accuracy = means(group, "elapsed_s"), means(group, "accuracy")
        ax.plot(list(seconds.values()), list(accuracy.values()), marker="o", label=method)
    ax.set(xlabel=ELAPSED, ylabel="all-pixel accuracy")
    ax.grid(alpha=0.3)


def _draw_errors_in_spots(ax: Axes, turns: Sequence[Turn]) -> None:
    """Error rate inside the recommended boxes against that elsewhere."""
    for attribute, label in (("error_in_spots", "in the boxes"), ("error_elsewhere", "elsewhere")):
        at = means(turns, attribute)
        ax.plot(list(at), list(at.values()), marker="o", label=label)
    ax.set(xlabel="turn", ylabel="error rate", ylim=(0, None))


def _draw_annotators(ax: Axes, turns: Sequence[Turn]) -> None:
    """Accuracy against what was drawn: recommended spots against random ones, and the others."""
    for annotator, group in by(turns, "annotator").items():
        strokes, accuracy = means(group, "strokes"), means(group, "accuracy")
        ax.plot(list(strokes.values()), list(accuracy.values()), marker="o", label=annotator)
    ax.set(xlabel="strokes", ylabel="all-pixel accuracy")
    ax.grid(alpha=0.3)


def _by_turn(turns: Sequence[Turn]) -> list[list[Turn]]:
    return [group for _, group in sorted(by(turns, "turn").items())]


def _save_maps(
    folder: Path, image: LabeledImage, run: Run, predictions: Sequence[Prediction]
) -> None:
    """Write the maps of one run and their reliability, named after data set and method."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, draw in (("fig89", draw_maps), ("reliability", draw_reliability)):
        name = re.sub(r"\W+", "_", f"{kind}_{run.data_set}_{run.method}")
        draw(image, predictions).savefig(folder / f"{name}.png", dpi=_DPI)


def _show_classes(ax: Axes, label_map: LabelMap) -> None:
    colors = mpl.colormaps["tab10"](label_map % _COLOR_COUNT)
    colors[label_map == UNLABELED] = 1  # white
    ax.imshow(colors, interpolation="nearest")


def _show_boxes(ax: Axes, spots: Sequence[Spot]) -> None:
    for spot in spots:
        corner = (spot.column, spot.row)
        ax.add_patch(Rectangle(corner, spot.width, spot.height, fill=False, color="yellow", lw=1.5))
