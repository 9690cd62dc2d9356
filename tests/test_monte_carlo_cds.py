"""The proof of accuracy: a small run of it reaches the goals that few images can show."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from backend.metrology.accuracy import GOALS, Sample, check_goals

SCRIPT = Path(__file__).parents[1] / "scripts" / "monte_carlo_cds.py"


def script():
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location("monte_carlo_cds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("goal", ["G1", "G2", "G3", "G11", "G13"])
def test_goal_is_reached_on_few_images(goal):
    """Those without noise need no statistics."""
    checks = check_goals([goal], trials=5)
    assert {check.goal for check in checks} == {goal}
    assert all(check.reached for check in checks), checks


def test_gray_fit_beats_a_wrong_label():
    """Four widths from perfect labels and noisy gray values: none is off by half a pixel."""
    (check,) = check_goals(["G4"], trials=2)
    assert "n 4" in check.measured
    bias = float(check.measured.split()[1].rstrip(","))
    assert abs(bias) < 0.2


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
