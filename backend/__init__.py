"""Learn TEM images from scribbles in Label Studio.

Data flow: task → image → scribbles → OBAL weights → guide → probabilities → uncertainty → spots →
prediction. The rooms are those of Fig. 3 of the paper: `microscope` (the TEM equipment),
`annotation` (the client), `learning` (the server), `metrology` (the database); the modules beside
them join the rooms.
"""

from backend.learning.guide import Guide, GuideSettings, Prediction
from backend.learning.obal import ObalSettings
from backend.learning.spots import Spot

__all__ = ["Guide", "GuideSettings", "ObalSettings", "Prediction", "Spot"]
