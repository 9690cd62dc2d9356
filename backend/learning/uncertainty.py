"""From probabilities to an uncertainty map that can be shown: 0 sure, 1 undecided."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.special import logit

from backend.arrays import UNLABELED, LabelMap, Probabilities, UncertaintyMap
from backend.learning.obal import entropy

TRUST_REACH_PX = 16.0
"""Standard deviation: how far around a stroke an opinion is judged by it."""

SURE = 0.97
SURE_DEPTH_PX = 5
SURE_PIXELS = 20
"""What is taken of a shared model, of each class: so few that strokes outweigh them.

Four gates that a model of four others starts are right on .933 .950 .965 .969 at turns 0 to 3; with
2000 pixels on .914 .936 .951 .959, behind a guide without a model (.898 .947 .964 at turns 1 to 3).
With good models the two are alike, mostly better with few.
"""
INFERENCE_ACCURACY = 0.85
"""Near edges, of the guide's own inference after a turn or two."""
PRESENT_SHARE = 0.005
"""Of the image: an opinion that gives a class less may see it where it is not."""
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


def competence_share(accuracy: float) -> float:
    """Weight of an opinion beside the guide's own inference: their log-odds of being right.

    These are the optimal weights of judges who err independently (Nitzan and Paroush 1982). One
    weight for all models, 0.2, cost a good one of real images up to 2.8 points before the first
    stroke (.965 alone, .938 with the guide, .955 by this), while a poor one of gates wants it.

    Args:
        accuracy: Of the opinion, near edges, on images it has not seen; 0 to 1.

    Example:
        >>> [round(competence_share(accuracy), 2) for accuracy in (0.5, 0.64, 0.87)]
        [0.0, 0.25, 0.52]
    """
    own, opinion = (logit(p) for p in (INFERENCE_ACCURACY, np.clip(accuracy, 0.5, 0.999)))
    return float(opinion / (own + opinion))


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


def _surest(belief: NDArray[np.float32], is_likeliest: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where an opinion is sure of a class, or surer than in half of the place it gives to it.

    Deep inside, or anywhere if the class is thin. Shapes (H, W).
    """
    if is_likeliest.mean() < PRESENT_SHARE:
        bound = SURE
    else:
        bound = min(SURE, float(np.median(belief[is_likeliest])))
    sure = is_likeliest & (belief >= bound)
    deep: NDArray[np.bool_] = ndi.binary_erosion(sure, iterations=SURE_DEPTH_PX, border_value=1)
    return deep if deep.any() or bound == SURE else sure


def sure_pixels(opinion: Probabilities, scribbles: LabelMap, seed: int) -> LabelMap:
    """Strokes, and pixels that an opinion which has not seen them is sure of, as if drawn.

    Of each class at most `SURE_PIXELS` that lie `SURE_DEPTH_PX` deep in what the opinion is sure
    of, where it is trusted more than not. A shared model is right inside the materials of an image
    and errs at their edges and where its contrast is new, which a guide tells from the image.

    No class that the opinion sees may be left out: what is not taught is never answered. A model of
    four images was nowhere surer of Oxide than .95, and half of the next gates became Nitride.

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
    likeliest = opinion.argmax(axis=0)
    for label, belief in enumerate(opinion):
        places = np.flatnonzero(_surest(belief, likeliest == label) & is_open)
        if len(places) > SURE_PIXELS:
            places = random.choice(places, SURE_PIXELS, replace=False)
        taught.flat[places] = label
    return taught
