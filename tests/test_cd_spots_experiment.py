"""The experiment about boxes, small."""

from scripts.cd_spots_experiment import main


def test_rankings_are_compared(capsys):
    """One image, one turn: each ranking has its row."""
    assert main(["--images", "1", "--turns", "1", "--side", "128"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("cd", "entropy", "random"))


def test_coverage_is_told(capsys):
    """How often the truth lies within what is reported."""
    assert (
        main(["--images", "1", "--turns", "1", "--side", "128", "--seed", "1", "--coverage"]) == 0
    )
    assert "| all |" in capsys.readouterr().out
