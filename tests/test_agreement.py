"""A model's CDs against those of drawn labels: bias, spread, and what found no partner."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from cd_runs import MODEL, gate_run, gates, width
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.metrology.agreement import Pair, agreement, compare, deming_slope, model_errors
from backend.metrology.database import open_database, write_run
from backend.metrology.records import TRAINED_ON
from backend.metrology.results import Measured

values = st.lists(st.floats(1, 100).map(lambda value: round(value, 2)), min_size=3, max_size=12)


@pytest.fixture
def database(tmp_path):
    """An empty CD database."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        yield database


def test_figures_by_hand():
    """Differences 1, 3 in image a and 2, 2 in b: bias 2, sigma sqrt(2 / 3), images agree."""
    found = agreement([Pair("a", 20, 21), Pair("a", 30, 33), Pair("b", 25, 27), Pair("b", 40, 42)])

    sigma = (2 / 3) ** 0.5
    assert (found.pairs, found.images, found.bias) == (4, 2, 2)
    assert found.three_sigma == pytest.approx(3 * sigma)
    assert found.limits == pytest.approx((2 - 1.96 * sigma, 2 + 1.96 * sigma))
    assert found.ci95 == pytest.approx((2, 2))


def test_interval_is_that_of_image_means():
    """Means of the images 1, 2, 3: 2 +- 4.303 / sqrt 3, however many gates each image shows."""
    pairs = [
        Pair(name, x, x + d) for name, d in zip("abc", (1, 2, 3), strict=True) for x in range(9)
    ]

    low, high = agreement(pairs).ci95

    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)


def test_one_image_gives_no_interval():
    """It does not show how far others would lie."""
    found = agreement([Pair("a", 20, 21), Pair("a", 30, 32)])

    assert (found.bias, found.ci95) == (1.5, None)


def test_too_few_pairs_give_no_figures():
    """None of none, a bias of one."""
    assert agreement([]).bias is None
    one = agreement([Pair("a", 20, 21)])
    assert (one.bias, one.three_sigma, one.slope) == (1, None, None)


@given(values, st.floats(0.5, 2), st.floats(-5, 5))
def test_a_perfect_line_is_found(x, slope, offset):
    """Whatever the ratio of errors."""
    assume(np.ptp(x) >= 1)
    for u in (None, 0.3):
        pairs = [Pair("a", one, slope * one + offset, 0.1 if u else None, u) for one in x]
        assert deming_slope(pairs) == pytest.approx(slope, rel=1e-6)
        assert agreement(pairs).r2 == pytest.approx(1)


def test_errors_on_both_sides_do_not_flatten_the_slope():
    """Least squares would give 0.8: variance 4 of what is true, 1 of either error."""
    random = np.random.default_rng(0)
    true = random.normal(30, 2, 20_000)
    x, y = (true + random.normal(0, 1, true.size) for _ in range(2))

    found = agreement([Pair("a", *pair) for pair in zip(x.tolist(), y.tolist(), strict=True)])

    assert found.slope == pytest.approx(1, abs=0.03)
    assert np.polyfit(x, y, 1)[0] == pytest.approx(0.8, abs=0.02)


def test_exchanged_sides_change_the_sign():
    """The bias turns, the slope becomes its inverse, the spread stays."""
    pairs = [Pair("a", 20, 21.5), Pair("b", 30, 32), Pair("c", 25, 27.3), Pair("c", 41, 41)]
    there = agreement(pairs)
    back = agreement([Pair(one.image, one.model, one.label) for one in pairs])

    assert back.bias == pytest.approx(-there.bias)
    assert back.three_sigma == pytest.approx(there.three_sigma)
    assert back.slope == pytest.approx(1 / there.slope)


def test_equal_labels_have_no_slope():
    """A line needs more than one place to stand on."""
    assert deming_slope([Pair("a", 20, 21), Pair("a", 20, 22)]) is None


def test_database_is_compared_in_nanometres_and_pixels(database):
    """Two images, the model 1 px wider each time, and one gate that it misses."""
    for number in (0, 1):
        write_run(database, gate_run(number), gates(40.0, 44.0))
        found = gates(41.0, 45.0) if number else gates(41.0)
        write_run(database, gate_run(number, model=MODEL), found)

    by = {(one.group.measurement, one.group.unit): one for one in compare(database)}

    width_nm, width_px = by["gate_mcd", "nm"], by["gate_mcd", "px"]
    assert agreement(width_nm.pairs).bias == pytest.approx(0.2)
    assert agreement(width_px.pairs).bias == pytest.approx(1)
    assert (len(width_px.pairs), width_px.only_label, width_px.only_model) == (3, 1, 0)
    assert (width_px.group.recipe, width_px.group.model) == ("gate 1", "segmentation 3")
    assert set(by) == {("gate_mcd", "nm"), ("gate_mcd", "px"), ("gate_area", "nm^2"),
                       ("gate_area", "px^2"), ("gate_swa", "deg")}  # fmt: skip


