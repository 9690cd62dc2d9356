"""From probabilities to an uncertainty map that can be shown: 0 sure, 1 undecided."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from backend.arrays import UNLABELED, LabelMap, Probabilities, UncertaintyMap
from backend.learning.obal import entropy

TRUST_REACH_PX = 16.0
"""Standard deviation: how far around a stroke an opinion is judged by it."""

SURE = 0.97
SURE_DEPTH_PX = 5
SURE_PIXELS = 2000
"""What is taken of a shared model: on gates that it had not seen, .935 of the pixels of its answer
were right, and .965 of the guide's that learned from these; of up to 5000 in 3 px depth .964."""
EVEN = 0.5
_ONE_PIXEL = 1 / (2 * np.pi * TRUST_REACH_PX**2)  # weight of a single drawn pixel, at its place


def normalized_entropy(probabilities: Probabilities) -> UncertaintyMap:
    """Entropy of Eq. (1) in units of its maximum ln C. Shape (C, H, W) -> (H, W).

    Example:
        >>> even, sure = [0.5, 0.5], [1.0, 0.0]
        >>> normalized_entropy(np.array([even, sure], dtype=np.float32).T[:, None]).tolist()
        [[1.0, 0.0]]
    """
    return np.clip(entropy(probabilities) / np.float32(np.log(len(probabilities))), 0, 1)


def geometric_mean(
    first: Probabilities, second: Probabilities, second_share: float | NDArray[np.float32]
) -> Probabilities:
    """Join two opinions by their geometric mean, weighted: what both believe gains.

    Shapes (C, H, W), (C, H, W), share for all pixels or (H, W) -> (C, H, W), summing to 1 over C.

    Example:
        >>> sure, even = np.array([[[0.9]], [[0.1]]]), np.array([[[0.5]], [[0.5]]])
        >>> geometric_mean(sure, even, second_share=0.5).ravel().round(3).tolist()
        [0.75, 0.25]
    """
    floor = 1e-4  # one opinion alone must not veto: 0 times anything stays 0
    logs = (1 - second_share) * np.log(np.maximum(first, floor))
    logs += second_share * np.log(np.maximum(second, floor))
    product = np.exp(logs)
    return product / product.sum(axis=0)


def local_trust(opinion: Probabilities, scribbles: LabelMap) -> NDArray[np.float32]:
    """How far an opinion that has not seen the strokes may be trusted near them, 0 to 1.

    The share of the drawn pixels around that it got right, weighted by a Gaussian of
    `TRUST_REACH_PX`; far from all strokes it is trusted.

    Args:
        opinion: Shape (C, H, W).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).

    Returns:
        Shape (H, W).
    """
    drawn = scribbles != UNLABELED
    wrong = drawn & (opinion.argmax(axis=0) != scribbles)
    if not wrong.any():
        return np.ones(scribbles.shape, np.float32)
    near_drawn, near_wrong = (
        ndi.gaussian_filter(mask.astype(np.float32), TRUST_REACH_PX, truncate=3)
        for mask in (drawn, wrong)
    )
    return 1 - near_wrong / (near_drawn + np.float32(_ONE_PIXEL))


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Make an answer less sure of itself (temperature above 1), or surer; no pixel changes class.

    Temperature scaling (Guo et al. 2017, section 4.2). (C, H, W) -> (C, H, W), summing to 1 over C.

    Example:
        >>> tempered(np.array([[[0.9]], [[0.1]]]), temperature=2).ravel().round(3).tolist()
        [0.75, 0.25]
    """
    if temperature == 1:
        return probabilities
    powers = probabilities ** np.float32(1 / temperature)
    return powers / powers.sum(axis=0)


def sure_pixels(opinion: Probabilities, scribbles: LabelMap, seed: int) -> LabelMap:
    """Strokes, and pixels that an opinion which has not seen them is sure of, as if drawn.

    Of each class at most `SURE_PIXELS` that lie `SURE_DEPTH_PX` deep in what the opinion is sure
    of, where it is trusted more than not. A shared model is right inside the materials of an image
    and errs at their edges and where its contrast is new, which a guide tells from the image.

    Args:
        opinion: Shape (C, H, W).
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        seed: The same one chooses the same pixels.

    Returns:
        Shape (H, W), `UNLABELED` where nothing is known.
    """
    random = np.random.default_rng(seed)
    taught = scribbles.copy()
    is_open = (scribbles == UNLABELED) & (local_trust(opinion, scribbles) > EVEN)
    for label, belief in enumerate(opinion):
        deep = ndi.binary_erosion(belief > SURE, iterations=SURE_DEPTH_PX, border_value=1)
        places = np.flatnonzero(deep & is_open)
        if len(places) > SURE_PIXELS:
            places = random.choice(places, SURE_PIXELS, replace=False)
        taught.flat[places] = label
    return taught
