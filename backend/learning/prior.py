"""The prior: a network that has learned what strokes mean, on random micrographs, once for all.

For one class at a time it sees the image, the strokes of the class, those of the others, and what a
pixel classifier believes of the class, and corrects that belief. So it serves any number of classes
and any image, and needs no training on it. A U-Net sees far; two convolutions put the borders in
their place, to the pixel.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from backend.arrays import UNLABELED, CellProbabilities, GrayImage, LabelMap, Probabilities
from backend.learning import networks
from backend.learning.pixel_classifier import CELL_PX
from backend.learning.uncertainty import normalized_entropy

WEIGHTS_PATH = Path(__file__).with_name("prior_weights.safetensors")
TILE_PX = 512
TILE_MARGIN_PX = 64
MAX_BATCH_PX = 1 << 18
"""Pixels of all classes together that go through the network at once; bounds its memory."""

_FULL_PLANES = 3  # image, strokes of the class, strokes of the others
_CELL_PLANES = 3  # belief in the class, belief in its strongest rival, row
_SEEN_PLANES = _FULL_PLANES * CELL_PX**2 + _CELL_PLANES
_FEATURES = 32
_DECODER_CHANNELS = (64, 48, 32, 24, 16)
_BELIEF_FLOOR = 0.01  # the classifier is never taken to be surer than this


class PriorNetwork(nn.Module):
    """Logit of one class for each pixel, from its planes."""

    def __init__(self, encoder_weights: networks.EncoderWeights = "random") -> None:
        """Build it untrained; ImageNet weights are a better start of its training."""
        super().__init__()
        unet = networks.build_unet(
            _SEEN_PLANES, 1, _DECODER_CHANNELS, encoder_weights, image_channels=CELL_PX**2
        )
        self.encoder, self.decoder = unet.encoder, unet.decoder
        self.near = nn.Conv2d(_DECODER_CHANNELS[-1] + _SEEN_PLANES, _FEATURES, 3, padding=1)
        self.out = nn.Conv2d(_FEATURES, CELL_PX**2, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)  # untrained, it believes the classifier

    def forward(self, full: Tensor, cells: Tensor) -> Tensor:
        """Correct the classifier's belief.

        All is computed on cells, the pixels of a cell side by side as channels: at full size the
        same takes twice as long.

        Args:
            full: From `class_planes`. Shape (N, 3, H, W), sides multiples of 64.
            cells: From `class_planes`. Shape (N, 3, H / 2, W / 2).

        Returns:
            Shape (N, H, W).
        """
        # the image and the strokes apart: ImageNet's stem weights belong to the first channels
        image, strokes = (F.pixel_unshuffle(part, CELL_PX) for part in (full[:, :1], full[:, 1:]))
        seen = torch.cat([image, strokes, cells * 2 - 1], dim=1)
        seen = seen.contiguous(memory_format=torch.channels_last)  # as a CPU is quickest with
        far = self.decoder(self.encoder(seen))
        near = F.relu(self.near(torch.cat([far, seen], dim=1)), inplace=True)
        correction = F.pixel_shuffle(self.out(near), CELL_PX)
        belief = torch.logit(cells[:, :1].clamp(_BELIEF_FLOOR, 1 - _BELIEF_FLOOR))
        belief = F.interpolate(belief, scale_factor=CELL_PX, mode="bilinear")
        return (belief + correction)[:, 0]


@lru_cache(maxsize=1)
def load_prior() -> PriorNetwork:
    """The trained prior, shared by all guides: it is only read. Takes 0.1 s the first time."""
    network = PriorNetwork()
    networks.load_weights(network.half(), WEIGHTS_PATH)
    networks.fold_batch_norm(network.float().eval())
    return network.to(memory_format=torch.channels_last)


def class_planes(
    image: GrayImage, scribbles: LabelMap, beliefs: CellProbabilities
) -> tuple[Tensor, Tensor]:
    """What the network sees of each class that is drawn; there are K of them.

    Args:
        image: Shape (H, W), sides even.
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        beliefs: Of the pixel classifier. Shape (C, H / 2, W / 2).

    Returns:
        Full: image from -1 to 1, strokes of the class, strokes of the others, (K, 3, H, W). Cells:
        belief in the class and in its strongest rival, row from 0 to 1, (K, 3, H / 2, W / 2).
    """
    drawn = drawn_classes(scribbles)
    height, width = beliefs.shape[1:]
    full = np.empty((len(drawn), _FULL_PLANES, *image.shape), np.float32)
    cells = np.empty((len(drawn), _CELL_PLANES, height, width), np.float32)
    full[:, 0] = image * 2 - 1
    cells[:, 2] = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    for place, label in enumerate(drawn):
        full[place, 1] = scribbles == label
        full[place, 2] = (scribbles != UNLABELED) & (scribbles != label)
        cells[place, 0] = beliefs[label]
        cells[place, 1] = beliefs[np.delete(drawn, place)].max(axis=0, initial=0)
    return torch.from_numpy(full), torch.from_numpy(cells)


def drawn_classes(scribbles: LabelMap) -> NDArray[np.uint8]:
    """The classes that are drawn, in order."""
    return np.unique(scribbles[scribbles != UNLABELED])


def half_size(full: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The planes of `class_planes` at half the size: strokes stay wherever one was drawn."""
    image, strokes = F.avg_pool2d(full[:, :1], 2), F.max_pool2d(full[:, 1:], 2)
    return torch.cat([image, strokes], dim=1), F.avg_pool2d(cells, 2)


