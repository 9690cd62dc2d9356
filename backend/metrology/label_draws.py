"""Probabilities → label maps that could as well be true: draws in which neighbours agree.

Each pixel takes each class as often as its probabilities say (the Gumbel-max trick), and pixels a
few apart take it together, so that an edge moves as a whole and a gate vanishes as a whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, next_fast_len, rfft2
from scipy.special import log_ndtr

from backend.arrays import LabelMap, Probabilities

CORRELATION_PX = 8.0
"""Standard deviation of what white noise is smoothed with."""
SURE = 0.995
"""Pixels surer than that show their likeliest class in every draw, which saves time."""

_LEAST = 1e-12  # has a logarithm


def draw_label_maps(probabilities: Probabilities, draws: int, seed: int = 0) -> LabelMap:
    """Draw label maps; the same seed gives the same noise, so that figures do not flicker.

    Args:
        probabilities: Shape (C, H, W), summing to 1 over C.
        draws: How many.
        seed: Of the noise.

    Returns:
        Class per pixel. Shape (draws, H, W).

    Example:
        >>> half = np.full((2, 64, 64), 0.5, np.float32)
        >>> maps = draw_label_maps(half, draws=100)
        >>> bool(abs(maps.mean() - 0.5) < 0.05)
        True
        >>> bool((maps[:, :, 1:] == maps[:, :, :-1]).mean() > 0.9)
        True
    """
    rng = np.random.default_rng(seed)
    likeliest = probabilities.argmax(axis=0).astype(np.uint8)
    open_ = probabilities.max(axis=0) < SURE
    logs = np.log(np.maximum(probabilities[:, open_], _LEAST))
    maps = np.repeat(likeliest[None], draws, axis=0)
    for label_map in maps:
        normal = _smooth_fields(rng, probabilities.shape)[:, open_]
        gumbel = -np.log(-log_ndtr(normal))  # of the same rank
        label_map[open_] = (logs + gumbel).argmax(axis=0)
    return maps


def _smooth_fields(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """White noise under a Gaussian filter, of variance 1 everywhere. (C, H, W).

    Filtered as a spectrum, so that borders are no exception: what leaves on one side comes in on
    the other.
    """
    height, width = (next_fast_len(length, real=True) for length in shape[1:])
    noise = rng.standard_normal((shape[0], height, width), dtype=np.float32)
    down, across = (
        np.exp(-2 * (np.pi * CORRELATION_PX * fftfreq(length)) ** 2) for length in (height, width)
    )
    down, across = (passed / np.sqrt((passed**2).mean()) for passed in (down, across))
    passed = (down[:, None] * across[: width // 2 + 1]).astype(np.float32)
    fields = irfft2(rfft2(noise) * passed, s=(height, width))
    cut: NDArray[np.float32] = fields[:, : shape[1], : shape[2]]
    return cut
