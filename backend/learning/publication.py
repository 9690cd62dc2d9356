"""The gate before publication: a model that segments worse than the present one does not pass.

Compared is how each model segments images it was not trained on: with the one that serves, and with
those that served before, so that many small steps back do not add up. A model that cannot be
compared does not pass either: nobody would notice if it were worse. Nor does one that was rolled
back, however good its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.errors import RegistryError
from backend.learning.registry import ModelCard, Registry

TOLERANCE = 0.005
"""Mean IoU by which two equally good models differ from one training to the next."""

_FORCE = "`scripts/models.py publish` does it anyway with --force"
_OTHER_DATA = "train again when more is finished or corrected"


@dataclass(frozen=True)
class Verdict:
    """May a model be published?"""

    publish: bool
    sentence: str


def publish(registry: Registry, version: int, *, force: bool = False) -> Verdict:
    """Publish a version if the gate lets it pass, or if it is forced to.

    Raises:
        RegistryError: The version does not exist or is damaged, or nobody knows what serves.
        OSError: The registry cannot be written.
    """
    verdicts = []

    def gate(card: ModelCard) -> bool:
        verdicts.append(judge(registry, card))
        return verdicts[-1].publish

    registry.publish(version, gate, force=force)
    return verdicts[-1]


def judge(registry: Registry, candidate: ModelCard) -> Verdict:
    """Say whether a version may serve in place of what serves now.

    Raises:
        RegistryError: Nobody knows what serves.
    """
    if registry.history()[-1:] == [candidate.version]:
        return Verdict(True, f"{candidate.name} is published already")
    try:
        known = {card.version: card for card in registry.cards()}
        for version in sorted(registry.rolled_back()):
            if version == candidate.version:
                return _refused(candidate, f"it was rolled back; {_OTHER_DATA}")
            if candidate.work and version in known and known[version].work == candidate.work:
                reason = f"it learned what v{version:04d} had learned, which was rolled back"
                return _refused(candidate, f"{reason}; {_OTHER_DATA}")
        present = registry.published()
        before = [known[one] for one in registry.since_forced()[:-1] if one in known]
    except RegistryError as error:
        return _refused(candidate, f"it cannot be compared: {error}")
    return not_worse(candidate, present, before)


def not_worse(
    candidate: ModelCard,
    present: ModelCard | None,
    before: Sequence[ModelCard] = (),
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Hold a model against the one that serves, and against those that served before it.

    Args:
        candidate: The new one.
        present: The published one, if there is one.
        before: The earlier ones. One that can be compared by less than half as many images as the
            present one does not count: a lucky number on few images would keep all out for ever.
        tolerance: By how much the mean IoU may be lower, 0 to 1.
    """
    if present is None:
        return Verdict(True, f"{candidate.name} may be published: nothing is published yet")
    if candidate.materials != present.materials:
        return _refused(
            candidate,
            f"its materials are {', '.join(candidate.materials)}, those of the published "
            f"{present.name} {', '.join(present.materials)}, in this order",
        )
    now = _compare(candidate, present)
    if now is None:
        return _refused(candidate, _incomparable(candidate, present))
    earlier = [found for card in before if (found := _compare(candidate, card))]
    counted = [now, *(found for found in earlier if 2 * found.images >= now.images)]
    worst = min(counted, key=lambda found: found.new - found.old)
    if worst.new < worst.old - tolerance:
        other = "the published" if worst is now else "the earlier"
        return _refused(candidate, f"it is worse: {worst.against(other)}")
    step = f"; that is lower by no more than {tolerance:g}" if now.new < now.old else ""
    return Verdict(True, f"{candidate.name} may be published: {now.against('the published')}{step}")


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


@dataclass(frozen=True)
class _Comparison:
    """Two models on the same images."""

    name: str  # of the other one
    images: int
    new: float  # mean IoU of the candidate
    old: float  # of the other one

    def against(self, which: str) -> str:
        """Write it for people."""
        return (
            f"mean IoU {self.new:.4f}, against {self.old:.4f} of {which} {self.name}, on images "
            f"not trained on ({self.images} that both know)"
        )


def _compare(candidate: ModelCard, other: ModelCard) -> _Comparison | None:
    """Compare by all images with the same pixels and mask that neither was trained on."""
    new, old = (card.metrics.get("image_iou") or {} for card in (candidate, other))
    theirs = {n: old[n] for n in old if other.images.get(n, "") == candidate.images.get(n)}
    if candidate.parent == other.version:
        theirs = {**candidate.parent_iou, **theirs}
    names = [name for name in new if name in theirs and math.isfinite(new[name] + theirs[name])]
    if not names:
        return None
    means = (sum(ious[name] for name in names) / len(names) for ious in (new, theirs))
    return _Comparison(other.name, len(names), *means)


def _incomparable(candidate: ModelCard, present: ModelCard) -> str:
    """Say that two models cannot be compared, and what to do."""
    reason = f"it cannot be compared with the published {present.name}: "
    if not candidate.metrics.get("image_iou"):
        return f"{reason}no image was held out in its training; finish two or more"
    return (
        f"{reason}there is no image with the same mask that both were measured on, and too few "
        f"that {present.name} learned are among its own; if they are of two projects, export both "
        "to one dataset and train on it with scripts/train_segmentation.py"
    )


def _refused(candidate: ModelCard, reason: str) -> Verdict:
    return Verdict(False, f"{candidate.name} does not pass the gate: {reason}; {_FORCE}")
