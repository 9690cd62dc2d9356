"""The guide: learns one image from its scribbles, and says where it is unsure.

`update` answers at once: the pixel classifier learns the strokes → the answer before steadies it →
the prior corrects it, which is the inference result → the network's opinion joins, as far as it has
learned the image → uncertainty and spots. `train` goes on between two asks: OBAL turns strokes and
inference result into weights → the network learns the image. Overfits on purpose: a guide serves no
other image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.arrays import (
    MAX_CLASSES,
    UNLABELED,
    CellFeatures,
    GrayImage,
    LabelMap,
    Probabilities,
    UncertaintyMap,
)
from backend.learning import networks, obal
from backend.learning.guide_state import GuideState, to_cells, to_pixels
from backend.learning.image_network import ImageNetwork, TrainingSettings
from backend.learning.networks import (
    SHARED_MARGIN_PX,
    SHARED_TILE_PX,
    pad_image,
    pad_scribbles,
    predict_probabilities,
    to_input,
)
from backend.learning.pixel_classifier import cell_features, classify_cells
from backend.learning.prior import (
    drawn_classes,
    enlarge,
    load_prior,
    refine,
    steadied,
)
from backend.learning.shared_model import SharedModel
from backend.learning.spots import Spot, first_spots, rank_spots
from backend.learning.uncertainty import (
    competence_share,
    geometric_mean,
    local_trust,
    normalized_entropy,
    sure_pixels,
    tempered,
)
from backend.memory import release_freed_memory
from backend.microscope.images import to_gray

_NETWORK = "network."  # before the names of its weights in the file of a guide
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class GuideSettings:
    """How a guide learns."""

    previous_share: float = 0.6
    """Weight of the answer before, where it was sure, in what the prior starts from.

    The classifier's is the rest. More strokes can make a forest worse, by 13 points once, and with
    it the whole guide, by 6.
    """
    prior_share: float = 0.6
    """Weight of the prior's opinion in the inference result, the pixel classifier's is the rest."""
    network_share: float = 0.2
    """Weight of the network's opinion in the answer, that of all others is the rest.

    That of a shared model follows from how good it is, see `competence_share`, and stays beside the
    network that was trained from it: when that took its place, with its weight, a turn of right
    strokes cost 2.2 points.
    """
    min_agreement: float = 0.95
    """How much of what it was taught the network must repeat before its opinion counts.

    Weighted as it was taught, by OBAL. One that has hardly begun to learn made answers worse.
    """
    temperature: float = 0.65
    """What answers are tempered by when they are shown: without, they are less sure than right.

    Fitted on synthetic images.
    """
    training: TrainingSettings = field(default_factory=TrainingSettings)


@dataclass(frozen=True)
class Prediction:
    """What a guide believes about its image."""

    probabilities: Probabilities  # (C, H, W), summing to 1 over C
    label_map: LabelMap  # (H, W), the likeliest class; UNLABELED as long as nothing is known
    uncertainty: UncertaintyMap  # (H, W), 0 sure to 1 undecided
    spots: tuple[Spot, ...]  # where to scribble next, most uncertain first


class Guide:
    """Learns one image from its scribbles.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((64, 64), np.uint8)
        >>> image[32:] = 200
        >>> scribbles = np.full(image.shape, 255, np.uint8)
        >>> scribbles[8:12, 20:40], scribbles[50:54, 20:40] = 0, 1
        >>> prediction = Guide(image, classes=2).update(scribbles)
        >>> prediction.label_map[[4, 60], 32].tolist()
        [0, 1]
    """

    def __init__(  # noqa: PLR0913 - two are needed, the others have names and defaults
        self,
        image: NDArray[np.generic],
        classes: int,
        *,
        class_names: Sequence[str] = (),
        settings: GuideSettings | None = None,
        seed: int = 0,
        describe: Callable[[GrayImage], CellFeatures] = cell_features,
        shared: SharedModel | None = None,
    ) -> None:
        """Prepare all that does not depend on strokes.

        Args:
            image: Gray values of any depth. Shape (H, W), 32 px or more a side.
            classes: Number of materials, 2 to 254.
            class_names: What to call them in reasons; "class 0", ... when left out.
            settings: How to learn.
            seed: The same seed, image and strokes give the same predictions.
            describe: Computes the features of the cells, or remembers them.
            shared: A model that was trained for these classes: the guide knows what it knows
                before the first stroke, and its network starts from its weights.

        Raises:
            InvalidImageError: The image is not one that can be learned.
            ValueError: The number of classes or of names is wrong.
        """
        if not 2 <= classes <= MAX_CLASSES:  # noqa: PLR2004 - nothing to tell apart below
            raise ValueError(f"{classes} classes: a guide needs 2 to {MAX_CLASSES}")
        if class_names and len(class_names) != classes:
            raise ValueError(f"{len(class_names)} class names are given for {classes} classes")
        self.classes = classes
        self.class_names = tuple(class_names) or tuple(f"class {c}" for c in range(classes))
        self.settings = settings or GuideSettings()
        self.seed = seed
        self.shared = shared
        gray = to_gray(image)
        self.shape: tuple[int, int] = (gray.shape[0], gray.shape[1])
        self._image = pad_image(gray)
        self._describe = describe
        self._state = GuideState.blank(classes, self._image.shape)
        self.is_saved = True  # there is nothing to save yet
        self.turns_heard = 0
        """Of the record of its task; who updates it counts."""

    @cached_property
    def image_sha256(self) -> str:
        """What identifies the image, its gray values and size, whatever file it came in."""
        return hashlib.sha256(f"{self._image.shape} ".encode() + self._image.tobytes()).hexdigest()

    @property
    def gray(self) -> GrayImage:
        """The image as it is learned: gray values from 0 to 1, (H, W); a view."""
        return self._unpadded(self._image)

    @cached_property
    def _features(self) -> CellFeatures:
        """Computed when they are first needed."""
        return self._describe(self._image)

    @cached_property
    def _network(self) -> ImageNetwork:
        """Built when it is first trained or loaded."""
        start = self.shared.network if self.shared else None
        return ImageNetwork(self._image, self.classes, self.settings.training, self.seed, start)

    @property
    def nbytes(self) -> int:
        """Memory held between two turns."""
        network = self._network.nbytes if self._has_network else 0
        features = self._features.nbytes if "_features" in self.__dict__ else 0
        opinion = self.__dict__.get("_shared_opinion")
        opinion_bytes = 0 if opinion is None else opinion.nbytes
        return self._image.nbytes + features + opinion_bytes + self._state.nbytes + network

    @property
    def _shared_share(self) -> float:
        """Weight of the shared model's opinion beside the inference result."""
        accuracy = self.shared.card.metrics.get("edge_band_accuracy") if self.shared else None
        return self.settings.network_share if accuracy is None else competence_share(accuracy)

    @property
    def _has_network(self) -> bool:
        return "_network" in self.__dict__

    @property
    def opinion_steps(self) -> int:
        """How long its network had trained for a part in this answer or the one before; 0: none.

        As long as it is 0 the strokes of all turns, in their order, give the same answers again.
        """
        return max(self._state.opinion_steps, self._state.before_steps)

    @property
    def can_learn(self) -> bool:
        """Two classes are drawn: there is something to tell apart."""
        return len(drawn_classes(self._state.scribbles)) > 1

    def prepare(self) -> None:
        """Compute what the first answer needs, ahead of it."""
        _ = self._features
        _ = self._shared_opinion

    def update(self, scribbles: LabelMap) -> Prediction:
        """Answer from all scribbles drawn so far.

        Until two materials are drawn there is nothing to tell apart: the prediction is undecided
        everywhere, and its spots recommend first strokes. With a shared model it is that model's.

        Args:
            scribbles: Drawn class per pixel, `UNLABELED` (255) where nobody drew. Shape (H, W).

        Raises:
            ValueError: The scribbles do not fit the image or name a class that does not exist.
        """
        self._check(scribbles)
        padded = pad_scribbles(scribbles)
        self.is_saved &= bool((padded == self._state.scribbles).all())
        if self._state.take(padded):
            self.__dict__.pop("_network", None)  # it has learned what was erased
        taught = padded
        if self._shared_opinion is not None:
            taught = sure_pixels(self._shared_opinion, padded, self.seed)
        if len(drawn_classes(taught)) < 2:  # noqa: PLR2004 - nothing to tell apart
            return self._without_strokes()
        beliefs = classify_cells(self._features, taught, self.classes, self.seed)
        if len(self._state.known) > 1:
            before = self._state.answer_before.astype(np.float32)
            beliefs = steadied(beliefs, before, self._state.known, self.settings.previous_share)
        inference = enlarge(beliefs)
        if self.settings.prior_share:
            refined = refine(load_prior(), self._image, taught, beliefs)
            inference = geometric_mean(inference, refined, self.settings.prior_share)
        self._state.inference = inference
        release_freed_memory()
        return self._joined()

    def train(self, steps: int) -> None:
        """Let the network learn from the scribbles of the last `update`."""
        if not self.can_learn:
            return
        self._network.train(self._state.scribbles, self._taught(), steps)
        self.is_saved = False
        release_freed_memory()

    def predict(self) -> Prediction:
        """Answer with what is believed by now: asks the network again, after it was trained."""
        if not self.can_learn:
            return self.update(self._unpadded(self._state.scribbles))
        if self._has_network and self._network.trained_steps:
            self._ask_network()
            opinion = self._state.opinion
            if opinion is None or self._agreement(opinion) < self.settings.min_agreement:
                self._state.opinion, self._state.opinion_steps = None, 0
        return self._joined()

    def save(self, path: Path) -> None:
        """Write strokes, answers and the network's weights, so that `load` can go on from here."""
        tensors = self._state.tensors()
        header = {
            "trained_steps": 0,
            "opinion_counts": self._state.opinion is not None,
            "opinion_steps": self._state.opinion_steps,
            "before_steps": self._state.before_steps,
            "turns_heard": self.turns_heard,
            "shared_model": self.shared.card.name if self.shared else None,
        }
        if self._has_network:
            header["trained_steps"] = self._network.trained_steps
            tensors |= {_NETWORK + name: w for name, w in self._network.weights().items()}
        networks.save_tensors(tensors, path, header)
        self.is_saved = True

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ValueError: It is damaged, or of another image or number of classes.
        """
        tensors, header = networks.load_tensors(path)
        weights = {
            name.removeprefix(_NETWORK): tensor
            for name, tensor in tensors.items()
            if name.startswith(_NETWORK)
        }
        try:
            self._state.restore(tensors)
            if (header["shared_model"] is None) != (self.shared is None):
                weights = {}  # a network of another kind: it begins anew, the strokes are there
            if weights:
                self._network.restore(weights, header["trained_steps"])
                if header["opinion_counts"]:
                    self._ask_network()
            self._state.before_steps = header.get("before_steps", 0)
            self.turns_heard = header.get("turns_heard", 0)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} cannot be used: {error}") from error
        self.is_saved = True

    def _check(self, scribbles: LabelMap) -> None:
        if scribbles.shape != self.shape:
            raise ValueError(f"scribbles of shape {scribbles.shape} on an image of {self.shape}")
        if scribbles.dtype != np.uint8:
            raise ValueError(f"scribbles are {scribbles.dtype}: give uint8, 255 where not drawn")
        unknown = np.setdiff1d(scribbles, [*range(self.classes), UNLABELED])
        if unknown.size:
            raise ValueError(f"class {unknown[0]} is drawn, but there are only {self.classes}")

    def _taught(self) -> Probabilities:
        """The inference result for OBAL.

        It has seen the strokes, so that its accuracy there would always be 1: they are held against
        the answer of the turn before, which had not seen the newest of them.
        """
        state = self._state
        before = to_pixels(state.answer_before)
        return np.where(state.scribbles != UNLABELED, before, state.inference)

    def _agreement(self, opinion: Probabilities) -> float:
        """Share of what is taught, by OBAL's weights of the whole image, that `opinion` repeats."""
        scribbles, taught = self._unpadded(self._state.scribbles), self._unpadded(self._taught())
        target = obal.training_target(scribbles, taught)
        weights = obal.obal_weights(scribbles, taught, self.settings.training.obal)
        return float(weights[self._unpadded(opinion).argmax(axis=0) == target].sum())

    def _ask_network(self) -> None:
        self._state.opinion = self._network.probabilities()
        self._state.opinion_steps = self._network.trained_steps
        release_freed_memory()

    @cached_property
    def _shared_opinion(self) -> Probabilities | None:
        """What the shared model says of the padded image, whatever is drawn. (C, H, W)."""
        if self.shared is None:
            return None
        network = self.shared.network
        image = to_input(self._image).to(next(network.parameters()).device)
        opinion = predict_probabilities(network, image, SHARED_TILE_PX, SHARED_MARGIN_PX)
        release_freed_memory()
        return opinion

    def _without_strokes(self) -> Prediction:
        """What is believed as long as there is nothing to tell apart."""
        if self._shared_opinion is None:
            return self._undecided()
        self._state.inference = self._shared_opinion
        return self._joined()

    def _joined(self) -> Prediction:
        """Join the inference result with the opinions of the shared model and of the network."""
        state = self._state
        answer = state.inference
        if self._shared_opinion is not None:
            trust = local_trust(self._shared_opinion, state.scribbles)
            answer = geometric_mean(answer, self._shared_opinion, self._shared_share * trust)
        if state.opinion is not None:
            answer = geometric_mean(answer, state.opinion, self.settings.network_share)
        state.answer = to_cells(answer)
        probabilities = tempered(self._unpadded(answer), self.settings.temperature)
        return Prediction(
            probabilities,
            probabilities.argmax(axis=0).astype(np.uint8),
            normalized_entropy(probabilities),
            rank_spots(probabilities, self._unpadded(state.scribbles), self.class_names),
        )

    def _undecided(self) -> Prediction:
        return Prediction(
            np.full((self.classes, *self.shape), 1 / self.classes, np.float32),
            np.full(self.shape, UNLABELED, np.uint8),
            np.ones(self.shape, np.float32),
            first_spots(self._features, self.shape, self.classes, self.seed),
        )

    def _unpadded(self, padded: NDArray[_T]) -> NDArray[_T]:
        """The image's own part of an array, (..., H', W') -> (..., H, W); a view."""
        return padded[..., : self.shape[0], : self.shape[1]]
