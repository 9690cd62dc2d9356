"""Overfitted and balanced active learning (OBAL): how a stroke becomes a weight.

The algorithm of Kim, Lee, Yim et al., "Interactive image annotation and AI-assisted segmentation of
TEM images for automatic CD measurement", section 2: Eq. (1), the six conditions, Eq. (2). One
function a condition, all of them pure.

Words: the *foreground* are the pixels somebody drew on, the *background* all others. The *inference
result* is what was believed before this training: on the foreground the guide's last answer (at the
first turn all classes are equally likely), on the background what classifier and prior say now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backend.arrays import UNLABELED, LabelMap, Mask, Probabilities, WeightMap


@dataclass(frozen=True)
class ObalSettings:
    """The adjustable parts of conditions 1, 3 and 5; uncertainty in units of ln C, so 0 to 1."""

    accuracy_min: float = 0.05
    """A drawn pixel the guide has fully wrong weighs 1 / accuracy_min times one it has right."""

    uncertainty_min: float = 0.05
    """Below this an unlabeled pixel gains no more weight by being surer."""

    uncertainty_max: float = 0.95
    """Above this an unlabeled pixel loses no more weight by being more uncertain."""

    background_share: float = 0.8
    """Largest share of the total weight that unlabeled pixels may have."""

    def __post_init__(self) -> None:
        if not 0 < self.accuracy_min <= 1:
            raise ValueError(f"accuracy_min is {self.accuracy_min}: give a value in (0, 1]")
        if not 0 < self.uncertainty_min <= self.uncertainty_max <= 1:
            raise ValueError(
                f"uncertainty is clamped to {self.uncertainty_min}..{self.uncertainty_max}: "
                "give 0 < uncertainty_min <= uncertainty_max <= 1"
            )
        if not 0 < self.background_share < 1:
            raise ValueError(f"background_share is {self.background_share}: give a value in (0, 1)")


def entropy(probabilities: Probabilities) -> NDArray[np.float32]:
    """Uncertainty of each pixel, Eq. (1): `u_i = -sum_c p_i^c log(p_i^c)`.

    Args:
        probabilities: Shape (C, H, W), summing to 1 over C.

    Returns:
        Entropy in nats, 0 to ln C. Shape (H, W).

    Example:
        >>> even, sure = [0.5, 0.5], [1.0, 0.0]
        >>> entropy(np.array([even, sure], dtype=np.float32).T[:, None]).round(3).tolist()
        [[0.6930000185966492, 0.0]]
    """
    tiny = np.finfo(np.float32).tiny
    total = -(probabilities * np.log(np.maximum(probabilities, tiny))).sum(axis=0)
    return np.maximum(total, 0, dtype=np.float32)


def training_target(scribbles: LabelMap, probabilities: Probabilities) -> LabelMap:
    """What each pixel is taught: the stroke where there is one, else the likeliest class.

    Shapes (H, W), (C, H, W) -> (H, W).
    """
    believed = probabilities.argmax(axis=0).astype(np.uint8)
    return np.where(scribbles == UNLABELED, believed, scribbles)


def foreground_weights(accuracy: NDArray[np.floating], accuracy_min: float) -> WeightMap:
    """Condition 1: weight inversely proportional to accuracy in the foreground.

    The accuracy of a pixel is the probability of its drawn class. One accuracy for a whole class
    would be cancelled by condition 4.

    Example:
        >>> foreground_weights(np.array([1.0, 0.5, 0.0]), accuracy_min=0.1).tolist()
        [1.0, 2.0, 10.0]
    """
    return 1 / np.clip(accuracy.astype(np.float64), accuracy_min, 1)


def background_weights(
    uncertainty: NDArray[np.floating], uncertainty_min: float, uncertainty_max: float
) -> WeightMap:
    """Conditions 2 and 3: inversely proportional to the clamped uncertainty in the background.

    Example:
        >>> background_weights(np.array([0.0, 0.5, 1.0]), 0.1, 0.8).tolist()
        [10.0, 2.0, 1.25]
    """
    return 1 / np.clip(uncertainty.astype(np.float64), uncertainty_min, uncertainty_max)


def balance_classes(weights: WeightMap, target: LabelMap, region: Mask) -> WeightMap:
    """Condition 4: inside `region` every class of the target has the same total weight.

    Args:
        weights: Positive weight per pixel. Shape (H, W).
        target: Class index per pixel. Shape (H, W).
        region: The pixels concerned, at least one. Shape (H, W).

    Returns:
        Weight per pixel, 0 outside the region, summing to 1. Shape (H, W).

    Example:
        >>> target = np.array([[0, 0, 1, 1]], dtype=np.uint8)
        >>> region = np.array([[True, True, True, False]])
        >>> balance_classes(np.ones((1, 4)), target, region).tolist()
        [[0.25, 0.25, 0.5, 0.0]]
    """
    totals = np.bincount(target[region], weights[region], minlength=UNLABELED)
    present = np.count_nonzero(totals)
    balanced = np.zeros_like(weights)
    balanced[region] = weights[region] / (present * totals[target[region]])
    return balanced


def share_of_background(foreground_accuracy: float, settings: ObalSettings) -> float:
    """Condition 5: the share of the background in the total weight, between 0 and 1, exclusive.

    It grows with the mean probability of the drawn classes: an inference result that contradicts
    the strokes (24.5 % accuracy at the paper's first turn) must not teach the background.
    """
    return settings.background_share * float(np.clip(foreground_accuracy, settings.accuracy_min, 1))


def obal_weights(
    scribbles: LabelMap, probabilities: Probabilities, settings: ObalSettings
) -> WeightMap:
    """Weights of all pixels for the next training, by the six conditions.

    Args:
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        probabilities: The latest inference result. Shape (C, H, W), C >= 2.
        settings: Clamps and background share.

    Returns:
        Weight per pixel, positive, summing to 1 (condition 6). Shape (H, W).

    Raises:
        ValueError: Nothing is drawn, or a drawn class does not exist.
    """
    drawn = scribbles != UNLABELED
    classes = len(probabilities)
    if not drawn.any():
        raise ValueError("no pixel is labeled: draw at least one stroke before training")
    if scribbles[drawn].max() >= classes:
        raise ValueError(f"class {scribbles[drawn].max()} is drawn, but there are only {classes}")
    target = training_target(scribbles, probabilities)
    accuracy = np.take_along_axis(probabilities, target[None], axis=0)[0]
    raw_foreground = foreground_weights(accuracy, settings.accuracy_min)
    foreground = balance_classes(raw_foreground, target, drawn)
    if drawn.all():
        return foreground
    raw_background = background_weights(
        entropy(probabilities) / np.log(classes), settings.uncertainty_min, settings.uncertainty_max
    )
    background = balance_classes(raw_background, target, ~drawn)
    share = share_of_background(float(accuracy[drawn].mean()), settings)
    return share * background + (1 - share) * foreground


def obal_loss(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Total loss, Eq. (2): `L = sum_i -w_i log p_i^{t_i}`.

    logits (N, C, H, W), target (N, H, W) of int64, weights (N, H, W) -> scalar.
    """
    per_pixel = F.cross_entropy(logits, target, reduction="none")
    return (weights * per_pixel).sum()
