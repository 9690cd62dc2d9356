"""Figures show each image, and say what cannot be drawn from so few."""

import io

import numpy as np
import pytest
from PIL import Image

from backend.metrology.agreement import Comparison, Group, Pair, agreement
from backend.metrology.control_charts import ImageMean, Series, SeriesKey
from backend.metrology.report_figures import draw_agreement, draw_series, to_png

KEY = SeriesKey("gate", "ground_truth", "gate_mcd", "", "nm")
GROUP = Group("gate 1", "segmentation 3", "gate_mcd", "", "nm")


def means_of(*values, lots="aabb"):
    """Image means, each image of a lot, taken one after the other."""
    named = enumerate(zip(values, lots, strict=True))
    return Series.of([ImageMean(f"{i}.tif", value, 3, lot, "A", f"2026-01-0{i + 1}")
                      for i, (value, lot) in named])  # fmt: skip


def panels_of(figure):
    """Panels by their title."""
    return {ax.get_title(): ax for ax in figure.axes}


def test_each_image_is_a_point_of_the_chart():
    """In its order, with limits of a frozen baseline, and the one outside marked."""
    means = means_of(10.0, 10.1, 9.9, 10.0, 12.0, lots="aaaab")

    ax = panels_of(draw_series(KEY, means, baseline=4))["image means"]

    assert ax.lines[0].get_ydata() == pytest.approx([10.0, 10.1, 9.9, 10.0, 12.0])
    marked = ax.lines[-1]
    assert list(marked.get_xdata()) == [4]


@pytest.mark.parametrize(("count", "words"), [(3, ["limits of 3 points: provisional below 20"]),
                                              (20, [])])  # fmt: skip
def test_limits_of_few_points_are_called_provisional(count, words):
    """They hold almost everything, a width below zero too."""
    means = [ImageMean(f"{i:02}.tif", 10 + i % 3, 3, "", "A", f"2026-01-{i + 1:02}")
             for i in range(count)]  # fmt: skip
    ax = panels_of(draw_series(KEY, Series.of(means)))["image means"]
    assert [text.get_text() for text in ax.texts] == words


def test_a_chart_says_which_clock_orders_it():
    """Where one image has no date, none is placed by its date."""
    dated = means_of(10.0, 11.0, 12.0, lots="aaa")
    undated = Series.of([*dated.means[:2], ImageMean("x.tif", 12.0, 3, "a", "A")])

    for series, words in ((dated, "of acquisition"), (undated, "of first measuring: 1 of 3")):
        panels = panels_of(draw_series(KEY, series))
        assert all(words in panels[name].get_xlabel() for name in ("image means", "moving range"))


def test_lots_are_subgroups():
    """Two lots, the mean of each a point."""
    panels = panels_of(draw_series(KEY, means_of(10.0, 12.0, 20.0, 22.0)))

    assert panels["means of lots"].lines[0].get_ydata() == pytest.approx([11, 21])
    boxes = panels["image means by lot"]
    assert [text.get_text() for text in boxes.get_xticklabels()] == ["a (n=2)", "b (n=2)"]


def test_too_few_images_say_so():
    """One image: no limits, no empty panel, no error."""
    panels = panels_of(draw_series(KEY, means_of(10.0, lots="a")))

    for name in ("image means", "means of lots"):
        assert "two images" in panels[name].texts[0].get_text().replace("\n", " ")


def test_images_without_a_lot_are_no_subgroup():
    """Nothing holds them together."""
    panels = panels_of(draw_series(KEY, means_of(10.0, 11.0, 12.0, lots=["", "", ""])))

    assert "two images" in panels["means of lots"].texts[0].get_text().replace("\n", " ")


def test_agreement_shows_bias_and_limits():
    """Differences over means, lines at the bias and at both limits."""
    pairs = (Pair("a", 20, 21), Pair("a", 30, 33), Pair("b", 25, 27))
    found = agreement(pairs)

    scatter, differences = draw_agreement(Comparison(GROUP, pairs), found).axes

    assert scatter.lines[1].get_xdata() == pytest.approx([20, 30, 25])
    heights = {
        round(float(np.atleast_1d(line.get_ydata())[0]), 6) for line in differences.lines[2:]
    }
    assert heights == {round(value, 6) for value in (found.bias, *found.limits)}


def test_one_pair_can_be_drawn():
    """Without a slope and without limits."""
    pairs = (Pair("a", 20, 21),)

    png = to_png(draw_agreement(Comparison(GROUP, pairs), agreement(pairs)))

    with Image.open(io.BytesIO(png)) as image:
        assert min(image.size) > 300
