"""The script that trains the prior: weights with their report; a second run has nothing to do."""

import json

import pytest

from backend.learning.networks import load_weights
from backend.learning.prior import PriorNetwork
from scripts import train_prior

pytestmark = pytest.mark.usefixtures("small_samples")
SMALL = ["--samples", "2", "--held-out", "1", "--steps", "2", "--workers", "1"]


def test_weights_come_with_their_report(tmp_path, monkeypatch, capsys):
    """The prior reads them; the report tells how they were made and what they are worth."""
    monkeypatch.setattr(train_prior, "SAVE_EVERY_STEPS", 1)
    assert train_prior.main([str(tmp_path), *SMALL]) == 0
    report = json.loads(capsys.readouterr().out)
    assert load_weights(PriorNetwork().half(), tmp_path / "prior_weights.safetensors") == report
    assert (report["settings"]["samples"], report["settings"]["held_out"]) == (2, 1)
    assert len(report["loss"]) == report["settings"]["steps"] == 2
    assert len(report["held_out"]["prior_accuracy"]) == 4
    assert train_prior.main([str(tmp_path), *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == report["loss"]


def test_folder_of_other_settings_is_refused(tmp_path, monkeypatch, capsys):
    """In one sentence."""
    monkeypatch.setattr(train_prior, "SAVE_EVERY_STEPS", 1)
    train_prior.main([str(tmp_path), *SMALL])
    assert train_prior.main([str(tmp_path), *SMALL, "--held-out", "2"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--samples", "--held-out", "--steps", "--workers", "--seed"])
def test_nothing_to_do_is_refused(option, tmp_path, capsys):
    """Before anything is drawn."""
    with pytest.raises(SystemExit):
        train_prior.main([str(tmp_path / "new"), option, "0"])
    assert "give 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
