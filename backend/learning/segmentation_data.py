"""Finished ground truth in a folder → crops that the shared model learns from.

A crop has a number, and the same number gives the same crop in any process, however often it is
asked for: so several processes can share a training, and one that was stopped can go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

from backend.arrays import UNLABELED, GrayImage, LabelMap
from backend.learning import networks
from backend.learning.dataset_legend import LEGEND, MANIFEST, read_manifest, read_materials
from backend.learning.labeled_images import LabeledImage, folder_images
from backend.microscope.images import pixels_sha256, to_gray

NO_EQUIPMENT = "unknown"

_ORIGIN = ("label_studio", "project", "task", "annotation", "annotator", "updated_at")
"""What a model card keeps of an image's entry in the manifest."""

_PLACES_A_CLASS = 2000
"""How many pixels of each class of an image are remembered as places for crops."""


@dataclass(frozen=True)
class TrainingImage:
    """An image with its finished ground truth."""

    name: str
    equipment: str  # that took it, `NO_EQUIPMENT` if nobody said so
    gray: NDArray[np.float16]  # (H, W), 0 to 1; finer than 8 bits, in half the memory of float32
    truth: LabelMap  # (H, W)
    sha256: str  # of image and mask together, whatever the compression of their files
    picture_sha256: str = ""  # of the image alone
    origin: Mapping[str, Any] = field(default_factory=dict)  # whose annotation, if an export knows


@dataclass(frozen=True)
class TrainingData:
    """All ground truth there is."""

    materials: tuple[str, ...]  # in the order of the classes
    images: tuple[TrainingImage, ...]


def read_training_data(folder: Path) -> TrainingData:
    """Read a dataset: images/, masks/, and if they exist legend.json and manifest.json.

    The legend names the materials in the order of their classes; without it they are "class 0" and
    so on. The manifest may name the equipment of an image.

    Raises:
        InvalidDatasetError: A legend or manifest is damaged.
        InvalidImageError: An image or a mask is missing, damaged, or does not fit.
    """
    materials = read_materials(folder / LEGEND)
    entries = read_manifest(folder / MANIFEST)
    images = []
    classes = 0
    for labeled in folder_images(folder, classes=len(materials) if materials else None):
        classes = max(classes, labeled.classes)
        entry = entries.get(labeled.name, {})
        microscope = str(entry.get("equipment") or NO_EQUIPMENT)
        origin = {key: entry[key] for key in _ORIGIN} if entry.keys() >= {*_ORIGIN} else {}
        gray = to_gray(labeled.image).astype(np.float16)
        picture = pixels_sha256(labeled.image)
        image = TrainingImage(
            labeled.name, microscope, gray, labeled.truth, _hash(labeled), picture, origin
        )
        images.append(image)
    return TrainingData(
        materials or tuple(f"class {number}" for number in range(classes)), tuple(images)
    )


def half_size(image: TrainingImage) -> TrainingImage:
    """An image as the network's U-Net sees it: means of 2 x 2 px.

    The class is that of most of the four; of two with two pixels each one is taken at random, so
    that edges lie where they are, in the mean.
    """
    height, width = (side // 2 * 2 for side in image.truth.shape)
    cells = height // 2, 2, width // 2, 2
    gray = image.gray[:height, :width].astype(np.float32).reshape(cells).mean((1, 3))
    truth = image.truth[:height, :width].reshape(cells).transpose(0, 2, 1, 3)
    ordered = np.sort(truth.reshape(*truth.shape[:2], 4), axis=2)
    middle = np.random.default_rng(0).integers(1, 3, size=(*truth.shape[:2], 1))
    chosen = np.take_along_axis(ordered, middle, axis=2)
    return replace(image, gray=gray.astype(np.float16), truth=chosen[..., 0])


@dataclass(frozen=True)
class CropSettings:
    """What a crop shows."""

    side_px: int = 448
    """A multiple of 64, in pixels of the images; see `half_size`. The U-Net has a stride of 32."""
    balanced_share: float = 1 / 3
    """Of the crops; they show a class chosen first, so that rare ones are seen now and then."""

    @property
    def margin_px(self) -> int:
        """What is cut around a crop, so that turning it leaves no empty corners."""
        return self.side_px // 8


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of some images without end: number → image (1, S, S) in -1..1, target (S, S).

    All images are shown equally often, one after the other in a new order each time.
    """

    def __init__(self, images: Sequence[TrainingImage], settings: CropSettings, seed: int) -> None:
        """Prepare the images; their crops are changed as the next image might differ."""
        self._settings = settings
        self._seed = seed
        self._sources = [_Source(image, settings) for image in images]
        self._change = augmentation(settings.side_px)

    def plain(self, count: int) -> Dataset[tuple[Tensor, Tensor]]:
        """The first crops, unchanged."""
        plain = copy(self)
        plain._change = v2.CenterCrop(self._settings.side_px)
        return Subset(plain, range(count))

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Cut the crop of this number."""
        turn, place = divmod(number, len(self._sources))
        order = np.random.default_rng((self._seed, turn)).permutation(len(self._sources))
        random = np.random.default_rng((self._seed, turn, place))
        gray, truth = self._sources[order[place]].cut(self._settings, random)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(int(random.integers(2**63)))
            image, target = self._change(
                tv_tensors.Image(torch.from_numpy(gray)[None]),
                tv_tensors.Mask(torch.from_numpy(truth)),
            )
        return networks.to_input(image[0].numpy())[0], target.as_subclass(Tensor).long()


def augmentation(side_px: int) -> v2.Transform:
    """What may differ in the next image of a device: its place, size, tilt, grey values, focus.

    The materials' gray values change each by itself, as another kind of equipment would show them:
    .943 of gates that six others had taught were right, not .936.

    Not turned upside down, since a device has an up, and not inverted: in bright field heavy
    materials are dark, and that is what tells them apart.
    """
    return v2.Compose([
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(
            degrees=5.0, scale=(0.85, 1.2), shear=3.0,
            interpolation=v2.InterpolationMode.BILINEAR,
            fill={tv_tensors.Image: 0.5, tv_tensors.Mask: UNLABELED},
        ),
        v2.CenterCrop(side_px),
        v2.ColorJitter(brightness=0.15, contrast=0.25),
        _ChangeMaterials(),
        v2.Lambda(_add_haze, tv_tensors.Image),
        v2.Lambda(_change_gamma, tv_tensors.Image),
        v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.5))], p=0.3),
        v2.Lambda(_add_noise, tv_tensors.Image),
    ])  # fmt: skip


