"""Training of the prior: a killed run goes on, the loss falls, borders count more."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from backend.learning.prior_training import (
    PriorTrainer,
    PriorTraining,
    answer_loss,
    held_out_scores,
)
from tests.prior_sample import sample_of

SETTINGS = PriorTraining(
    steps=6, near_episodes=2, far_episodes=2, open_episodes=2, learning_rate=1e-3
)


def test_loss_counts_borders_more_and_unknown_pixels_not_at_all():
    """An error at a border costs more than one far from it."""
    target = torch.zeros(32, 32, dtype=torch.long)
    target[16:] = 1
    right = torch.stack([1 - target, target]).float() * 4
    losses = []
    for row in (15, 2):
        wrong = right.clone()
        wrong[:, row] = wrong[:, row].flip(0)
        losses.append(answer_loss(wrong, target, band_weight=3.0))
    assert losses[0] > 1.5 * losses[1]
    unknown = target.clone()
    unknown[2] = -1
    assert answer_loss(wrong, unknown, 1.0) < answer_loss(wrong, target, 1.0)


def test_training_lowers_the_loss_and_measures_it():
    """On one picture, in a few steps; the report has one value for each stage."""
    samples = [sample_of()]
    trainer = PriorTrainer(
        samples, replace(SETTINGS, steps=40, learning_rate=5e-3, average_decay=0.5)
    )
    losses = list(trainer.run())
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    measured = held_out_scores(trainer.network, samples, previous_share=0.4)
    assert {len(values) for values in measured.values()} == {2}
    assert all(0 <= value <= 1 for values in measured.values() for value in values)


def test_killed_training_goes_on(tmp_path):
    """Weights, average, moments and losses are those of the run that was killed."""
    path = tmp_path / "state.safetensors"
    first = PriorTrainer([sample_of()], SETTINGS)
    list(islice(first.run(), 3))
    first.save(path)
    second = PriorTrainer([sample_of()], SETTINGS)
    second.load(path)
    assert second.losses == first.losses
    assert second._schedule.get_last_lr() == pytest.approx(first._schedule.get_last_lr())
    assert second._rng.bit_generator.state == first._rng.bit_generator.state
    for one, other in zip(first._tensors().values(), second._tensors().values(), strict=True):
        torch.testing.assert_close(one, other)
    assert len(list(second.run())) == 3


def test_state_of_other_settings_is_refused(tmp_path):
    """Else the report would tell of settings that were not those of the run."""
    path = tmp_path / "state.safetensors"
    trainer = PriorTrainer([sample_of()], SETTINGS)
    list(islice(trainer.run(), 1))
    trainer.save(path)
    with pytest.raises(ValueError, match="other settings"):
        PriorTrainer([sample_of()], replace(SETTINGS, steps=7)).load(path)
