"""Learn TEM images from scribbles in Label Studio.

Data flow: task → image → scribbles → OBAL weights → guide → probabilities → uncertainty → spots →
prediction. The rooms are those of Fig. 3 of the paper: `microscope` (the TEM equipment),
`annotation` (the client), `learning` (the server), `metrology` (the database); the modules beside
them join the rooms.
"""

import os

# Idle OpenMP threads spin by default: on a machine that is busy otherwise, such as one that also
# runs Label Studio, this made a training thirty times slower. Read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from backend.learning.guide import Guide, GuideSettings, Prediction
from backend.learning.image_network import TrainingSettings
from backend.learning.obal import ObalSettings
from backend.learning.spots import Spot

__all__ = ["Guide", "GuideSettings", "ObalSettings", "Prediction", "Spot", "TrainingSettings"]