def refine(
    network: PriorNetwork, image: GrayImage, scribbles: LabelMap, beliefs: CellProbabilities
) -> Probabilities:
    """Correct what a pixel classifier believes.

    The network looks twice, at the image and at the image at half its size, where strokes reach
    twice as far; the answer is the geometric mean of both.

    Args:
        network: With trained weights, in evaluation mode.
        image: Shape (H, W), sides multiples of `networks.PADDED_TO_PX`.
        scribbles: Drawn class per pixel, `UNLABELED` where nobody drew. Shape (H, W).
        beliefs: Of the pixel classifier. Shape (C, H / 2, W / 2).

    Returns:
        Shape (C, H, W), summing to 1 over the classes; 0 for classes that nobody drew.
    """
    device = next(network.parameters()).device
    full, cells = (planes.to(device) for planes in class_planes(image, scribbles, beliefs))
    with torch.inference_mode(), networks.mixed_precision(device):
        near = torch.log_softmax(_logits(network, full, cells), dim=0)
        far = _logits(network, *half_size(full, cells))
        far = F.interpolate(far[None], scale_factor=2, mode="bilinear")[0]
        learned = torch.softmax((near + torch.log_softmax(far, dim=0)) / 2, dim=0)
    probabilities = np.zeros((len(beliefs), *image.shape), np.float32)
    probabilities[drawn_classes(scribbles)] = learned.cpu().numpy()
    return probabilities


def steadied(
    beliefs: CellProbabilities, before: CellProbabilities, known: Collection[int], share: float
) -> CellProbabilities:
    """Join what a classifier believes with the answer before.

    It counts where it was sure: a poor first answer, which seldom is, must not hold up the next. Of
    classes drawn for the first time it says nothing: they keep what the classifier gives them, and
    it divides the rest.

    Args:
        beliefs: Shape (C, h, w), summing to 1 over C.
        before: The answer of the turn before, likewise.
        known: The classes that had been drawn by then.
        share: Weight of that answer where it was quite sure.

    Example:
        >>> beliefs, before = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])[:, :, None, None]
        >>> steadied(beliefs, before, known=[0, 1], share=0.5).ravel().round(2).tolist()
        [0.65, 0.15, 0.2]
    """
    fresh = [label for label in range(len(beliefs)) if label not in known]
    earlier = before * (1 - beliefs[fresh].sum(axis=0))
    earlier[fresh] = beliefs[fresh]
    weight = share * (1 - normalized_entropy(before))
    return (1 - weight) * beliefs + weight * earlier


def enlarge(beliefs: CellProbabilities) -> Probabilities:
    """From cells to pixels, smoothly. (C, h, w) -> (C, H, W)."""
    cells = torch.from_numpy(beliefs)[None]
    return F.interpolate(cells, scale_factor=CELL_PX, mode="bilinear")[0].numpy()


def shrink(probabilities: Probabilities) -> CellProbabilities:
    """From pixels to the mean of each cell. (C, H, W), sides even -> (C, h, w)."""
    pixels = torch.from_numpy(probabilities)
    return F.avg_pool2d(pixels, CELL_PX).numpy()


def _logits(network: PriorNetwork, full: Tensor, cells: Tensor) -> Tensor:
    """Logits of all classes, (C, H, W), tile by tile and a few classes at a time."""
    classes, _, height, width = full.shape
    logits = torch.empty((classes, height, width), device=full.device)
    for tile in networks.tiles((height, width), TILE_PX, TILE_MARGIN_PX):
        _, rows, columns = tile.outer
        seen = full[tile.outer], cells[..., _in_cells(rows), _in_cells(columns)]
        at_once = max(1, MAX_BATCH_PX // (seen[0].shape[2] * seen[0].shape[3]))
        learned = [
            network(*(planes[start : start + at_once] for planes in seen)).float()
            for start in range(0, classes, at_once)
        ]
        logits[tile.place] = torch.cat(learned)[tile.inner]
    return logits


def _in_cells(span: slice) -> slice:
    return slice(span.start // CELL_PX, span.stop // CELL_PX)
