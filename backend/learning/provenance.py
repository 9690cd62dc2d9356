"""What decides an answer of a guide besides the strokes, in words that JSON can hold, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from backend.learning.guide import Guide, GuideSettings
from backend.learning.image_network import TrainingSettings
from backend.learning.obal import ObalSettings
from backend.learning.prior import WEIGHTS_PATH

PROGRAMS = ("tem-guide", "numpy", "scikit-learn", "scipy", "scikit-image", "torch")


def decided_by(guide: Guide) -> dict[str, Any]:
    """Say by what a guide answers; two that say the same give the same answers to the same strokes.

    Further turns must be the same too, and no opinion of its network may count, see
    `Guide.opinion_steps`.
    """
    return {
        "image_sha256": guide.image_sha256,
        "classes": list(guide.class_names),
        "settings": asdict(guide.settings),
        "seed": guide.seed,
        "shared_model": guide.shared.card.name if guide.shared else None,
        "prior_sha256": prior_sha256(),
        "versions": dict(_versions()),
    }


def settings_from(said: Mapping[str, Any]) -> GuideSettings:
    """Read the settings of what `decided_by` said.

    Raises:
        ValueError: They are of another version of this program.
    """
    try:
        settings = dict(said["settings"])
        training = dict(settings.pop("training"))
        obal = ObalSettings(**training.pop("obal"))
        return GuideSettings(**settings, training=TrainingSettings(**training, obal=obal))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the settings are those of another version: {error}") from None


def differences(said: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what has changed since: "torch was 2.4.0 and is 2.5.1"."""
    before, after = (
        {"the prior": one.get("prior_sha256", "")[:12], **one.get("versions", {})}
        for one in (said, now)
    )
    return [
        f"{name} was {before.get(name, 'unknown')} and is {after[name]}"
        for name in after
        if before.get(name) != after[name]
    ]


@lru_cache(maxsize=1)
def prior_sha256() -> str:
    """Hash of the weights of the prior, which all guides share."""
    return hashlib.sha256(WEIGHTS_PATH.read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, version(name)) for name in PROGRAMS)
