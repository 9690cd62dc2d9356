"""Training of the prior: episodes go on from answers, a killed run goes on, the loss falls."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from backend.arrays import UNLABELED
from backend.learning.prior_samples import PriorSample
from backend.learning.prior_training import (
    Episode,
    PriorTrainer,
    PriorTraining,
    answer_loss,
    held_out_scores,
)

SIDE_PX = 128
SETTINGS = PriorTraining(steps=6, episodes_a_step=2, open_episodes=2, learning_rate=1e-3)


def sample_of(seed=0):
    """Two layers; a third class is drawn at the second stage only; beliefs are of little use."""
    rng = np.random.default_rng(seed)
    label_map = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    label_map[50:], label_map[100:] = 1, 2
    image = (label_map * 90 + rng.integers(0, 30, label_map.shape)).astype(np.uint8)
    scribbles = np.full((2, SIDE_PX, SIDE_PX), UNLABELED, np.uint8)
    scribbles[:, 20:24, 30:90], scribbles[:, 70:74, 30:90] = 0, 1
    scribbles[1, 110:114, 30:90] = 2
    beliefs = np.full((2, 3, SIDE_PX // 2, SIDE_PX // 2), 85, np.uint8)
    beliefs[0, 2] = 0
    beliefs[0, 0, :25] = 250
    return PriorSample(image, label_map, scribbles, beliefs)


def episode_of(share=0.5, *, far=False, seed=0):
    """One episode of that sample."""
    return Episode(sample_of(), np.random.default_rng(seed), share, far=far)


@pytest.mark.parametrize("far", [False, True])
def test_episode_shows_the_drawn_classes_only(far):
    """Two at the first stage, three at the second; half the size where that is wanted."""
    episode, side = episode_of(far=far), SIDE_PX // (2 if far else 1)
    full, cells = episode.planes()
    assert (full.shape, cells.shape) == ((2, 3, side, side), (2, 3, side // 2, side // 2))
    assert sorted(np.unique(episode.target())) == [-1, 0, 1]  # of the third, nothing is known
    episode.advance(torch.full((2, side, side), 0.5))
    assert episode.planes()[0].shape == (3, 3, side, side)
    assert sorted(np.unique(episode.target())) == [0, 1, 2]


def test_answer_is_believed_at_the_next_stage():
    """As much as its share says; the class drawn for the first time keeps the classifier's."""
    beliefs = []
    for share in (0.0, 0.5):
        episode = episode_of(share)
        sure = torch.zeros(2, SIDE_PX, SIDE_PX)
        sure[0] = 1
        episode.advance(sure)
        beliefs.append(episode.planes()[1][:, 0].mean(dim=(1, 2)))
    without, half = beliefs
    assert without.tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert half.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 3], abs=0.01)


def test_mirrored_episode_keeps_strokes_on_their_classes():
    """Image, truth, strokes and beliefs are mirrored together."""
    for seed in range(8):
        episode = episode_of(seed=seed)
        full, cells = episode.planes()
        target = episode.target()
        for place in range(2):
            assert (target[full[place, 1] > 0] == place).all()
        grays = [float(full[0, 0][target == place].mean()) for place in (0, 1, -1)]
        assert grays in (sorted(grays), sorted(grays, reverse=True))  # inverted, or not
        assert max(grays) - min(grays) > 1
        assert float(cells[0, 0][target[::2, ::2] == 0].min()) > 0.9


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
