"""The guide: learns one image from its scribbles, and says where it is unsure.

One turn, in five stages: the pixel classifier gives the inference result → OBAL turns strokes and
inference result into weights → the network trains on crops of the image → both opinions are joined
→ uncertainty and spots. Overfits on purpose: a guide serves no other image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backend.arrays import (
    MAX_CLASSES,
    UNLABELED,
    LabelMap,
    Probabilities,
    UncertaintyMap,
)
from backend.learning import networks, obal
from backend.learning.pixel_classifier import classify_pixels, pixel_features
from backend.learning.spots import Spot, first_spots, rank_spots
from backend.learning.uncertainty import geometric_mean, normalized_entropy
from backend.memory import release_freed_memory
from backend.microscope.images import to_gray

BATCH_NORM_CROPS = 4
"""Crops whose average the statistics of BatchNorm are."""


@dataclass(frozen=True)
class GuideSettings:
    """How a guide learns."""

    steps: int = 8
    """Training steps of the network a turn."""
    crop_px: int = 256
    """Side of the crops around strokes that it trains on."""
    encoder_learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3
    network_share: float = 0.3
    """Weight of the network's opinion in the answer, the classifier's being the rest."""
    encoder_weights: networks.EncoderWeights = "imagenet"
    obal: obal.ObalSettings = field(default_factory=lambda: obal.ObalSettings(background_share=0.8))


@dataclass(frozen=True)
class Prediction:
    """What a guide believes about its image."""

    probabilities: Probabilities  # (C, H, W), summing to 1 over C
    label_map: LabelMap  # (H, W), the likeliest class
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
    ) -> None:
        """Prepare all that does not depend on strokes.

        Args:
            image: Gray values of any depth. Shape (H, W), 32 px or more a side.
            classes: Number of materials, 2 to 254.
            class_names: What to call them in reasons; "class 0", ... when left out.
            settings: How to learn.
            seed: The same seed, image and strokes give the same predictions.

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
        self._features = pixel_features(gray)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._input = networks.to_input(gray).to(self._device)
        self._network = self._build_network()
        self._optimizer = self._build_optimizer()
        self._random = np.random.default_rng(seed)
        self._answered = self._even()

    @property
    def nbytes(self) -> int:
        """Memory held between two turns: features, and the network with its optimizer."""
        parameters = sum(p.numel() for p in self._network.parameters())
        optimizer_copies = 3  # the gradient and AdamW's two moments
        return (
            self._features.nbytes + self._answered.nbytes + 4 * (1 + optimizer_copies) * parameters
        )

    def update(self, scribbles: LabelMap) -> Prediction:
        """Learn from all scribbles drawn so far, then predict.

        Until two materials are drawn there is nothing to tell apart: the prediction is undecided
        everywhere, and its spots recommend first strokes.

        Args:
            scribbles: Drawn class per pixel, `UNLABELED` (255) where nobody drew. Shape (H, W).

        Raises:
            ValueError: The scribbles do not fit the image or name a class that does not exist.
        """
        self._check(scribbles)
        if len(_classes_in(scribbles)) < 2:  # noqa: PLR2004 - nothing to tell apart
            return self._undecided()
        classified = classify_pixels(self._features, scribbles, self.classes, self.seed)
        # The classifier recalls the strokes it has seen, so its accuracy there would always be 1:
        # each stroke is held against what the guide had answered before it learned from it.
        inference = np.where(scribbles == UNLABELED, classified, self._answered)
        release_freed_memory()  # each stage would come on top of what the one before it left
        self._train(scribbles, inference)
        release_freed_memory()
        height, width = self.shape
        learned = networks.predict_probabilities(self._network, self._input)[:, :height, :width]
        probabilities = geometric_mean(classified, learned, self.settings.network_share)
        self._answered = probabilities
        uncertainty = normalized_entropy(probabilities)
        release_freed_memory()
        return Prediction(
            probabilities,
            probabilities.argmax(axis=0).astype(np.uint8),
            uncertainty,
            rank_spots(probabilities, uncertainty, scribbles, self.class_names),
        )

    def save(self, path: Path) -> None:
        """Write the network's weights, so that `load` can go on from here."""
        header = {"classes": self.classes, "encoder_name": networks.ENCODER_NAME}
        networks.save_weights(self._network, path, header)

    def load(self, path: Path) -> None:
        """Go on from weights written by `save`.

        Raises:
            ValueError: They are damaged or belong to another number of classes.
        """
        networks.load_weights(self._network, path)
        self._optimizer = self._build_optimizer()

    def _build_network(self) -> networks.SegmentationModel:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(self.seed)
            network = networks.build_network(self.classes, self.settings.encoder_weights)
        return network.to(self._device)

    def _build_optimizer(self) -> torch.optim.Optimizer:
        encoder = list(self._network.encoder.parameters())
        known = set(encoder)
        fresh = [p for p in self._network.parameters() if p not in known]
        return torch.optim.AdamW(
            [
                {"params": encoder, "lr": self.settings.encoder_learning_rate},
                {"params": fresh, "lr": self.settings.decoder_learning_rate},
            ],
            weight_decay=1e-4,
            fused=True,  # in place: the default makes copies of all weights at each step
        )

    def _check(self, scribbles: LabelMap) -> None:
        if scribbles.shape != self.shape:
            raise ValueError(f"scribbles of shape {scribbles.shape} on an image of {self.shape}")
        if scribbles.dtype != np.uint8:
            raise ValueError(f"scribbles are {scribbles.dtype}: give uint8, 255 where not drawn")
        unknown = np.setdiff1d(scribbles, [*range(self.classes), UNLABELED])
        if unknown.size:
            raise ValueError(f"class {unknown[0]} is drawn, but there are only {self.classes}")

    def _train(self, scribbles: LabelMap, inference: Probabilities) -> None:
        """Minimize Eq. (2) on crops around strokes; the six conditions hold in each of them."""
        drawn = [np.argwhere(scribbles == label) for label in _classes_in(scribbles)]
        self._network.train()
        for _ in range(self.settings.steps):
            of_one_class = drawn[self._random.integers(len(drawn))]  # rare classes as often
            rows, columns = self._crop_around(self._random.choice(of_one_class))
            with networks.mixed_precision(self._device):
                logits = self._network(self._input[:, :, rows, columns])
            loss = self._loss(logits.float(), scribbles[rows, columns], inference[:, rows, columns])
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        self._settle_batch_norm()

    def _loss(self, logits: Tensor, scribbles: LabelMap, inference: Probabilities) -> Tensor:
        """OBAL's loss of one crop; where it leaves the image, the padding weighs nothing."""
        target = obal.training_target(scribbles, inference).astype(np.int64)
        weights = obal.obal_weights(scribbles, inference, self.settings.obal).astype(np.float32)
        height, width = scribbles.shape
        return obal.obal_loss(
            logits[:, :, :height, :width],
            torch.from_numpy(target)[None].to(self._device),
            torch.from_numpy(weights)[None].to(self._device),
        )

    def _settle_batch_norm(self) -> None:
        """Give BatchNorm the statistics of this image under the weights of now.

        The running averages of a few steps lag far behind them (13 % accuracy seen), and batch
        statistics at prediction are slower by an order of magnitude on large images.
        """
        for module in self._network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain average of what follows
        with torch.no_grad(), networks.mixed_precision(self._device):
            for _ in range(BATCH_NORM_CROPS):
                anywhere = self._random.integers(self.shape)
                rows, columns = self._crop_around(anywhere)
                self._network(self._input[:, :, rows, columns])

    def _crop_around(self, pixel: NDArray[np.integer]) -> tuple[slice, slice]:
        """Choose a crop that holds `pixel`, at random, inside the padded image."""
        size = self.settings.crop_px
        starts = []
        for position, side in zip(pixel, self._input.shape[2:], strict=True):
            low = max(0, int(position) - size + 1)
            high = min(int(position), max(0, side - size))
            starts.append(int(self._random.integers(min(low, high), high + 1)))
        return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)

    def _undecided(self) -> Prediction:
        even = self._even()
        return Prediction(
            even,
            even.argmax(axis=0).astype(np.uint8),
            np.ones(self.shape, np.float32),
            first_spots(self._features, self.classes, self.seed),
        )

    def _even(self) -> Probabilities:
        """Belief before anything is learned: all classes are equally likely."""
        return np.full((self.classes, *self.shape), 1 / self.classes, np.float32)


def _classes_in(scribbles: LabelMap) -> list[int]:
    """List the classes drawn, in order."""
    drawn: list[int] = np.unique(scribbles[scribbles != UNLABELED]).tolist()
    return drawn
