"""What a task's data says of its image: pixel size, data bar, or nothing that can be used."""

import pytest

from backend.annotation.image_facts import databar_rows, task_scale
from backend.errors import InvalidTaskError


@pytest.mark.parametrize("told", ["two", True, 0, -1, float("inf"), [0.2], "1e400"])
def test_what_is_no_length_is_said(told):
    """And gives no pixel size: a wrong one would look right."""
    scale, (doubt,) = task_scale({"pixel_size_nm": told})
    assert scale is None
    assert "it is no length in nm" in doubt


def test_pixels_may_differ_in_width_and_height():
    """As an import writes them where one number would be wrong; whole numbers count too."""
    scale, doubts = task_scale({"pixel_size_x_nm": 2, "pixel_size_y_nm": 1.5})
    assert (scale.nm_per_px_x, scale.nm_per_px_y, doubts) == (2, 1.5, ())
    assert task_scale({"pixel_size_x_nm": 2}) == (None, ())


def test_one_number_comes_before_two():
    """It is what a user edits."""
    told = {"pixel_size_nm": 0.3, "pixel_size_x_nm": 0.2, "pixel_size_y_nm": 0.2}
    assert task_scale(told)[0].nm_per_px == pytest.approx(0.3)


def test_an_implausible_size_is_not_used():
    """A thousand times too large."""
    assert task_scale({"pixel_size_nm": 500}) == (
        None, ("a pixel of 500 x 500 nm is not plausible: nothing is told in nanometres",)
    )  # fmt: skip


def test_source_is_that_of_the_import_until_somebody_gives_another_size():
    """Else a note of the microscope would stand for a number it never wrote."""
    told = {"pixel_size_x_nm": 0.2, "pixel_size_y_nm": 0.2, "pixel_size_source": "metadata: axes"}
    assert task_scale({**told, "pixel_size_nm": 0.2})[0].detail == "metadata: axes"
    assert task_scale({**told, "pixel_size_nm": 0.3})[0].detail == "pixel_size_nm"
    assert task_scale({"pixel_size_nm": 0.3})[0].detail == "pixel_size_nm"


@pytest.mark.parametrize("told", [34, 34.0, "34", " 34 "])
def test_rows_of_a_data_bar_may_be_text(told):
    """As a pixel size may; Label Studio makes texts of what is edited in its pages."""
    assert databar_rows({"databar_rows": told}) == 34


@pytest.mark.parametrize("told", ["many", -1, 0.5, True, [34], float("nan"), "1e400"])
def test_what_is_no_number_of_rows_is_refused(told):
    """The letters of the bar would pass for materials."""
    with pytest.raises(InvalidTaskError, match="which is no number of rows"):
        databar_rows({"databar_rows": told})
