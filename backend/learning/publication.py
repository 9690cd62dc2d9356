"""The gate before publication: a model that segments worse than the present one does not pass.

Compared is how each model segments images it was not trained on. A model that cannot be compared
does not pass either: nobody would notice if it were worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from backend.learning.registry import ModelCard, Registry

TOLERANCE = 0.005
"""Mean IoU by which two equally good models differ from one training to the next."""

_FORCE = "`scripts/models.py publish` does it anyway with --force"


@dataclass(frozen=True)
class Verdict:
    """May a model be published?"""

    publish: bool
    sentence: str


def not_worse(
    candidate: ModelCard, present: ModelCard | None, tolerance: float = TOLERANCE
) -> Verdict:
    """Judge a model that might serve in place of the present one.

    Args:
        candidate: The new one.
        present: The published one, if there is one.
        tolerance: By how much the mean IoU may be lower, 0 to 1.
    """
    if present is None:
        return Verdict(True, f"{candidate.name} may be published: nothing is published yet")
    if candidate.version == present.version:
        return Verdict(True, f"{candidate.name} is published already")
    if candidate.materials != present.materials:
        return _refused(
            candidate,
            f"its materials are {', '.join(candidate.materials)}, those of the published "
            f"{present.name} {', '.join(present.materials)}, in this order",
        )
    common = _common_images(candidate, present)
    if not common:
        return _refused(
            candidate,
            f"it cannot be compared with the published {present.name}: there is no image with the "
            "same mask that both were measured on",
        )
    new, old = (
        sum(card.metrics["image_iou"][name] for name in common) / len(common)
        for card in (candidate, present)
    )
    found = (
        f"mean IoU {new:.4f}, against {old:.4f} of the published {present.name}, on images not "
        f"trained on ({len(common)} that both know)"
    )
    if new < old - tolerance:
        return _refused(candidate, f"it is worse: {found}")
    step = f"; that is lower by no more than {tolerance:g}" if new < old else ""
    return Verdict(True, f"{candidate.name} may be published: {found}{step}")


def publish(registry: Registry, version: int, *, force: bool = False) -> Verdict:
    """Publish a version if the gate lets it pass, or if it is forced to.

    Raises:
        RegistryError: The version, or the published one, does not exist or is damaged.
        OSError: The registry cannot be written.
    """
    verdict = not_worse(registry.card(version), registry.published())
    if verdict.publish or force:
        registry.publish(version)
    return verdict


@dataclass(frozen=True)
class Step:
    """What a model learned from, compared with the model that served before it."""

    name: str
    created: str
    mean_iou: float | None
    images: int
    added: tuple[str, ...]  # names of images
    changed: tuple[str, ...]  # other pixels or another mask under the same name
    removed: tuple[str, ...]


def lineage(registry: Registry, card: ModelCard) -> list[Step]:
    """Follow a model back from parent to parent, as far as they can be read; itself first."""
    steps = []
    known = {one.version: one for one in registry.cards()}
    while True:
        parent = known.get(card.parent) if card.parent else None
        before = parent.images if parent else {}
        step = Step(
            card.name,
            card.created,
            card.metrics.get("mean_iou"),
            len(card.images),
            added=tuple(name for name in card.images if name not in before),
            changed=tuple(n for n, h in card.images.items() if before.get(n, h) != h),
            removed=tuple(name for name in before if name not in card.images),
        )
        steps.append(step)
        if not parent or parent.version >= card.version:  # the latter in damaged cards only
            return steps
        card = parent


def _refused(candidate: ModelCard, reason: str) -> Verdict:
    return Verdict(False, f"{candidate.name} does not pass the gate: {reason}; {_FORCE}")


def _common_images(candidate: ModelCard, present: ModelCard) -> list[str]:
    """Names of the images that both were measured on, with the same pixels and mask."""
    new, old = (card.metrics.get("image_iou") or {} for card in (candidate, present))
    return [
        name
        for name in new
        if name in old
        and candidate.images.get(name, "new") == present.images.get(name, "old")
        and math.isfinite(new[name] + old[name])
    ]
