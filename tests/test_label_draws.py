"""Draws of label maps: as often as the probabilities say, neighbours together, repeatable."""

import numpy as np
import pytest

from backend.metrology.label_draws import CORRELATION_PX, SURE, draw_label_maps


def constant(*shares, shape=(96, 96)):
    """Believe the same everywhere."""
    return np.tile(np.array(shares, np.float32)[:, None, None], (1, *shape))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.7, 0.3), (0.6, 0.3, 0.1), (0.05, 0.95)])
def test_draws_have_the_shares_of_the_classes(shares):
    """Within 1 %, over many draws."""
    maps = draw_label_maps(constant(*shares), draws=300)
    found = [(maps == label).mean() for label in range(len(shares))]
    assert found == pytest.approx(shares, abs=0.01)


def test_shares_are_the_same_at_the_border():
    """No column, nor a corner, is drawn in another way than the middle."""
    maps = draw_label_maps(constant(0.8, 0.2, shape=(40, 56)), draws=2000)
    share = maps.mean(axis=0)
    assert share[:, 0].mean() == pytest.approx(0.2, abs=0.02)
    assert share[0].mean() == pytest.approx(0.2, abs=0.02)
    assert share[:4, :4].mean() == pytest.approx(0.2, abs=0.03)


def test_neighbours_agree_and_distant_pixels_do_not():
    """Pixels that share most of their noise have one class; far ones are as good as strangers."""
    maps = draw_label_maps(constant(0.5, 0.5, shape=(128, 128)), draws=100)
    reach = int(CORRELATION_PX)
    same = {step: (maps[:, :, step:] == maps[:, :, :-step]).mean() for step in (1, 6 * reach)}
    assert same[1] > 0.94
    assert same[6 * reach] == pytest.approx(0.5, abs=0.04)


def test_what_is_sure_never_changes():
    """Every draw shows its class."""
    believed = constant(1 - SURE, SURE + 1e-4)
    assert (draw_label_maps(believed, draws=20) == 1).all()


def test_same_seed_gives_the_same_draws():
    """Figures that depend on them do not flicker; another seed draws others."""
    believed = constant(0.5, 0.5, shape=(33, 47))
    first = draw_label_maps(believed, 3)
    assert first.shape == (3, 33, 47)
    assert (first == draw_label_maps(believed, 3)).all()
    assert (first != draw_label_maps(believed, 3, seed=1)).any()
    assert (first[0] != first[1]).any()
