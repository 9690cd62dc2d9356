"""The methods that are compared, by name: the guide, its parts alone, the paper's, the forests.

Those that start from a shared model join them where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.arrays import LabelMap, Probabilities
from backend.learning.guide import Guide, GuideSettings, Prediction
from backend.learning.image_network import ImageNetwork, TrainingSettings
from backend.learning.labeled_images import LabeledImage
from backend.learning.networks import EncoderWeights, pad_image, pad_scribbles
from backend.learning.obal import ObalSettings
from backend.learning.peers import Forest, ForestPeer
from backend.learning.pixel_classifier import cell_features, classify_cells
from backend.learning.prior import enlarge
from backend.learning.registry import ModelCard
from backend.learning.shared_model import SharedModel
from backend.learning.spots import rank_spots
from backend.learning.uncertainty import normalized_entropy
from backend.microscope.images import pixels_sha256, to_gray

Image = NDArray[Any]  # (H, W), of any depth

PLAIN_CROSS_ENTROPY = ObalSettings(accuracy_min=1.0, background_share=1e-9)
"""OBAL without its ideas: strokes only, each class the same, each of its pixels the same."""


class Player(Protocol):
    """A method at work on one image."""

    def answer(self, scribbles: LabelMap) -> Prediction:
        """Answer from all scribbles drawn so far, (H, W); the annotator waits for it."""

    def go_on(self) -> None:
        """Use the time in which the annotator draws."""


@dataclass(frozen=True)
class Method:
    """One method of the comparison."""

    description: str
    start: Callable[[Image, Sequence[str], int, int], Player]
    """Takes the image, the materials in the order of its classes, training steps a turn, a seed."""
    meets_all: bool = False
    """Annotators of every kind work with it; with a part or a variant only those of the first."""
    is_warm: bool = False
    """It knows the materials before the first stroke."""


class GuidePlayer:
    """The guide, or parts of it."""

    def __init__(self, guide: Guide, steps: int, *, waits: bool) -> None:
        """Take a guide whose network trains so many steps a turn.

        With `waits` the annotator waits for them; else they are done while the annotator draws, as
        the backend does.
        """
        self._guide = guide
        self._steps = steps
        self._waits = waits

    def answer(self, scribbles: LabelMap) -> Prediction:
        """Answer, after training if that is waited for."""
        prediction = self._guide.update(scribbles)
        if self._waits and self._steps:
            self._guide.train(self._steps)
            prediction = self._guide.predict()
        return prediction

    def go_on(self) -> None:
        """Train, unless that has been done."""
        if not self._waits and self._steps:
            self._guide.train(self._steps)
            self._guide.predict()  # its network's opinion joins the next answer


class NetworkPlayer:
    """The paper's method to the letter: one network, whose own last answer is OBAL's inference."""

    def __init__(self, network: ImageNetwork, steps: int) -> None:
        """Take an untrained network of the padded image."""
        self._network = network
        self._steps = steps
        self._inference = network.probabilities()  # padded

    def answer(self, scribbles: LabelMap) -> Prediction:
        """Train on the strokes and on what was believed, then predict."""
        self._network.train(pad_scribbles(scribbles), self._inference, self._steps)
        self._inference = self._network.probabilities()
        return to_prediction(self._inference, scribbles)

    def go_on(self) -> None:
        """Wait."""


class ClassifierPlayer:
    """The guide's pixel classifier, which nothing corrects."""

    def __init__(self, image: Image, classes: int, seed: int) -> None:
        """Compute the features of all cells."""
        self._features = cell_features(pad_image(to_gray(image)))
        self._classes = classes
        self._seed = seed

    def answer(self, scribbles: LabelMap) -> Prediction:
        """Learn all strokes anew."""
        drawn = pad_scribbles(scribbles)
        beliefs = classify_cells(self._features, drawn, self._classes, self._seed)
        return to_prediction(enlarge(beliefs), scribbles)

    def go_on(self) -> None:
        """Wait."""


class ForestPlayer:
    """A forest."""

    def __init__(self, forest: ForestPeer) -> None:
        """Take a forest that knows the image."""
        self._forest = forest

    def answer(self, scribbles: LabelMap) -> Prediction:
        """Learn all strokes anew."""
        return to_prediction(self._forest.update(scribbles), scribbles)

    def go_on(self) -> None:
        """Wait."""


def to_prediction(probabilities: Probabilities, scribbles: LabelMap) -> Prediction:
    """Show probabilities as the guide shows its own, the recommended spots included.

    Args:
        probabilities: Shape (C, H, W), or padded below and to the right.
        scribbles: Shape (H, W).
    """
    height, width = scribbles.shape
    cut = probabilities[:, :height, :width]
    names = [f"class {label}" for label in range(len(cut))]
    return Prediction(
        cut,
        cut.argmax(axis=0).astype(np.uint8),
        normalized_entropy(cut),
        rank_spots(cut, scribbles, names),
    )


