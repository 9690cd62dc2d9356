"""How honest the uncertainty of CDs is: what was claimed, held against the true labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from backend.learning.guide import Guide
from backend.learning.simulated_annotator import first_strokes
from backend.metrology.cd_draws import measure_draws, paired_values, told_u
from backend.metrology.cd_replay import BOXES, by_entropy, gate_gauge
from backend.metrology.cd_spots import DRAWS, with_scribbles
from backend.metrology.label_draws import draw_label_maps
from backend.microscope.synthetic import SyntheticImage

_LEAST_PX = 1e-3  # of an uncertainty that something is divided by


@dataclass(frozen=True)
class Claim:
    """One CD at one turn."""

    kind: str
    turn: int
    scatter_px: float  # 1 sigma, over the draws
    u_px: float  # 1 sigma, as it is told
    error_px: float  # without sign


def claims_on(image: SyntheticImage, turns: int, seed: int = 0) -> Iterator[Claim]:
    """Annotate an image for some turns, where it is most uncertain; what was claimed at each.

    Truth is what the recipe gives on the true labels.
    """
    rng = np.random.default_rng(seed)
    gauge = gate_gauge(image)
    truth = gauge.measure(image.label_map).cds
    guide = Guide(image.image, len(image.materials), class_names=image.materials, seed=seed)
    scribbles = first_strokes(image.label_map, rng)
    for turn in range(turns):
        believed = with_scribbles(guide.update(scribbles).probabilities, scribbles)
        likeliest = believed.argmax(axis=0).astype(np.uint8)
        measured = measure_draws(gauge, likeliest, draw_label_maps(believed, DRAWS))
        true = paired_values(measured.rows, truth)
        for row, scatter, right in zip(measured.rows, measured.u.tolist(), true, strict=True):
            if row.value is not None and np.isfinite(scatter) and np.isfinite(right):
                error = abs(row.value - right)
                yield Claim(row.kind, turn, scatter, told_u(scatter, row), error)
        for window in islice(by_entropy(believed, gauge, rng), BOXES):
            scribbles[window] = image.label_map[window]


def tell_coverage(claims: Sequence[Claim]) -> Iterator[str]:
    """For each kind of CD: how often the truth lies within 2 u, which is claimed for 95 %."""
    yield "| CD | n | error, median, px | u, median, px | truth within 2 u | factor for 95 % |"
    yield "|---|---|---|---|---|---|"
    for kind in sorted({claim.kind for claim in claims}):
        yield _row(kind, [claim for claim in claims if claim.kind == kind])
    yield _row("all", claims)


def _row(name: str, claims: Sequence[Claim]) -> str:
    errors = np.array([claim.error_px for claim in claims])
    u = np.array([claim.u_px for claim in claims])
    return (
        f"| {name} | {len(claims)} | {np.median(errors):.2f} | {np.median(u):.2f} "
        f"| {(errors <= 2 * u).mean():.0%} | {fitting_factor(claims):.2f} |"
    )


def fitting_factor(claims: Sequence[Claim], share: float = 0.95) -> float:
    """The factor for which that share of errors lies within twice the scatter of the draws.

    Example:
        >>> claims = [Claim("width", 0, 1.0, 1.0, error / 10) for error in range(101)]
        >>> fitting_factor(claims)
        4.75
    """
    ratios = [claim.error_px / max(claim.scatter_px, _LEAST_PX) for claim in claims]
    return float(np.quantile(ratios, share)) / 2
