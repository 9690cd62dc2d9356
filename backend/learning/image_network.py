"""The network of one image: trained on its scribbles with OBAL's weights, between two asks.

Overfits on purpose: it serves no other image.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backend.arrays import UNLABELED, GrayImage, LabelMap, Probabilities
from backend.learning import networks, obal

BATCH_NORM_CROPS = 4
"""Crops whose average the statistics of BatchNorm are."""


@dataclass(frozen=True)
class TrainingSettings:
    """How the network of an image learns."""

    crop_px: int = 256
    """Side of the crops around strokes that it trains on."""
    encoder_learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3
    warm_learning_rate: float = 2e-4
    """Of all weights that a shared model started: it must not forget what it knows."""
    encoder_weights: networks.EncoderWeights = "imagenet"
    obal: obal.ObalSettings = field(default_factory=obal.ObalSettings)


class ImageNetwork:
    """A segmentation network that learns one image."""

    def __init__(
        self,
        image: GrayImage,
        classes: int,
        settings: TrainingSettings,
        seed: int,
        start: networks.SharedNetwork | None = None,
    ) -> None:
        """Build it with its starting weights.

        Args:
            image: Shape (H, W), sides multiples of `networks.PADDED_TO_PX`.
            classes: Number of materials.
            settings: How to learn.
            seed: Fixes the new weights and the crops.
            start: The network of a shared model for these materials, which is copied (arm #2 of
                the paper); else natural-image weights (#1), or what the settings say.
        """
        self.classes = classes
        self.settings = settings
        self.trained_steps = 0
        self._settled = start is None  # BatchNorm has the statistics of the weights of now
        self._device = networks.fastest_device()
        self._input = networks.to_input(image).to(self._device)
        network: nn.Module
        if start:
            network = copy.deepcopy(start)
        else:
            with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
                torch.manual_seed(seed)
                network = networks.build_network(classes, settings.encoder_weights)
        self._network = network.to(self._device)
        self._optimizer = self._build_optimizer()
        self._random = np.random.default_rng(seed)

    @property
    def nbytes(self) -> int:
        """Memory held by the image, the weights, their gradients and AdamW's two moments."""
        copies = 4
        parameters = sum(p.numel() for p in self._network.parameters())
        return self._input.nbytes + 4 * copies * parameters

    def train(self, scribbles: LabelMap, inference: Probabilities, steps: int) -> None:
        """Minimize Eq. (2) on crops around strokes; the six conditions hold in each of them.

        Args:
            scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
            inference: The inference result that teaches the background; on drawn pixels, what
                was believed before they were drawn. Shape (C, H, W).
            steps: How many crops to learn from; none as long as nothing is drawn.
        """
        labels = np.unique(scribbles[scribbles != UNLABELED])
        if not len(labels):
            return
        drawn = [np.argwhere(scribbles == label) for label in labels]
        self._network.train()
        for _ in range(steps):
            of_one_class = drawn[self._random.integers(len(drawn))]  # rare classes as often
            rows, columns = self._crop_around(self._random.choice(of_one_class))
            with networks.mixed_precision(self._device):
                logits = self._network(self._input[:, :, rows, columns])
            loss = self._loss(logits.float(), scribbles[rows, columns], inference[:, rows, columns])
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        self.trained_steps += steps
        self._settled = False

    def probabilities(self) -> Probabilities:
        """What it believes of the whole image, shape (C, H, W)."""
        if not self._settled:
            self._settle_batch_norm()
        return networks.predict_probabilities(self._network, self._input)

    def weights(self) -> dict[str, Tensor]:
        """Its weights by name, so that `restore` can go on from here."""
        if not self._settled:
            self._settle_batch_norm()
        return dict(self._network.state_dict())

    def restore(self, weights: Mapping[str, Tensor], trained_steps: int) -> None:
        """Go on from what `weights` gave after so many steps.

        Raises:
            ValueError: They belong to another network.
        """
        networks.take_statistics(self._network, ())  # what `weights` holds comes in their place
        networks.put_weights(self._network, weights)
        self.trained_steps = trained_steps
        self._settled = True
        self._optimizer = self._build_optimizer()

    def _build_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        groups: list[dict[str, Any]] = [
            {"params": self._network.parameters(), "lr": settings.warm_learning_rate}
        ]
        if isinstance(self._network, networks.SegmentationModel):  # its decoder begins at random
            encoder = list(self._network.encoder.parameters())
            known = set(encoder)
            fresh = [p for p in self._network.parameters() if p not in known]
            groups = [
                {"params": encoder, "lr": settings.encoder_learning_rate},
                {"params": fresh, "lr": settings.decoder_learning_rate},
            ]
        return torch.optim.AdamW(
            groups,
            weight_decay=1e-4,
            fused=True,  # in place: the default makes copies of all weights at each step
        )

    def _loss(self, logits: Tensor, scribbles: LabelMap, inference: Probabilities) -> Tensor:
        """OBAL's loss of one crop."""
        target = obal.training_target(scribbles, inference).astype(np.int64)
        weights = obal.obal_weights(scribbles, inference, self.settings.obal).astype(np.float32)
        return obal.obal_loss(
            logits,
            torch.from_numpy(target)[None].to(self._device),
            torch.from_numpy(weights)[None].to(self._device),
        )

    def _settle_batch_norm(self) -> None:
        """Give BatchNorm the statistics of this image under the weights of now.

        Batch statistics at prediction are slower by an order of magnitude on large images.
        """
        crops = [self._crop_around(self._random.integers(self._input.shape[2:]))
                 for _ in range(BATCH_NORM_CROPS)]  # fmt: skip
        networks.take_statistics(self._network, (self._input[..., r, c] for r, c in crops))
        self._settled = True

    def _crop_around(self, pixel: NDArray[np.integer]) -> tuple[slice, slice]:
        """Choose a crop that holds `pixel`, at random, inside the image."""
        size = self.settings.crop_px
        starts = []
        for position, side in zip(pixel, self._input.shape[2:], strict=True):
            low = max(0, int(position) - size + 1)
            high = min(int(position), max(0, side - size))
            starts.append(int(self._random.integers(min(low, high), high + 1)))
        return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)
