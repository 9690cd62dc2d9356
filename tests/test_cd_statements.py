"""Sentences about CDs: value, uncertainty and tolerance in one unit, and what is wrong."""

import pytest
from cd_runs import gate_recipe, lost, width

from backend.metrology.cd_draws import Gauge, UncertainCD
from backend.metrology.cd_spots import CDReport
from backend.metrology.cd_statements import count_within, state_report
from backend.microscope.calibration import Calibration

IN_NM = Gauge(("Si", "Gate"), gate_recipe(), Calibration(0.2, 0.2, "manual"))
IN_PX = Gauge(("Si", "Gate"), gate_recipe())


def report(*states, **changes):
    """Make a report of some CDs."""
    return CDReport(states, **{"stable_share": 1.0, "spots": (), "is_settled": False, **changes})


@pytest.mark.parametrize(
    ("gauge", "state", "line"),
    [
        (IN_NM, UncertainCD(width(0, 40.0), 1.0, 2.0, 1.0), "8.00 ± 0.20 nm, within 0.4"),
        (IN_NM, UncertainCD(width(0, 40.0), 3.0, 2.0, 1.0), "8.00 ± 0.60 nm, not within 0.4"),
        (IN_PX, UncertainCD(width(0, 40.0), 1.0, 2.0, 1.0), "40.00 ± 1.00 px, within 2"),
        (IN_PX, UncertainCD(width(0, 40.0), 1.0, None, 1.0), "40.00 ± 1.00 px, no tolerance"),
        (IN_PX, UncertainCD(width(0, 40.0), 1.0, 2.0, 0.8), "within 2, but not steady"),
        (IN_PX, UncertainCD(width(0, 40.0), None, 2.0, 0.1), "40.00 ± ? px, not within 2"),
        (IN_PX, UncertainCD(lost(), None, 2.0, 0.0), "no value"),
    ],
)
def test_each_cd_is_told_with_its_uncertainty(gauge, state, line):
    """In nm of 0.2 nm pixels, or in pixels."""
    assert line in list(state_report(report(state), gauge))[-1]


def test_only_cds_with_a_tolerance_are_counted():
    """Nobody asked for the others; one that is not steady is not within."""
    within = UncertainCD(width(0), 1.0, 2.0, 1.0)
    unsteady = UncertainCD(width(1), 1.0, 2.0, 0.5)
    unasked = UncertainCD(width(2), 1.0, None, 1.0)
    assert count_within(report(within, unsteady, unasked)) == "1/2"


def test_what_is_to_be_known_of_the_whole_comes_first():
    """The count, then doubtful structures and assumed tolerances."""
    first, second, third = list(state_report(report(stable_share=0.8, is_assumed=True), IN_PX))
    assert first == "CDs within tolerance: 0/0"
    assert second == "structures differ in 20% of what could be true"
    assert "0.5 px, 1 deg is assumed" in third


def test_end_asks_for_a_last_look():
    """It advises; the annotator finishes."""
    told = list(state_report(report(is_settled=True), IN_PX))
    assert told[1].startswith("all are: look at the boxes to check")
