"""The benchmark of segmenting images: the network alone, from file to files, and their ratio."""

import pytest
from measured import read_table

from scripts.benchmark_predicting import main


def test_both_are_measured_and_compared(capsys):
    """The whole command, on one small image: more work takes more time."""
    assert main(["--size", "256", "--images", "1", "--repeat", "1"]) == 0

    table = {what: value for (_, what), value in read_table(capsys.readouterr().out).items()}
    bare, whole = table["the network's forward pass"], table["from file to files"]
    assert whole > 0
    assert table["their ratio"] == pytest.approx(whole / bare, abs=0.02)


def test_mistakes_end_in_a_sentence(tmp_path, capsys):
    """No traceback for an image too small, nor for a registry without a model."""
    assert main(["--size", "8"]) == 2
    assert capsys.readouterr().err.startswith("shape is (8, 8): both sides need at least")
    assert main(["--registry", str(tmp_path)]) == 2
    assert "no model is published" in capsys.readouterr().err
