"""Learn TEM images from scribbles in Label Studio.

Data flow: task → image → scribbles → OBAL weights → guide → probabilities → uncertainty → spots →
prediction. The rooms are those of Fig. 3 of the paper: `microscope` (the TEM equipment),
`annotation` (the client), `learning` (the server), `metrology` (the database); the modules beside
them join the rooms.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Idle OpenMP threads spin by default: on a machine that is busy otherwise, such as one that also
# runs Label Studio, this made a training thirty times slower. Read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "Guide": "guide",
    "GuideSettings": "guide",
    "ObalSettings": "obal",
    "Prediction": "guide",
    "Spot": "spots",
    "TrainingSettings": "image_network",
}
__all__ = ["Guide", "GuideSettings", "ObalSettings", "Prediction", "Spot", "TrainingSettings"]

if TYPE_CHECKING:
    from backend.learning.guide import Guide, GuideSettings, Prediction
    from backend.learning.image_network import TrainingSettings
    from backend.learning.obal import ObalSettings
    from backend.learning.spots import Spot


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class, as mypy sees above
    """Load a class of the guide when it is asked for: measuring CDs needs no PyTorch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"backend.learning.{_HOMES[name]}"), name)
