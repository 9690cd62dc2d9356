"""Episodes of the prior's training: stages, crops, and answers that are believed."""

import numpy as np
import pytest
import torch

from backend.learning.prior_episodes import Crop, Episode
from tests.prior_sample import SIDE_PX, sample_of

WHOLE = Crop((slice(0, SIDE_PX // 2), slice(0, SIDE_PX // 2)), SIDE_PX)


def episode_of(share=0.5, *, crop=WHOLE, seed=0):
    """One episode of that sample; without a crop, at half the size."""
    return Episode(sample_of(), np.random.default_rng(seed), share, crop)


@pytest.mark.parametrize(("crop", "side"), [(WHOLE, SIDE_PX), (None, SIDE_PX // 2)])
def test_episode_shows_the_drawn_classes_only(crop, side):
    """Two at the first stage, three at the second; half the size where that is wanted."""
    episode = episode_of(crop=crop)
    full, cells = episode.planes()
    assert (full.shape, cells.shape) == ((2, 3, side, side), (2, 3, side // 2, side // 2))
    assert sorted(np.unique(episode.target())) == [-1, 0, 1]  # of the third, nothing is known
    episode.advance(torch.full((2, side, side), 0.5))
    assert episode.planes()[0].shape == (3, 3, side, side)
    assert sorted(np.unique(episode.target())) == [0, 1, 2]


@pytest.mark.parametrize("crop", [WHOLE, Crop((slice(20, 52), slice(8, 40)), SIDE_PX)])
def test_answer_is_believed_at_the_next_stage(crop):
    """As much as its share says; the class drawn for the first time keeps the classifier's."""
    beliefs = []
    for share in (0.0, 0.5):
        episode = episode_of(share, crop=crop)
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


def test_crop_enlarges_what_belongs_together():
    """Strokes stay on their class, borders smooth, and the answer finds its way back."""
    crop = Crop((slice(10, 42), slice(20, 52)), SIDE_PX)
    episode = episode_of(crop=crop)
    full, cells = episode.planes()
    target = episode.target()
    assert full.shape[-2:] == target.shape == (SIDE_PX, SIDE_PX)
    assert cells.shape[-2:] == (SIDE_PX // 2, SIDE_PX // 2)
    assert set(full[:, 1:].unique().tolist()) == {0, 1}
    assert all((target[full[place, 1] > 0] == place).all() for place in range(2))
    borders = (target.diff(dim=0) != 0).sum(dim=0)
    assert (borders == borders[0]).all()  # layers, seen enlarged
    sure = torch.stack([target == 0, target != 0]).float()
    whole = episode_of(crop=WHOLE).target()
    assert torch.equal(crop.answer(sure)[0] > 0.5, (whole == 0)[crop.pixels][::2, ::2])


def test_crops_lie_inside_the_sample():
    """Anywhere, half of them enlarged."""
    rng = np.random.default_rng(0)
    crops = [Crop.anywhere((100, 140), 64, 2.0, rng) for _ in range(200)]
    sides = np.array([[s.stop - s.start for s in crop.pixels] for crop in crops])
    assert (sides[:, 0] == sides[:, 1]).all()
    assert (sides.min(), sides.max()) == (32, 64)
    assert 60 < (sides[:, 0] == 64).sum() < 140
    for axis, length in enumerate((100, 140)):
        spans = [crop.pixels[axis] for crop in crops]
        assert (min(s.start for s in spans), max(s.stop for s in spans)) == (0, length)
