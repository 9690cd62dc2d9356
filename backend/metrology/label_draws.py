"""Probabilities → label maps that could as well be true: draws in which neighbours agree.

Each pixel takes each class as often as its probabilities say (the Gumbel-max trick), and pixels a
few apart take it together, so that an edge moves as a whole and a gate vanishes as a whole. What
makes them agree is smooth noise, so it is made for every fourth pixel and interpolated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, next_fast_len, rfft2
from scipy.special import log_ndtr

from backend.arrays import LabelMap, Probabilities

CORRELATION_PX = 8.0
"""Standard deviation of what white noise is smoothed with."""
SURE = 0.99
"""Pixels surer than that show their likeliest class in every draw, which saves time."""

_LEAST = 5e-3  # a class less likely than that is never drawn
_STEP_PX = 4  # of the places that noise is made for
_NEVER = -1e9
_REACH = 6.0  # standard deviations that the table of Gumbel values reaches
_NODES = 8192


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
    maps = np.repeat(likeliest[None], draws, axis=0)
    rows, columns = np.nonzero(probabilities.max(axis=0) < SURE)
    if not len(rows):
        return maps
    beliefs = probabilities[:, rows, columns]
    possible = [np.flatnonzero(belief >= _LEAST) for belief in beliefs]
    logs = [np.log(belief[at]) for belief, at in zip(beliefs, possible, strict=True)]
    places = [_Places.of(rows[at], columns[at], likeliest.shape) for at in possible]
    score = np.empty(beliefs.shape, np.float32)
    for label_map in maps:
        noise = _smooth_fields(rng, (len(beliefs), *_lattice(likeliest.shape)))
        score.fill(_NEVER)
        for label, at in enumerate(possible):
            score[label, at] = logs[label] + _gumbel(places[label].values(noise[label]))
        label_map[rows, columns] = score.argmax(axis=0)
    return maps


def _lattice(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many places noise is made for, so that every pixel lies among four."""
    return (shape[0] - 1) // _STEP_PX + 2, (shape[1] - 1) // _STEP_PX + 2


class _Places:
    """Pixels among the places that noise is known of; its variance is 1 between them as well."""

    def __init__(self, corner: NDArray[np.int64], width: int, weights: NDArray[np.float32]) -> None:
        self._corners = [corner, corner + 1, corner + width, corner + width + 1]
        self._weights = weights  # (4, N)

    @classmethod
    def of(
        cls, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, ...]
    ) -> _Places:
        """Find the four places around each pixel."""
        width = _lattice(shape)[1]
        alike = np.exp(-((_STEP_PX / CORRELATION_PX / 2) ** 2))  # correlation of neighbours
        shares = np.arange(_STEP_PX) / _STEP_PX
        pairs = np.stack([1 - shares, shares], axis=1)
        pairs /= np.sqrt(1 - 2 * shares * (1 - shares) * (1 - alike))[:, None]
        down, across = pairs[rows % _STEP_PX], pairs[columns % _STEP_PX]
        weights = (down[:, :, None] * across[:, None, :]).reshape(-1, 4).T.astype(np.float32)
        return cls((rows // _STEP_PX) * width + columns // _STEP_PX, width, weights)

    def values(self, field: NDArray[np.float32]) -> NDArray[np.float32]:
        """A field at each pixel, (h, w) -> (N,)."""
        flat = field.ravel()
        first, *others = zip(self._weights, self._corners, strict=True)
        total = first[0] * flat[first[1]]
        for weight, corner in others:
            total += weight * flat[corner]
        return total


def _gumbel(normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gumbel values of the same rank as normal ones."""
    index = (np.clip(normal, -_REACH, _REACH) + _REACH) * ((_NODES - 1) / (2 * _REACH))
    values: NDArray[np.float32] = _gumbel_table()[np.rint(index).astype(np.int32)]
    return values


@lru_cache
def _gumbel_table() -> NDArray[np.float32]:
    return (-np.log(-log_ndtr(np.linspace(-_REACH, _REACH, _NODES)))).astype(np.float32)


def _smooth_fields(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """White noise under a Gaussian filter, of variance 1 everywhere. (C, h, w), of the lattice.

    Filtered as a spectrum, so that borders are no exception: what leaves on one side comes in on
    the other.
    """
    height, width = (next_fast_len(length, real=True) for length in shape[1:])
    noise = rng.standard_normal((shape[0], height, width), dtype=np.float32)
    sigma = CORRELATION_PX / _STEP_PX
    down, across = (
        np.exp(-2 * (np.pi * sigma * fftfreq(length)) ** 2) for length in (height, width)
    )
    down, across = (passed / np.sqrt((passed**2).mean()) for passed in (down, across))
    passed = (down[:, None] * across[: width // 2 + 1]).astype(np.float32)
    fields = irfft2(rfft2(noise) * passed, s=(height, width))
    cut: NDArray[np.float32] = fields[:, : shape[1], : shape[2]]
    return cut
