"""The guide: learns one image from its scribbles, and says where it is unsure.

`update` answers at once: the pixel classifier learns the strokes → the prior corrects it, which is
the inference result → the network's opinion joins, as far as it has learned the image → uncertainty
and spots. `train` goes on between two asks: OBAL turns strokes and inference result into weights →
the network learns the image. Overfits on purpose: a guide serves no other image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

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
from backend.learning.image_network import ImageNetwork, TrainingSettings
from backend.learning.networks import pad_image
from backend.learning.pixel_classifier import cell_features, classify_cells
from backend.learning.prior import enlarge, load_prior, refine
from backend.learning.spots import Spot, first_spots, rank_spots
from backend.learning.uncertainty import geometric_mean, normalized_entropy
from backend.memory import release_freed_memory
from backend.microscope.images import to_gray


@dataclass(frozen=True)
class GuideSettings:
    """How a guide learns."""

    prior_share: float = 0.6
    """Weight of the prior's opinion in the inference result, the pixel classifier's is the rest."""
    network_share: float = 0.2
    """Weight of the trained network's opinion in the answer, the inference result's is the rest."""
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

    def __init__(
        self,
        image: NDArray[np.generic],
        classes: int,
        *,
        class_names: Sequence[str] = (),
        settings: GuideSettings | None = None,
        seed: int = 0,
        describe: Callable[[GrayImage], CellFeatures] = cell_features,
    ) -> None:
        """Prepare all that does not depend on strokes.

        Args:
            image: Gray values of any depth. Shape (H, W), 32 px or more a side.
            classes: Number of materials, 2 to 254.
            class_names: What to call them in reasons; "class 0", ... when left out.
            settings: How to learn.
            seed: The same seed, image and strokes give the same predictions.
            describe: Computes the features of the cells, or remembers them.

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
        gray = to_gray(image)
        self.shape: tuple[int, int] = (gray.shape[0], gray.shape[1])
        self._image = pad_image(gray)
        self._features = describe(self._image)
        self._scribbles = np.full(self._image.shape, UNLABELED, np.uint8)
        self._inference = self._answer = self._answer_before = self._even()

    @cached_property
    def _network(self) -> ImageNetwork:
        """Built when it is first trained or loaded."""
        return ImageNetwork(self._image, self.classes, self.settings.training, self.seed)

    @property
    def nbytes(self) -> int:
        """Memory held between two turns."""
        maps = (self._image, self._features, self._inference, self._answer, self._answer_before)
        network = self._network.nbytes if "_network" in self.__dict__ else 0
        return sum(array.nbytes for array in maps) + network

    @property
    def has_unsaved_training(self) -> bool:
        """The network has learned something since it was saved or loaded."""
        return "_network" in self.__dict__ and not self._network.is_saved

    @property
    def can_learn(self) -> bool:
        """Two classes are drawn: there is something to tell apart."""
        drawn = self._scribbles[self._scribbles != UNLABELED]
        return drawn.size > 0 and bool((drawn != drawn[0]).any())

    def update(self, scribbles: LabelMap) -> Prediction:
        """Answer from all scribbles drawn so far.

        Until two materials are drawn there is nothing to tell apart: the prediction is undecided
        everywhere, and its spots recommend first strokes.

        Args:
            scribbles: Drawn class per pixel, `UNLABELED` (255) where nobody drew. Shape (H, W).

        Raises:
            ValueError: The scribbles do not fit the image or name a class that does not exist.
        """
        self._check(scribbles)
        self._scribbles[: self.shape[0], : self.shape[1]] = scribbles
        if not self.can_learn:
            return self._undecided()
        self._answer_before = self._answer
        beliefs = classify_cells(self._features, self._scribbles, self.classes, self.seed)
        self._inference = enlarge(beliefs)
        if self.settings.prior_share:
            refined = refine(load_prior(), self._image, self._scribbles, beliefs)
            self._inference = geometric_mean(self._inference, refined, self.settings.prior_share)
        release_freed_memory()
        return self.predict()

    def train(self, steps: int) -> None:
        """Let the network learn from the scribbles of the last `update`."""
        if not self.can_learn:
            return
        # The inference result has seen the strokes, so its accuracy there would always be 1: they
        # are held against the answer of the turn before, which had not seen the newest of them.
        drawn = self._scribbles != UNLABELED
        inference = np.where(drawn, self._answer_before, self._inference)
        self._network.train(self._scribbles, inference, steps)
        release_freed_memory()

    def predict(self) -> Prediction:
        """Answer with what is believed by now."""
        if not self.can_learn:
            return self._undecided()
        self._answer = self._inference
        if "_network" in self.__dict__ and self._network.trained_steps:
            learned = self._network.probabilities()
            self._answer = geometric_mean(self._inference, learned, self.settings.network_share)
        probabilities = self._answer[:, : self.shape[0], : self.shape[1]]
        scribbles = self._scribbles[: self.shape[0], : self.shape[1]]
        uncertainty = normalized_entropy(probabilities)
        return Prediction(
            probabilities,
            probabilities.argmax(axis=0).astype(np.uint8),
            uncertainty,
            rank_spots(probabilities, scribbles, self.class_names),
        )

    def save(self, path: Path) -> None:
        """Write the network's weights, so that `load` can go on from here."""
        self._network.save(path)

    def load(self, path: Path) -> None:
        """Go on from weights written by `save`.

        Raises:
            ValueError: They are damaged or belong to another number of classes.
        """
        self._network.load(path)

    def _check(self, scribbles: LabelMap) -> None:
        if scribbles.shape != self.shape:
            raise ValueError(f"scribbles of shape {scribbles.shape} on an image of {self.shape}")
        if scribbles.dtype != np.uint8:
            raise ValueError(f"scribbles are {scribbles.dtype}: give uint8, 255 where not drawn")
        unknown = np.setdiff1d(scribbles, [*range(self.classes), UNLABELED])
        if unknown.size:
            raise ValueError(f"class {unknown[0]} is drawn, but there are only {self.classes}")

    def _undecided(self) -> Prediction:
        even = self._even()[:, : self.shape[0], : self.shape[1]]
        return Prediction(
            even,
            np.full(self.shape, UNLABELED, np.uint8),
            np.ones(self.shape, np.float32),
            first_spots(self._features, self.shape, self.classes, self.seed),
        )

    def _even(self) -> Probabilities:
        """Belief before anything is learned: all classes are equally likely."""
        return np.full((self.classes, *self._image.shape), 1 / self.classes, np.float32)
