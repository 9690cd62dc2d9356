"""Figures: that each shows its values; looks are judged by eye."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from test_evaluation import TURN, run_with

from backend.learning import evaluation_figures
from backend.learning.evaluation_figures import (
    draw_curves,
    draw_maps,
    draw_reliability,
    maps_drawer,
    panels,
    straight_line,
)
from backend.learning.guide import Prediction
from backend.learning.labeled_images import LabeledImage
from backend.learning.spots import Spot

TRUTH = np.zeros((40, 40), np.uint8)
TRUTH[20:] = 1
IMAGE = LabeledImage("gate A 40 px", "one", TRUTH * 90, TRUTH)


def answer(wrong_rows, spots=()):
    """An answer whose first rows are wrong, the same uncertainty everywhere."""
    label_map = TRUTH.copy()
    label_map[:wrong_rows] = 1
    belief = np.full((2, 40, 40), 0.5, np.float32)
    return Prediction(belief, label_map, np.full((40, 40), 0.25, np.float32), spots)


@pytest.fixture
def turns():
    """Two runs of the guide, one of the forest."""
    return [
        *run_with([0.8, 0.9]),
        *run_with([0.6, 0.9], seed=1),
        *run_with([0.7, 0.8], method="forest"),
    ]


def lines_of(ax):
    """The values of each line, by its label."""
    handles, labels = ax.get_legend_handles_labels()
    lines = {label: getattr(handle, "lines", [handle])[0] for handle, label in
             zip(handles, labels, strict=True)}  # fmt: skip
    return {label: line.get_ydata().tolist() for label, line in lines.items()}


def test_accuracy_is_the_mean_with_the_deviation_as_bars(turns):
    """Fig. 5: of all runs of a method."""
    (ax,) = panels({"gate": turns}, evaluation_figures._draw_accuracy).axes

    assert ax.get_title() == "gate"
    np.testing.assert_allclose(lines_of(ax)["guide"], [0.7, 0.9])
    np.testing.assert_allclose(lines_of(ax)["forest"], [0.7, 0.8])
    segments = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segments[0][:, 1], [0.6, 0.8])


def test_elapsed_time_gets_a_fitted_line():
    """Fig. 6: each run thin, and seconds a turn in the legend."""
    turns = [
        replace(TURN, turn=n, seed=s, elapsed_s=10.0 * n + s) for s in (0, 2) for n in (1, 2, 3)
    ]

    (ax,) = panels({"guide": turns}, evaluation_figures._draw_elapsed).axes

    assert lines_of(ax)["mean"] == [11, 21, 31]
    np.testing.assert_allclose(lines_of(ax)["10.0 s a turn, R² = 1.000"], [11, 21, 31])
    assert len(ax.lines) == 2 + 2


def test_recommended_spots_are_held_against_random_ones():
    """A line for each annotator."""
    turns = [
        *run_with([0.6, 0.9], annotator="spots"),
        *run_with([0.6, 0.7], annotator="random"),
    ]

    (ax,) = panels({"guide": turns}, evaluation_figures._draw_annotators).axes

    assert lines_of(ax) == {"spots": [0.6, 0.9], "random": [0.6, 0.7]}


def test_all_curves_are_written(tmp_path, turns):
    """As PNG, under the paper's numbers."""
    paths = draw_curves(turns, tmp_path)

    assert [path.name for path in paths] == [
        "fig5_accuracy.png",
        "fig6_elapsed.png",
        "fig7_accuracy_over_time.png",
        "errors_in_spots.png",
        "annotators.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_one_turn_is_enough(tmp_path):
    """No line can be fitted to it, and there may be no box."""
    assert len(draw_curves([replace(TURN, error_in_spots=np.nan)], tmp_path)) == 5


def test_maps_show_accuracy_uncertainty_and_boxes():
    """Figs. 8 and 9: a column a turn beside image and truth."""
    box = Spot(3, 5, 10, 12, 1.0, "")

    figure = draw_maps(IMAGE, [answer(10, (box,)), answer(0)])

    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:3] == ["image", "turn 1: 75.0 %", "turn 2: 100.0 %"]
    assert titles[3:] == ["truth", "mean uncertainty 0.25", "mean uncertainty 0.25"]
    (drawn,) = [patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)]
    assert (drawn.get_xy(), drawn.get_width(), drawn.get_height()) == ((5, 3), 12, 10)
    assert not figure.axes[2].patches


def test_maps_of_many_turns_show_the_first_and_the_last():
    """Five columns can be read."""
    titles = [ax.get_title() for ax in draw_maps(IMAGE, [answer(0)] * 9).axes]

    shown = [title.split(":")[0] for title in titles if title.startswith("turn")]
    assert shown == ["turn 1", "turn 3", "turn 5", "turn 7", "turn 9"]


def test_reliability_shows_whether_an_answer_is_as_sure_as_it_is_right():
    """A line a turn; the bin of the probability one half is right for half of the pixels."""
    (ax,) = draw_reliability(IMAGE, [answer(0)]).axes

    line = lines_of(ax)["turn 1, error 0.000"]
    assert [y for y in line if not np.isnan(y)] == [0.5]


def test_file_of_maps_is_named_after_data_set_and_method(tmp_path):
    """In a folder that need not exist."""
    maps_drawer(tmp_path / "new")(IMAGE, TURN.run, [answer(0)])

    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "fig89_gate_A_guide.png",
        "reliability_gate_A_guide.png",
    ]


def test_line_through_equal_values_has_no_r2():
    """There is nothing to explain."""
    slope, start, r2 = straight_line(np.array([1.0, 2.0]), np.array([4.0, 4.0]))
    np.testing.assert_allclose([slope, start, r2], [0, 4, np.nan], atol=1e-9)


def test_panels_that_name_the_same_share_a_legend():
    """A legend in each would cover the curves of many methods."""
    turns = [replace(TURN, method=method) for method in ("guide", "forest")]
    shared = panels({"gate": turns, "active": turns}, evaluation_figures._draw_accuracy)
    assert [text.get_text() for text in shared.legends[0].get_texts()] == ["guide", "forest"]
    assert all(ax.get_legend() is None for ax in shared.axes)
    other = panels({"gate": turns, "active": turns[:1]}, evaluation_figures._draw_accuracy)
    assert not other.legends
    assert all(ax.get_legend() is not None for ax in other.axes)
