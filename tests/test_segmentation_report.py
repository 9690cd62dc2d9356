"""The report's pictures: that each shows its values; looks are judged by eye."""

import io

import numpy as np
import pytest
from ground_truth_folder import MATERIALS, training_image
from PIL import Image

from backend.learning import networks
from backend.learning.cross_validation import Fold, SharedTraining
from backend.learning.segmentation_data import TrainingData
from backend.learning.segmentation_report import (
    draw_confusion,
    draw_curves,
    draw_materials,
    draw_overlays,
    report_files,
)
from backend.learning.segmentation_training import Measurement

DATA = TrainingData(MATERIALS, tuple(training_image(seed) for seed in range(2)))
CURVE = (Measurement(10, 2.0, 1.8, 0.5), Measurement(20, 1.0, 0.9, 0.7))
CONFUSION = np.array([[8, 2, 0], [0, 5, 0], [0, 0, 0]])


def fold(number, iou):
    """A fold of one image."""
    scores = {f"image {number}": {"mean_iou": iou, "accuracy": iou, "edge_band_accuracy": iou}}
    return Fold(f"fold {number + 1}", scores, CONFUSION.tolist(), 2, CURVE, 1.0)


@pytest.fixture
def training(tmp_path):
    """Two folds; the answer for image 1 is wrong in its first ten rows."""
    answers = {}
    for number, image in enumerate(DATA.images):
        answer = image.truth.copy()
        answer[: 10 * number] = 2
        answers[image.name] = tmp_path / f"{number}.png"
        Image.fromarray(answer).save(answers[image.name])
    final = (Measurement(10, 2.5, None, None), Measurement(20, 1.5, None, None))
    network = networks.SharedNetwork(3, "random")
    folds = (fold(0, 0.9), fold(1, 0.6))
    return SharedTraining(network, folds, (), final, 3.0, 1, answers)


def test_report_holds_all_pictures(training):
    """As PNG."""
    files = report_files(training, DATA)
    assert list(files) == ["curves.png", "confusion.png", "materials.png", "overlays.png"]
    for content in files.values():
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            assert min(picture.size) > 100


def test_report_of_one_image_has_curves_only(training):
    """Nothing was held out."""
    alone = SharedTraining(training.network, (), (), training.curve, 3.0, 1, {})
    assert list(report_files(alone, DATA)) == ["curves.png"]


def test_curves_show_losses_and_ious(training):
    """A line a fold, dashed where held out, a ring at the best step."""
    losses, ious = draw_curves(training).axes

    lines = {line.get_label(): line.get_ydata().tolist() for line in losses.lines}
    assert (lines["fold 1"], lines["all images"]) == ([2.0, 1.0], [2.5, 1.5])
    dashed = [line.get_ydata().tolist() for line in losses.lines if line.get_linestyle() == "--"]
    assert dashed == [[1.8, 0.9]] * 2
    rings = [line.get_xydata().tolist() for line in ious.lines if line.get_marker() == "o"]
    assert rings == [[[20, 0.7]]] * 2


def test_confusion_is_in_percent_of_the_truth():
    """A material without pixels has none."""
    ax = draw_confusion(CONFUSION, MATERIALS).axes[0]
    shown = [[80, 20, 0], [0, 100, 0], [0, 0, 0]]
    np.testing.assert_allclose(ax.images[0].get_array(), shown)
    assert [text.get_text() for text in ax.texts[:2]] == ["80.0", "20.0"]


def test_many_materials_are_shown_without_numbers():
    """Nobody could read them."""
    assert not draw_confusion(np.eye(20, dtype=np.int64), [str(n) for n in range(20)]).axes[0].texts


def test_materials_have_a_bar_each():
    """IoU 8/10, 5/7, and none."""
    (ax,) = draw_materials(CONFUSION, MATERIALS).axes
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [0.8, 5 / 7, 0])
    assert [text.get_text() for text in ax.texts] == ["0.800", "0.714", "none"]


def test_overlays_begin_with_the_worst(training):
    """Errors are red, and counted."""
    axes = draw_overlays(training, DATA).axes

    assert axes[0].get_title().startswith("image 1\nmean IoU 0.600")
    assert axes[4].get_title().startswith("image 0\nmean IoU 0.900")
    wrong = (DATA.images[1].truth[:10] != 2).mean() * 10 / 80
    assert axes[3].get_title() == f"wrong: {100 * wrong:.2f} %"
    assert axes[3].images[0].get_array()[0, 0].tolist() == [1, 0, 0]
    assert axes[7].get_title() == "wrong: 0.00 %"
