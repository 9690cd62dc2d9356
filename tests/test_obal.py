"""OBAL's conditions, each held against the paper by properties that any input must show."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.arrays import UNLABELED
from backend.learning.obal import (
    ObalSettings,
    background_weights,
    entropy,
    foreground_weights,
    obal_loss,
    obal_weights,
    share_of_background,
    training_target,
)

unit = st.floats(0, 1, width=32)
in_unit = hnp.arrays(np.float32, st.integers(2, 30), elements=unit)


@st.composite
def drawings(draw):
    """An image of up to 9 x 9 px with 2 to 5 classes: scribbles (some drawn) and probabilities."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    classes = draw(st.integers(2, 5))
    labels = st.sampled_from([*range(classes), UNLABELED])
    scribbles = draw(hnp.arrays(np.uint8, shape, elements=labels))
    scribbles.flat[draw(st.integers(0, scribbles.size - 1))] = draw(st.integers(0, classes - 1))
    # 0 and 1 exactly are as likely as any other value
    raw = draw(hnp.arrays(np.float32, (classes, *shape), elements=st.sampled_from([0, 0.3, 1, 7])))
    raw[0] += raw.sum(axis=0) == 0
    return scribbles, (raw / raw.sum(axis=0)).astype(np.float32)


settings = st.builds(
    ObalSettings,
    accuracy_min=st.floats(0.01, 1),
    uncertainty_min=st.floats(0.01, 0.5),
    uncertainty_max=st.floats(0.5, 1),
    background_share=st.floats(0.01, 0.99),
)


@given(drawings())
def test_entropy_lies_between_sure_and_undecided(drawing):
    """Eq. (1) is 0 for one certain class and ln C for an even split."""
    _, probabilities = drawing
    uncertainty = entropy(probabilities)
    assert (uncertainty >= 0).all()
    assert (uncertainty <= np.log(len(probabilities)) + 1e-6).all()
    assert (uncertainty[probabilities.max(axis=0) == 1] == 0).all()


@given(st.integers(2, 20))
def test_entropy_of_an_even_split_is_the_logarithm_of_the_classes(classes):
    """The natural logarithm, as in Eq. (1)."""
    even = np.full((classes, 1, 1), 1 / classes, np.float32)
    assert entropy(even).item() == pytest.approx(np.log(classes), rel=1e-5)


@given(in_unit, st.floats(0.01, 1))
def test_weight_is_inversely_proportional_to_accuracy(accuracy, accuracy_min):
    """Condition 1: weight times clamped accuracy is the same everywhere."""
    weights = foreground_weights(accuracy, accuracy_min)
    np.testing.assert_allclose(weights * np.clip(accuracy, accuracy_min, 1), 1)


@given(in_unit, st.floats(0.01, 0.5), st.floats(0.5, 1))
def test_weight_is_inversely_proportional_to_clamped_uncertainty(uncertainty, low, high):
    """Conditions 2 and 3: inverse between the clamps, constant beyond them."""
    weights = background_weights(uncertainty, low, high)
    np.testing.assert_allclose(weights * np.clip(uncertainty, low, high), 1)
    assert weights.max() <= 1 / low
    assert weights.min() >= 1 / high


@given(drawings(), settings)
def test_every_class_has_the_same_total(drawing, obal):
    """Condition 4, for the classes drawn and for the classes predicted elsewhere."""
    scribbles, probabilities = drawing
    weights = obal_weights(scribbles, probabilities, obal)
    target = training_target(scribbles, probabilities)
    for region in (scribbles != UNLABELED, scribbles == UNLABELED):
        totals = [weights[region & (target == c)].sum() for c in np.unique(target[region])]
        np.testing.assert_allclose(totals, totals[:1] * len(totals), rtol=1e-9)


@given(drawings(), settings)
def test_background_has_its_share(drawing, obal):
    """Condition 5: the sums of background and foreground have the ratio asked for."""
    scribbles, probabilities = drawing
    drawn = scribbles != UNLABELED
    accuracy = np.take_along_axis(probabilities, np.where(drawn, scribbles, 0)[None], 0)[0][drawn]
    expected = 0 if drawn.all() else share_of_background(float(accuracy.mean()), obal)
    weights = obal_weights(scribbles, probabilities, obal)
    assert weights[~drawn].sum() == pytest.approx(expected, rel=1e-5)


@given(drawings(), settings)
def test_weights_are_positive_and_sum_to_one(drawing, obal):
    """Condition 6, for any input with a stroke: certain pixels, one class, all drawn."""
    weights = obal_weights(*drawing, obal)
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@given(drawings())
def test_strokes_are_taught_and_beliefs_fill_the_rest(drawing):
    """The target is the stroke on the foreground and the likeliest class elsewhere."""
    scribbles, probabilities = drawing
    target = training_target(scribbles, probabilities)
    drawn = scribbles != UNLABELED
    assert (target[drawn] == scribbles[drawn]).all()
    assert (target[~drawn] == probabilities.argmax(axis=0)[~drawn]).all()


@given(unit, unit)
def test_background_is_trusted_more_when_the_strokes_agree(one, other):
    """The share of the background never falls as the foreground accuracy grows."""
    low, high = sorted((one, other))
    assert share_of_background(low, ObalSettings()) > 0
    assert share_of_background(low, ObalSettings()) <= share_of_background(high, ObalSettings()) < 1


@given(drawings(), settings)
def test_loss_is_the_weighted_cross_entropy(drawing, obal):
    """Eq. (2), against its definition written out in NumPy."""
    scribbles, probabilities = drawing
    probabilities = (probabilities + 0.01) / (probabilities + 0.01).sum(axis=0)
    target = training_target(scribbles, probabilities)
    weights = obal_weights(scribbles, probabilities, obal)
    truth = np.take_along_axis(probabilities, target[None], 0)[0]
    loss = obal_loss(
        torch.from_numpy(np.log(probabilities))[None],
        torch.from_numpy(target.astype(np.int64))[None],
        torch.from_numpy(weights)[None],
    )
    assert loss.item() == pytest.approx(-(weights * np.log(truth)).sum(), rel=1e-4, abs=1e-7)


def test_loss_falls_as_the_logits_get_better():
    """More belief in the target costs less."""
    target, weights = torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 0.25)
    losses = [obal_loss(torch.tensor([x, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2), target, weights)
              for x in (-1.0, 0.0, 3.0)]  # fmt: skip
    assert losses == sorted(losses, reverse=True)


def test_training_without_a_stroke_is_refused():
    """The sentence says what to do."""
    with pytest.raises(ValueError, match="draw at least one stroke"):
        obal_weights(np.full((2, 2), UNLABELED, np.uint8), np.full((2, 2, 2), 0.5, np.float32),
                     ObalSettings())  # fmt: skip


def test_unknown_class_is_refused():
    """A stroke of class 7 in a problem of two classes is an error, not a wrong weight."""
    with pytest.raises(ValueError, match="class 7 is drawn"):
        obal_weights(np.full((2, 2), 7, np.uint8), np.full((2, 2, 2), 0.5, np.float32),
                     ObalSettings())  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"accuracy_min": 0}, {"uncertainty_min": 0.9, "uncertainty_max": 0.5},
              {"background_share": 1}]
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong):
    """Each setting has its range."""
    with pytest.raises(ValueError, match="give"):
        ObalSettings(**wrong)
