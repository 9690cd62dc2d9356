"""The shape of an edge from the mean profile of many: which skins it shows, and how sure that is.

All combinations of blur, skins and place on a grid are weighed by how well they explain the
profile; their mean is where the edge is, and their spread is how far that can be told. A skin as
narrow as the blur looks like blur, so such an edge is uncertain however little noise there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from backend.metrology.border_profiles import BorderProfile
from backend.metrology.edge_shapes import PLAIN, EdgeShape, Skin, blurred_skin

Floats = NDArray[np.float64]

_SIGMAS_PX = np.geomspace(0.8, 5.4, 12)
_SKINS_PX = (None, 1.6, 2.7, 4.5, 7.5, 12.0)
_PLACES_PX = np.arange(-3.0, 3.01, 0.25)
_USUAL_SIGMA_PX, _SIGMA_SPREAD = 1.15, 0.4  # median, and spread of its logarithm
_LABEL_PX = 0.3  # by which labels are off as a whole, now and then much more (Cauchy)
_USUAL_SHARE = 0.4  # of the step, a skin
_NO_SKIN = 0.3  # how often a side has none
_MODEL = 0.02  # of the step: fringes, grain, blur that is no Gaussian
_DOUBT = 0.06  # chance of a plain step, from which on it is taken for one
_MOST_DOUBT_PX = 0.3  # of a plain step, however far the label is off
_ENDS = 2  # pixels that show the levels


@dataclass(frozen=True)
class _Weighed:
    """All combinations, each with the skins that suit it best."""

    log_chance: Floats  # (sigma, left skin, right skin, place)
    shares: Floats  # (sigma, left skin, right skin, place, 2), of the step


def edge_shape(profile: BorderProfile) -> EdgeShape:
    """The shape that a profile tells; without skins if it needs none.

    Then what skins there might be nevertheless moves no edge, but counts as uncertain.
    """
    low, high = profile.gray[:_ENDS].mean(), profile.gray[-_ENDS:].mean()
    if low == high:
        return PLAIN
    level = (profile.gray - low) / (high - low)
    weighed = _weigh(profile.across_px, level, float(np.hypot(profile.u / (high - low), _MODEL)))
    chance = np.exp(weighed.log_chance - weighed.log_chance.max())
    chance /= chance.sum()
    place = float((chance * _PLACES_PX).sum())
    plain = chance[:, 0, 0].sum(axis=0)
    if plain.sum() > _DOUBT:
        doubt = abs(place - float(plain @ _PLACES_PX / plain.sum()))
        return EdgeShape(u_px=min(doubt, _MOST_DOUBT_PX))
    spread = float(np.sqrt((chance * (_PLACES_PX - place) ** 2).sum()))
    best = np.unravel_index(chance.argmax(), chance.shape)
    left, right = (
        None if depth is None else Skin(float(share), depth)
        for share, depth in zip(
            weighed.shares[best], (_SKINS_PX[best[1]], _SKINS_PX[best[2]]), strict=True
        )
    )
    return EdgeShape(left, right, place - float(_PLACES_PX[best[3]]), spread)


def _weigh(across_px: Floats, level: Floats, u: float) -> _Weighed:
    """Levels and skins that suit best, and how likely each combination is. level (K,)."""
    from_place = across_px - _PLACES_PX[:, None]
    kinds = len(_SKINS_PX)
    prior = np.diag([1e-9, 1e-9, _USUAL_SHARE**-2, _USUAL_SHARE**-2])
    rarity = np.log([_NO_SKIN, *[(1 - _NO_SKIN) / (kinds - 1)] * (kinds - 1)])
    chances, shares = [], []
    for sigma in _SIGMAS_PX:
        right = ndtr(from_place / sigma)
        skins = [[_skin(side, sigma, px) for px in _SKINS_PX] for side in (-from_place, from_place)]
        parts = (1 - right, right, np.array(skins[0])[:, None], np.array(skins[1])[None])
        shape = (kinds, kinds, *from_place.shape)
        model = np.stack([np.broadcast_to(part, shape) for part in parts], axis=-2) / u
        normal = model @ np.swapaxes(model, -1, -2) + prior
        aim = model @ (level / u)
        found = np.linalg.solve(normal, aim[..., None])[..., 0]
        misfit = (level @ level) / u**2 - (found * aim).sum(axis=-1)
        unusual = (np.log(sigma / _USUAL_SIGMA_PX) / _SIGMA_SPREAD) ** 2
        unusual = unusual + 2 * np.log1p((_PLACES_PX / _LABEL_PX) ** 2)
        volume = np.linalg.slogdet(normal)[1]
        log_chance = -(misfit + volume + unusual) / 2
        chances.append(log_chance + rarity[:, None, None] + rarity[:, None])
        shares.append(found[..., 2:] / (found[..., 1:2] - found[..., :1]))
    return _Weighed(np.array(chances), np.array(shares))


def _skin(depth_px: Floats, sigma_px: float, skin_px: float | None) -> Floats:
    if skin_px is None:
        return np.zeros_like(depth_px)
    return blurred_skin(depth_px, sigma_px, skin_px)