class EpochSampler(Sampler[int]):
    """Numbers of the crops of an epoch for one of several processes; Lightning sets the epoch.

    Example:
        >>> sampler = EpochSampler(length=2, process=1, processes=2, epoch=3)
        >>> list(sampler)
        [13, 15]
    """

    def __init__(self, length: int, process: int, processes: int, epoch: int) -> None:
        """Give each of the processes `length` crops an epoch, no crop to two of them."""
        self._length, self._process, self._processes = length, process, processes
        self._epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers."""
        first = self._epoch * self._length * self._processes + self._process
        return iter(range(first, first + self._length * self._processes, self._processes))

    def __len__(self) -> int:
        """How many crops a process gets in an epoch."""
        return self._length


class _Source:
    """An image with a margin, and places in it to cut crops around."""

    def __init__(self, image: TrainingImage, settings: CropSettings) -> None:
        """Mirror it at its borders, up to the size of a crop at least."""
        height, width = image.truth.shape
        self._inner = [max(side, settings.side_px) for side in (height, width)]
        before = settings.margin_px
        padding = [
            (before, before + inner - side)
            for inner, side in zip(self._inner, (height, width), strict=True)
        ]
        self._gray = np.pad(image.gray, padding, mode="symmetric")
        self._truth = np.pad(image.truth, padding, constant_values=UNLABELED)
        random = np.random.default_rng(0)
        labels, counts = np.unique(image.truth[image.truth != UNLABELED], return_counts=True)
        self._places = [
            random.permutation(np.argwhere(image.truth == label))[:_PLACES_A_CLASS]
            for label in labels
        ]
        self._shares = counts / counts.sum()

    def cut(
        self, settings: CropSettings, random: np.random.Generator
    ) -> tuple[GrayImage, LabelMap]:
        """Cut a crop and the margin around it; it shows a pixel whose class is known."""
        is_balanced = random.random() < settings.balanced_share
        label = random.choice(len(self._places), p=None if is_balanced else self._shares)
        place = self._places[label][random.integers(len(self._places[label]))]
        outer = settings.side_px + 2 * settings.margin_px
        rows, columns = (
            slice(start, start + outer)
            for start in (
                np.clip(position - random.integers(settings.side_px), 0, side - settings.side_px)
                for position, side in zip(place, self._inner, strict=True)
            )
        )
        return self._gray[rows, columns].astype(np.float32), self._truth[rows, columns].copy()


class _ChangeMaterials(v2.Transform):  # type: ignore[misc] # torchvision has no types
    """Makes each material darker or brighter by itself, in every other crop."""

    _STRENGTH = 0.12
    _SOFT_PX, _KERNEL_PX = 0.7, 5  # edges stay as unsharp as they are, about

    def forward(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Change an image (1, S, S) by its target (S, S)."""
        if torch.rand(()) < 1 / 2:
            return image, target
        shift = torch.randn(UNLABELED + 1) * self._STRENGTH
        shift[UNLABELED] = 0.0
        shifts = shift[target.as_subclass(Tensor).long()][None]
        shifts = v2.functional.gaussian_blur(shifts, [self._KERNEL_PX] * 2, [self._SOFT_PX] * 2)
        return tv_tensors.wrap((image + shifts).clamp(0, 1), like=image), target


def _add_haze(image: Tensor) -> Tensor:
    """Make broad parts of the image brighter or darker, by a random strength."""
    strength = torch.empty(()).uniform_(0, 0.08)
    coarse = strength * torch.randn(1, 1, *torch.randint(2, 7, (2,)).tolist())
    haze = F.interpolate(coarse, image.shape[-2:], mode="bicubic", align_corners=True)[0]
    return tv_tensors.wrap((image + haze).clamp(0, 1), like=image)


def _change_gamma(image: Tensor) -> Tensor:
    """Make middle grey values brighter or darker, black and white stay."""
    exponent = torch.empty(1).uniform_(-0.3, 0.3).exp().item()
    return tv_tensors.wrap(image.clamp(0, 1) ** exponent, like=image)


def _add_noise(image: Tensor) -> Tensor:
    """Add noise of a random strength, within the range of `to_gray`."""
    strength = torch.empty(1).uniform_(0, 0.08).item()
    noisy = image + strength * torch.randn(image.shape)
    return tv_tensors.wrap(noisy.clamp(0, 1), like=image)


def _hash(labeled: LabeledImage) -> str:
    digest = hashlib.sha256(f"{labeled.image.dtype} {labeled.image.shape}".encode())
    digest.update(np.ascontiguousarray(labeled.image).data)
    digest.update(np.ascontiguousarray(labeled.truth).data)
    return digest.hexdigest()
