"""Pictures of how a shared model was trained and what it gets wrong, as PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from backend.arrays import UNLABELED, LabelMap
from backend.learning.cross_validation import SharedTraining, confusion_of
from backend.learning.scores import class_ious
from backend.learning.segmentation_data import TrainingData, TrainingImage
from backend.learning.segmentation_training import Measurement

MAX_OVERLAYS = 6
"""Images that are shown: those with the lowest IoU."""

_DPI = 110
_COLOR_COUNT = 10
_MAX_NUMBERED = 12
"""Classes up to which the cells of the confusion matrix hold numbers one can read."""


def report_files(training: SharedTraining, data: TrainingData) -> dict[str, bytes]:
    """Draw the report: curves, and if anything was held out confusion, IoU and overlays.

    Returns:
        PNG files by name.
    """
    figures = {"curves.png": draw_curves(training)}
    if training.by_image:
        confusion = confusion_of(training.by_image)
        figures["confusion.png"] = draw_confusion(confusion, data.materials)
        figures["materials.png"] = draw_materials(confusion, data.materials)
        figures["overlays.png"] = draw_overlays(training, data)
    return {name: _to_png(figure) for name, figure in figures.items()}


def draw_curves(training: SharedTraining) -> Figure:
    """Draw loss and IoU over the steps, a color a fold; the best step of a fold is marked."""
    figure = Figure((9.0, 4.0), layout="constrained")
    losses, ious = figure.subplots(1, 2)
    for number, fold in enumerate([*training.by_image, *training.by_equipment]):
        color = f"C{number % _COLOR_COUNT}"
        _draw_losses(losses, fold.curve, fold.name, color)
        steps = [point.step for point in fold.curve]
        shown = [
            np.nan if point.held_out_iou is None else point.held_out_iou for point in fold.curve
        ]
        ious.plot(steps, shown, color=color, marker=".", label=fold.name)
        best = fold.best_epoch - 1
        ious.plot(
            steps[best], shown[best], color=color, marker="o", fillstyle="none", markersize=10
        )
    _draw_losses(losses, training.curve, "all images", "black")
    losses.set(xlabel="step", ylabel="loss (dashed: of images held out)", yscale="log")
    losses.legend(fontsize="x-small")
    ious.set(xlabel="step", ylabel="mean IoU of images held out")
    ious.set_title(
        "the circles are slightly optimistic:\nbest steps on these images", fontsize="small"
    )
    ious.grid(alpha=0.3)
    return figure


def draw_confusion(confusion: NDArray[np.int64], materials: Sequence[str]) -> Figure:
    """Draw which share of each material was taken for which, in percent."""
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.5 * min(len(materials), 30)
    figure = Figure((side + 1, side), layout="constrained")
    ax = figure.subplots()
    picture = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, label="percent of the true pixels")
    ax.set_xticks(range(len(materials)), materials, rotation=45, ha="right")
    ax.set_yticks(range(len(materials)), materials)
    ax.set(xlabel="given", ylabel="true")
    if len(materials) <= _MAX_NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            color = "white" if share > 50 else "black"  # noqa: PLR2004 - half of the scale
            ax.text(column, row, f"{share:.1f}", ha="center", va="center", color=color, size=8)
    return figure


def draw_materials(confusion: NDArray[np.int64], materials: Sequence[str]) -> Figure:
    """Draw the IoU of each material, of all pixels held out."""
    ious = class_ious(confusion)
    figure = Figure((6.0, 1.0 + 0.35 * len(materials)), layout="constrained")
    ax = figure.subplots()
    bars = ax.barh(range(len(materials)), np.nan_to_num(ious))
    labels = ["none" if np.isnan(iou) else f"{iou:.3f}" for iou in ious]
    ax.bar_label(bars, labels, label_type="center", color="white")
    ax.set_yticks(range(len(materials)), materials)
    ax.set(xlabel="IoU", xlim=(0, 1))
    ax.invert_yaxis()
    return figure


def draw_overlays(training: SharedTraining, data: TrainingData) -> Figure:
    """Draw the images with the lowest IoU: themselves, truth, answer and what is wrong in red."""
    ious = {
        name: one["mean_iou"] for fold in training.by_image for name, one in fold.scores.items()
    }
    worst = sorted(data.images, key=lambda image: ious[image.name])[:MAX_OVERLAYS]
    figure = Figure((11.0, 2.9 * len(worst)), layout="constrained")
    for row, image in zip(figure.subplots(len(worst), 4, squeeze=False), worst, strict=True):
        with Image.open(training.answers[image.name]) as file:
            answer: LabelMap = np.asarray(file)
        _draw_overlay(row, image, answer)
        row[0].set_title(f"{image.name}\nmean IoU {ious[image.name]:.3f}", fontsize="small")
    return figure


def _draw_overlay(row: Sequence[Axes], image: TrainingImage, answer: LabelMap) -> None:
    gray = image.gray.astype(np.float32)
    wrong = (answer != image.truth) & (image.truth != UNLABELED)
    errors = np.repeat(gray[..., None], 3, axis=2)
    errors[wrong] = (1, 0, 0)
    titles = (
        "",
        "truth",
        "by a network that had not seen it",
        f"wrong: {100 * wrong.mean():.2f} %",
    )
    pictures = [gray, _colors(image.truth), _colors(answer), errors]
    for ax, title, picture in zip(row, titles, pictures, strict=True):
        ax.set_axis_off()
        ax.set_title(title, fontsize="small")
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _draw_losses(ax: Axes, curve: Sequence[Measurement], name: str, color: str) -> None:
    steps = [point.step for point in curve]
    ax.plot(steps, [point.loss for point in curve], color=color, label=name)
    held_out = [(point.step, point.held_out_loss) for point in curve if point.held_out_loss]
    if held_out:
        ax.plot(*zip(*held_out, strict=True), color=color, linestyle="--")


def _colors(label_map: LabelMap) -> NDArray[np.float32]:
    """Red, green, blue and alpha for each pixel; white where the class is unknown."""
    colors = mpl.colormaps["tab10"](label_map % _COLOR_COUNT).astype(np.float32)
    colors[label_map == UNLABELED] = 1
    return colors


def _to_png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()
