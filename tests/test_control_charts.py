"""Limits by hand, from a baseline that later points do not move."""

from contextlib import closing

import numpy as np
import pytest
from cd_runs import gate_run, gates

from backend.metrology.control_charts import (
    SeriesKey,
    c4,
    image_means,
    individuals_charts,
    subgroup_charts,
)
from backend.metrology.database import open_database, write_run
from backend.metrology.rescaling import rescale
from backend.microscope.calibration import Calibration

STEADY = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8]


def test_moving_ranges_give_the_limits():
    """Ranges 0.2, 0.3, 0.2, 0.1, 0.2: mean 0.2, so limits 10 +- 0.532."""
    single, ranges = individuals_charts(STEADY)

    assert single.center == pytest.approx(10)
    assert (single.lower[0], single.upper[0]) == pytest.approx((10 - 0.532, 10 + 0.532))
    assert ranges.points == pytest.approx((0.2, 0.3, 0.2, 0.1, 0.2))
    assert (ranges.center, ranges.upper[0]) == pytest.approx((0.2, 0.6534))
    assert single.signals == ranges.signals == ()


def test_frozen_baseline_sees_a_shift():
    """Limits of the first six; the seventh lies outside, and so does the step to it."""
    single, ranges = individuals_charts([*STEADY, 11.0], baseline=6)

    assert single.upper[0] == pytest.approx(10.532)
    assert (single.signals, ranges.signals) == ((6,), (5,))


def test_one_image_gives_no_limits():
    """There is no range to take them from."""
    with pytest.raises(ValueError, match="two images or more"):
        individuals_charts([10.0])


def test_subgroups_of_two_by_hand():
    """S of (9, 11) and (10, 12) is sqrt 2 each; sigma = sqrt 2 / 0.7979, A3 of two is 2.659."""
    means, stds = subgroup_charts([[9.0, 11.0], [10.0, 12.0]])

    assert (means.points, means.center) == ((10, 11), 10.5)
    assert means.upper[0] - means.center == pytest.approx(2.659 * 2**0.5, rel=1e-3)
    assert stds.center == pytest.approx(2**0.5)
    assert (stds.lower[0], stds.upper[0]) == pytest.approx((0, 3.267 * 2**0.5), rel=1e-3)


def test_larger_subgroups_have_closer_limits():
    """Their mean is surer; four times as many, half as far."""
    means, _ = subgroup_charts([[9.0, 11.0], [9.0, 11.0] * 4])

    reach = [upper - means.center for upper in means.upper]
    assert reach[0] == pytest.approx(2 * reach[1])


def test_steady_process_seldom_signals():
    """Of 20000 normal values about 0.27 % lie outside three sigma."""
    values = np.random.default_rng(0).normal(30, 1, 20_000).tolist()

    single, _ = individuals_charts(values)
    means, _ = subgroup_charts(np.reshape(values, (-1, 4)).tolist())

    assert 0.001 < len(single.signals) / 20_000 < 0.006
    assert 0.001 < len(means.signals) / 5_000 < 0.006


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0], [3.0]]])
def test_single_images_are_no_subgroup(groups):
    """They have no standard deviation."""
    with pytest.raises(ValueError, match="two images or more"):
        subgroup_charts(groups)


def test_small_samples_spread_less():
    """Tabulated values of c4."""
    assert [round(c4(n), 4) for n in (2, 3, 4, 10)] == [0.7979, 0.8862, 0.9213, 0.9727]


def test_a_point_is_an_image_in_the_order_of_acquisition(tmp_path):
    """Not a gate: those of an image share its scale."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        write_run(database, gate_run(2, lot="L2"), gates(50.0))
        write_run(database, gate_run(1), gates(40.0, 42.0))

        found = image_means(database)

    series = found[SeriesKey("gate", "ground_truth", "gate_mcd", "", "nm")]
    points = series.means
    assert series.order == "in the order of acquisition"
    assert [(one.image, one.n, one.lot) for one in points] == [
        ("gate_1.tif", 2, "L1"), ("gate_2.tif", 1, "L2"),
    ]  # fmt: skip
    assert [one.mean for one in points] == pytest.approx([8.2, 10])


def test_one_undated_image_lets_measuring_order_all(tmp_path):
    """Images of January measured after one without a date; a rescaled run moves no image."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        first = write_run(database, gate_run(5, acquired_at=None), gates(50.0))
        for number in (3, 2):
            write_run(database, gate_run(number), gates(40.0))
        rescale(database, first, Calibration(0.3, 0.3, "manual"))

        series = image_means(database)[SeriesKey("gate", "ground_truth", "gate_mcd", "", "nm")]

    assert [one.image for one in series.means] == ["gate_5.tif", "gate_3.tif", "gate_2.tif"]
    assert series.order == ("in the order of first measuring: 1 of 3 have no time of acquisition")
    assert series.means[0].mean == pytest.approx(15)
