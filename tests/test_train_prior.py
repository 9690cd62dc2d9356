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
    report = json.loads((tmp_path / "prior_report.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert load_weights(PriorNetwork().half(), tmp_path / "prior_weights.safetensors") == report
    assert (report["samples"], report["held_out"]["samples"]) == (2, 1)
    assert len(report["loss"]) == report["settings"]["steps"] == 2
    assert len(report["held_out"]["prior_accuracy"]) == 4
    assert train_prior.main([str(tmp_path), *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == report["loss"]


def test_folder_of_other_settings_is_refused(tmp_path, monkeypatch, capsys):
    """In one sentence."""
    monkeypatch.setattr(train_prior, "SAVE_EVERY_STEPS", 1)
    train_prior.main([str(tmp_path), *SMALL])
    assert train_prior.main([str(tmp_path), *SMALL, "--steps", "3"]) == 1
    assert "other settings" in capsys.readouterr().err
