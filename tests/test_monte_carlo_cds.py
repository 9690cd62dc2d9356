"""The proof of accuracy: a small run of it reaches the goals that few images can show."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from backend.metrology.accuracy import CLEAR, GOALS, WRONG, Sample, check_goals, collect

SCRIPT = Path(__file__).parents[1] / "scripts" / "monte_carlo_cds.py"


def script():
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("monte_carlo_cds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("goal", ["G1", "G2", "G3", "G11", "G13"])
def test_goal_is_reached_on_few_images(goal):
    """Those without noise need no statistics; what is missed is known, and says so itself."""
    checks = check_goals([goal], trials=5)
    assert {check.goal for check in checks} == {goal}
    known = [check for check in checks if "10 flagged grid_locked" in check.condition]
    assert [check for check in checks if not check.reached] == known
    assert len(known) == (goal == "G2")  # a film along the rows


def test_gray_widths_have_no_bias():
    """Four of noisy gray values: .027 px off in the mean, .10 at most."""
    (check,) = check_goals(["G4"], trials=2)
    assert "n 4" in check.measured
    assert abs(collect(CLEAR, "gray", 2)["width"].bias) < 0.06
    assert np.abs(collect(CLEAR, "gray", 2)["width"].errors).max() < 0.2


def test_gray_fit_beats_a_wrong_label():
    """Labels up to 2 px off a wall: what gray values give is ten times as near at least."""
    gray, label = (collect(WRONG, tier, 2)["width"].errors for tier in ("gray", "label"))
    assert len(gray) >= 2
    assert np.abs(label).max() > 1.5
    assert np.abs(gray).max() < 0.2
    assert np.sqrt((gray**2).mean()) < 0.1 * np.sqrt((label**2).mean())


def test_unknown_goal_is_named():
    """With those that there are."""
    with pytest.raises(ValueError, match="no such goal: G99; use some of G1"):
        check_goals(["G99"], trials=1)
    assert list(GOALS) == [f"G{number}" for number in range(1, 14)]


def test_sample_tells_bias_spread_and_honesty():
    """By hand: errors 1, 2, 3 have bias 2 and spread 1; u of 2 is twice as much."""
    sample = Sample(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0), asked=4)
    assert (sample.bias, sample.spread, sample.honesty) == (2, 1, 2)
    assert sample.told() == "bias +2.000, 3s 3.000, n 3 (1 by another tier or none)"
    assert np.isnan(Sample(np.array([]), np.array([]), 2).bias)


def test_script_prints_and_writes_the_table(tmp_path, capsys):
    """A Markdown row for each condition, the same in the CSV."""
    path = tmp_path / "goals.csv"
    assert script().main(["--goals", "G11", "G13", "--trials", "1", "--csv", str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["goal"] for row in rows] == ["G11", "G13"]
    assert len(printed) == 2 + len(rows)
    assert all(row["measured"] in line for row, line in zip(rows, printed[2:], strict=True))