def _guide(description: str, settings: GuideSettings, *, trains: bool, waits: bool) -> Method:
    def start(image: Image, materials: Sequence[str], steps: int, seed: int) -> Player:
        guide = Guide(image, len(materials), settings=settings, seed=seed)
        return GuidePlayer(guide, steps if trains else 0, waits=waits)

    return Method(description, start)


def _network(description: str, weights: EncoderWeights, obal: ObalSettings) -> Method:
    def start(image: Image, materials: Sequence[str], steps: int, seed: int) -> Player:
        training = TrainingSettings(encoder_weights=weights, obal=obal)
        network = ImageNetwork(pad_image(to_gray(image)), len(materials), training, seed)
        return NetworkPlayer(network, steps)

    return Method(description, start)


def _forest(description: str, kind: Forest) -> Method:
    def start(image: Image, materials: Sequence[str], _: int, seed: int) -> Player:
        return ForestPlayer(ForestPeer(image, len(materials), kind, seed))

    return Method(description, start, meets_all=True)


_PLAIN = TrainingSettings(obal=PLAIN_CROSS_ENTROPY)

METHODS: Mapping[str, Method] = {
    "guide": _guide(
        "all: answers at once, its network learns with OBAL while the annotator draws",
        GuideSettings(),
        trains=True,
        waits=False,
    ),
    "guide-plain": _guide(
        "the guide, its network trained by plain balanced cross-entropy instead of OBAL",
        GuideSettings(training=_PLAIN),
        trains=True,
        waits=False,
    ),
    "guide-untrained": replace(
        _guide("the guide without its network", GuideSettings(), trains=False, waits=False),
        meets_all=True,
    ),
    "guide-uncalibrated": _guide(
        "the same, its answers not tempered",
        GuideSettings(temperature=1),
        trains=False,
        waits=False,
    ),
    "guide-unsteadied": _guide(
        "the same, each answer from the strokes alone",
        GuideSettings(previous_share=0),
        trains=False,
        waits=False,
    ),
    "classifier": Method(
        "the guide's pixel classifier alone",
        lambda image, materials, _, seed: ClassifierPlayer(image, len(materials), seed),
    ),
    "prior": _guide(
        "the guide's synthetic prior alone",
        GuideSettings(prior_share=1, previous_share=0),
        trains=False,
        waits=False,
    ),
    "network": _guide(
        "the guide's network alone, after its training of the turn",
        GuideSettings(network_share=1, min_agreement=0),
        trains=True,
        waits=True,
    ),
    "network-plain": _guide(
        "the same by plain balanced cross-entropy",
        GuideSettings(network_share=1, min_agreement=0, training=_PLAIN),
        trains=True,
        waits=True,
    ),
    "paper-random": _network("the paper's method from random weights", "random", ObalSettings()),
    "paper-imagenet": _network(
        "the paper's method from natural-image weights", "imagenet", ObalSettings()
    ),
    "paper-plain": _network(
        "the same by plain balanced cross-entropy", "imagenet", PLAIN_CROSS_ENTROPY
    ),
    "forest": _forest(
        "random forest on filter features: ilastik, Weka and LabKit", "random forest"
    ),
    "trees": _forest("extra trees that also see the row", "extra trees"),
}


def shared_methods(shared: SharedModel) -> dict[str, Method]:
    """The methods that a shared model starts (arm #2 of the paper); it finds materials by name."""

    def guide(image: Image, materials: Sequence[str], steps: int, seed: int) -> Player:
        started = Guide(image, len(materials), seed=seed, shared=shared.for_materials(materials))
        return GuidePlayer(started, steps, waits=False)

    def untrained(image: Image, materials: Sequence[str], _: int, seed: int) -> Player:
        return guide(image, materials, 0, seed)

    def network(image: Image, materials: Sequence[str], steps: int, seed: int) -> Player:
        gray = pad_image(to_gray(image))
        weights = shared.for_materials(materials).network
        settings = TrainingSettings()
        return NetworkPlayer(ImageNetwork(gray, len(materials), settings, seed, weights), steps)

    name = f"shared model {shared.card.name}"
    return {
        "guide-shared": Method(f"the guide, started by {name}", guide, is_warm=True),
        "guide-shared-untrained": Method(
            "the same, its network not trained on the image", untrained, is_warm=True
        ),
        "paper-shared": Method(
            f"the paper's method from the weights of {name}", network, is_warm=True
        ),
    }


def check_unseen(card: ModelCard, images: Iterable[LabeledImage]) -> None:
    """Refuse images on which the figures of a shared model would be wrong and look right.

    Raises:
        ValueError: It was trained on one, or one shows a material that it does not know.
    """
    for image in images:
        where = f"{image.name} of {image.data_set}"
        unknown = [name for name in image.materials if name not in card.materials]
        if unknown:
            raise ValueError(
                f"{where} shows {', '.join(unknown)}, but shared model {card.name} knows only "
                f"{', '.join(card.materials)}: give the images a legend.json with these names, or "
                "leave them out"
            )
        if pixels_sha256(image.image) in card.pictures:
            raise ValueError(
                f"shared model {card.name} was trained on {where}: its figures there say nothing "
                "of new images, leave it out"
            )
