"""Statistics of an image: few values give few figures, and unlike things are not averaged."""

import pytest
from cd_runs import SCALE, area, lost, width
from hypothesis import given
from hypothesis import strategies as st

from backend.metrology.rows import measurement_rows
from backend.metrology.summary import summarize, summarize_run

ALL = ("n", "mean", "median", "std", "three_sigma", "min", "max", "range", "ci95")
numbers = st.floats(-1e3, 1e3).map(lambda number: round(number, 3))


def stats_of(*cds, calibration=SCALE, wanted=ALL):
    """Summarize CDs of one image, by series, side and unit."""
    rows = summarize_run(measurement_rows("run", cds, calibration), wanted)
    return {(row["measurement"], row["side"], row["unit"]): row for row in rows}


def test_four_values_by_hand():
    """1, 2, 3 and 6: mean 3, std sqrt(14 / 3), t(0.975, 3) = 3.182."""
    found = summarize([1.0, 6.0, 3.0, 2.0])

    std = (14 / 3) ** 0.5
    assert found == {
        "n": 4, "mean": 3.0, "median": 2.5, "min": 1.0, "max": 6.0, "range": 5.0,
        "std": pytest.approx(std), "three_sigma": pytest.approx(3 * std),
        "ci95_low": pytest.approx(3 - 3.18245 * std / 2, abs=1e-4),
        "ci95_high": pytest.approx(3 + 3.18245 * std / 2, abs=1e-4),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "known"),
    [([], {"n"}), ([5.0], {"n", "mean", "median", "min", "max", "range"})],
)
def test_too_few_values_give_no_spread(values, known):
    """One value shows none, and none at all shows nothing; a zero would look like perfection."""
    found = summarize(values)

    assert {name for name, value in found.items() if value is not None} == known


@given(st.lists(numbers, min_size=2, max_size=20), numbers)
def test_a_shift_moves_the_mean_and_no_spread(values, shift):
    """Places move along, widths of intervals stay."""
    before, after = summarize(values), summarize([value + shift for value in values])

    for name in ("mean", "median", "min", "max", "ci95_low", "ci95_high"):
        assert after[name] == pytest.approx(before[name] + shift, abs=1e-6)
    for name in ("std", "three_sigma", "range"):
        assert after[name] == pytest.approx(before[name], abs=1e-6)


def test_flagged_count_and_failed_do_not():
    """Values 40 and 42 px; the failed and the missing one have none."""
    cds = [width(0, 40.0), width(1, 42.0, status="flagged", flags=("low_cnr",)),
           lost(2, "failed"), lost(3, "missing")]  # fmt: skip

    found = stats_of(*cds)["gate_mcd", "", "nm"]

    assert (found["n"], found["mean"]) == (2, pytest.approx(41 * 0.2))


def test_nothing_found_is_told():
    """A row with n = 0, not the absence of a row."""
    found = stats_of(lost())

    assert found["gate_mcd", "", "nm"]["n"] == 0


def test_sides_quantities_and_levels_are_kept_apart():
    """Minima are no means, and the level 0.3 is not 0.6; two instances each."""
    cds = [
        width(i, measurement=name, quantity=quantity, side=side, at_fraction=at)
        for i in (0, 1)
        for name, quantity, side, at in (
            ("t", "mean", "left", None), ("t", "mean", "right", None), ("t", "min", "left", None),
            ("w", "", "", 0.3), ("w", "", "", 0.6),
        )
    ]  # fmt: skip

    assert {key: row["n"] for key, row in stats_of(*cds).items()} == {
        ("t", "left", "nm"): 2, ("t", "right", "nm"): 2, ("t.min", "left", "nm"): 2,
        ("w@0.3", "", "nm"): 2, ("w@0.6", "", "nm"): 2,
    }  # fmt: skip


def test_widest_places_at_unlike_heights_are_one_series():
    """Each gate bulges at a height of its own."""
    found = stats_of(width(0, at_fraction=0.42), width(1, at_fraction=0.48))

    assert found["gate_mcd", "", "nm"]["n"] == 2


def test_without_scale_statistics_are_in_pixels():
    """And say so: 40 px must not be read as 40 nm."""
    found = stats_of(width(0, 40.0), area(0, 900.0), calibration=None)

    assert found["gate_mcd", "", "px"]["mean"] == 40
    assert found["gate_area", "", "px^2"]["mean"] == 900


def test_recipe_chooses_the_statistics():
    """Those that it does not ask for stay empty."""
    found = stats_of(width(0, 40.0), width(1, 42.0), wanted=("mean", "ci95"))["gate_mcd", "", "nm"]

    told = {name for name, value in found.items() if isinstance(value, float)}
    assert told == {"mean", "ci95_low", "ci95_high"}


def test_a_gap_in_which_a_structure_may_be_lost_is_no_pitch():
    """60, 60 and 120 px: the mean is 60."""
    gaps = [width(i, 60.0) for i in range(2)]
    gaps.append(width(2, 120.0, status="flagged", flags=("uneven_pitch",)))

    found = stats_of(*gaps)["gate_mcd", "", "nm"]

    assert (found["n"], found["mean"]) == (2, pytest.approx(12.0))