def test_ratios_over_all_instances_are_compared(database):
    """They have no place in the image: there is one of each."""
    pooled = replace(width(), measurement="ar", kind="ratio", unit="ratio", center=None,
                     reach_px=None, instance=0, at_fraction=None, line=None)  # fmt: skip
    for model, value in ((None, 2.0), (MODEL, 2.5)):
        write_run(database, gate_run(model=model), Measured("ok", (replace(pooled, value=value),)))

    (found,) = compare(database)

    assert (agreement(found.pairs).bias, found.only_label, found.only_model) == (0.5, 0, 0)


def test_gaps_in_which_a_structure_may_be_lost_are_not_compared(database):
    """The model lost a gate: its gap is no error of a pitch."""
    write_run(database, gate_run(), Measured("ok", (width(0, 60.0), width(1, 60.0))))
    lost = width(0, 120.0, status="flagged", flags=("uneven_pitch",))
    write_run(database, gate_run(model=MODEL), Measured("ok", (lost, width(1, 61.0))))

    found = {one.group.unit: one for one in compare(database)}["px"]

    assert [pair.delta for pair in found.pairs] == [1.0]
    assert (found.only_label, found.only_model) == (1, 0)


def test_images_that_a_model_was_trained_on_stand_apart(database):
    """On them it is right, on others 1 px too wide; only the others tell how far it is off."""
    for number in range(10):
        write_run(database, gate_run(number), gates(40.0))
        has_seen = number < 5
        found = gates(40.0) if has_seen else gates(41.0)
        flags = (TRAINED_ON,) if has_seen else ()
        write_run(database, gate_run(number, model=MODEL), replace(found, flags=flags))

    widths = [one for one in compare(database)
              if (one.group.measurement, one.group.unit) == ("gate_mcd", "px")]  # fmt: skip

    assert {one.group.seen: agreement(one.pairs).bias for one in widths} == {"": 1, "trained on": 0}
    errors = {key.measurement: error for key, error in model_errors(database).items()}
    assert errors["gate_mcd"] == pytest.approx(1)


def test_what_only_the_model_sees_is_counted(database):
    """A gate where nobody has drawn one, and nothing where somebody has."""
    write_run(database, gate_run(), Measured("ok", (width(0),)))
    write_run(database, gate_run(model=MODEL), Measured("ok", (replace(width(2), instance=0),)))

    (nm, px) = compare(database)

    assert [(len(one.pairs), one.only_label, one.only_model) for one in (nm, px)] == [(0, 1, 1)] * 2


def test_without_scale_pixels_are_compared(database):
    """And nothing is said in nanometres."""
    write_run(database, gate_run(calibration=None), Measured("ok", (width(0, 40.0),)))
    write_run(database, gate_run(calibration=None, model=MODEL), Measured("ok", (width(0, 42.0),)))

    (only,) = compare(database)

    assert (only.group.unit, agreement(only.pairs).bias) == ("px", 2)


def test_images_without_a_model_are_no_loss(database):
    """Nothing is unmatched where nothing was compared."""
    write_run(database, gate_run(), gates(40.0))

    assert compare(database) == []


def test_a_model_s_error_is_known_from_five_images(database):
    """Widths 1 px too large in four images and 3 in the fifth: root of (4 + 9) / 5."""
    for number in range(5):
        write_run(database, gate_run(number), gates(40.0))
        wrong = 3.0 if number == 4 else -1.0
        assert model_errors(database) == {}
        write_run(database, gate_run(number, model=MODEL), gates(40.0 + wrong))

    errors = {key.measurement: error for key, error in model_errors(database).items()}

    assert errors["gate_mcd"] == pytest.approx((13 / 5) ** 0.5)
    assert errors["gate_swa"] == errors["gate_area"] == 0
    (key, *_) = model_errors(database)
    assert (key.model_id, key.recipe_id) == (MODEL.id, gate_run().recipe_id)
