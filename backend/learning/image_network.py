"""The network of one image: trained on its scribbles with OBAL's weights, between two asks.

Overfits on purpose: it serves no other image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
        start: networks.SegmentationModel | None = None,
    ) -> None:
        """Build it with its starting weights.

        Args:
            image: Shape (H, W), sides multiples of `networks.PADDED_TO_PX`.
            classes: Number of materials.
            settings: How to learn.
            seed: Fixes the new weights and the crops.
            start: A network of a shared model for these materials, whose weights are copied (arm #2
                of the paper); else natural-image weights (#1), or what the settings say.
        """
        self.classes = classes
        self.settings = settings
        self.trained_steps = 0
        self._settled = True  # BatchNorm has the statistics of the weights of now
        self._is_warm = start is not None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._input = networks.to_input(image).to(self._device)
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(seed)
            weights = "random" if start else settings.encoder_weights
            network = networks.build_network(classes, weights)
        if start:
            networks.put_weights(network, start.state_dict())
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
            steps: How many crops to learn from.
        """
        labels = np.unique(scribbles[scribbles != UNLABELED])
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
        networks.put_weights(self._network, weights)
        self.trained_steps = trained_steps
        self._settled = True
        self._optimizer = self._build_optimizer()

    def _build_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        rates = settings.encoder_learning_rate, settings.decoder_learning_rate
        if self._is_warm:
            rates = settings.warm_learning_rate, settings.warm_learning_rate
        encoder = list(self._network.encoder.parameters())
        known = set(encoder)
        fresh = [p for p in self._network.parameters() if p not in known]
        return torch.optim.AdamW(
            [
                {"params": encoder, "lr": rates[0]},
                {"params": fresh, "lr": rates[1]},
            ],
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

        The running averages of a few steps lag far behind them (13 % accuracy seen), and batch
        statistics at prediction are slower by an order of magnitude on large images.
        """
        for module in self._network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # a plain average of what follows
        self._network.train()
        with torch.no_grad(), networks.mixed_precision(self._device):
            for _ in range(BATCH_NORM_CROPS):
                anywhere = self._random.integers(self._input.shape[2:])
                rows, columns = self._crop_around(anywhere)
                self._network(self._input[:, :, rows, columns])
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
