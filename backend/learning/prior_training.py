"""Trains the prior on episodes: samples drawn on stage by stage.

Many episodes are open at once and each step takes some of them one stage on, so that it does not
see one picture many times in a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from backend.learning import networks
from backend.learning.prior import PriorNetwork, drawn_classes, enlarge, refine, shrink, steadied
from backend.learning.prior_episodes import FULL_SCALE, NOBODY_DREW, Crop, Episode
from backend.learning.prior_samples import PriorSample
from backend.learning.scores import EDGE_BAND_PX, score

_MEASURED = ("classifier_accuracy", "classifier_edge_band", "prior_accuracy", "prior_edge_band")


@dataclass(frozen=True)
class PriorTraining:
    """From what and how the prior learns."""

    samples: int = 1600
    held_out: int = 50
    """Samples that are measured on and not trained on; they come first."""
    steps: int = 2400
    near_episodes: int = 6
    """Taken one stage on in a step at full size."""
    far_episodes: int = 9
    """The same in a step at half the size."""
    open_episodes: int = 36
    """Of each size."""
    crop_px: int = 256
    """Side of what is seen of a sample at full size: many crops teach more than a few samples."""
    max_zoom: float = 2.0
    """How much a crop is enlarged at most: large images are blurred over more pixels."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average_decay: float = 0.995
    """Of the running average of the weights, which is what is kept in the end."""
    far_share: float = 1 / 3
    """Share of the steps at half the size, as the prior looks at an image the second time."""
    band_weight: float = 3.0
    """Weight of pixels within `EDGE_BAND_PX` of a border; the others count 1."""
    previous_shares: tuple[float, ...] = (0.0, 0.4, 0.6)
    """Weight of the answer before, one of these for an episode; a guide opened anew has none."""
    seed: int = 1


class PriorTrainer:
    """Holds what changes during the training; can be written and read."""

    def __init__(self, samples: Sequence[PriorSample], settings: PriorTraining) -> None:
        """Start from ImageNet weights."""
        self.settings = settings
        self.losses: list[float] = []  # of each step
        self._samples = samples
        self._rng = np.random.default_rng(settings.seed)
        self._device = networks.fastest_device()
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(settings.seed)
            network = PriorNetwork("imagenet").to(self._device)
        self._network = network.to(memory_format=torch.channels_last)
        average = get_ema_multi_avg_fn(settings.average_decay)  # type: ignore[no-untyped-call] # torch's
        self._average = AveragedModel(self._network, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), weight_decay=settings.weight_decay
        )
        self._schedule = OneCycleLR(
            self._optimizer,
            settings.learning_rate,
            settings.steps,
            pct_start=0.05,
            cycle_momentum=False,
        )
        self._open: dict[bool, list[Episode]] = {True: [], False: []}  # at half the size, or not

    @property
    def network(self) -> PriorNetwork:
        """The average of the weights, in evaluation mode."""
        return cast(PriorNetwork, self._average.module).eval()

    def run(self) -> Iterator[float]:
        """Take the steps that are left; yield the loss of each."""
        while len(self.losses) < self.settings.steps:
            far = bool(self._rng.random() < self.settings.far_share)
            self.losses.append(self._step(self._take(far=far)))
            yield self.losses[-1]

    def _take(self, *, far: bool) -> list[Episode]:
        """Choose open episodes, after opening new ones for those that are over."""
        episodes = self._open[far] = [e for e in self._open[far] if not e.over]
        while len(episodes) < self.settings.open_episodes:
            sample = self._samples[int(self._rng.integers(len(self._samples)))]
            share = float(self._rng.choice(self.settings.previous_shares))
            crop = None if far else self._crop_of(sample)
            episodes.append(Episode(sample, self._rng, share, crop))
        count = self.settings.far_episodes if far else self.settings.near_episodes
        chosen = self._rng.choice(len(episodes), count, replace=False)
        return [episodes[i] for i in chosen]

    def _crop_of(self, sample: PriorSample) -> Crop:
        height, width = sample.label_map.shape
        side_px, max_zoom = self.settings.crop_px, self.settings.max_zoom
        return Crop.anywhere((height, width), side_px, max_zoom, self._rng)

    def _step(self, episodes: Sequence[Episode]) -> float:
        planes = [episode.planes() for episode in episodes]
        self._network.train()
        with networks.mixed_precision(self._device):
            together = [torch.cat(part).to(self._device) for part in zip(*planes, strict=True)]
            logits = self._network(*together).float()
        answers = logits.split([len(full) for full, _ in planes])
        loss = torch.stack(
            [
                answer_loss(answer, episode.target().to(self._device), self.settings.band_weight)
                for answer, episode in zip(answers, episodes, strict=True)
            ]
        ).mean()
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._schedule.step()
        self._average.update_parameters(self._network)
        for answer, episode in zip(answers, episodes, strict=True):
            episode.advance(torch.softmax(answer.detach(), dim=0).cpu())
        return loss.item()

    def save(self, path: Path) -> None:
        """Write weights, average, moments and random numbers, so that `load` can go on."""
        header = {
            "settings": asdict(self.settings),
            "losses": self.losses,
            "random": self._rng.bit_generator.state,
        }
        networks.save_tensors(self._tensors(), path, header)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`; episodes that were open are begun anew.

        Raises:
            ValueError: It is damaged, or of a training with other settings.
        """
        tensors, header = networks.load_tensors(path)
        if header.get("settings") != json.loads(json.dumps(asdict(self.settings))):
            raise ValueError(
                f"{path} is of a training with other settings: give those, or another folder"
            )
        # one step without a gradient makes the moments that the tensors are copied into
        for parameter in self._network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._optimizer.step()
        for name, tensor in self._tensors().items():
            tensor.copy_(tensors[name])
        self.losses = header["losses"]
        self._rng.bit_generator.state = header["random"]
        for _ in self.losses:
            self._schedule.step()

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name; they share memory with it."""
        parts = {"network": self._network.state_dict(), "average": self._average.state_dict()}
        moments: dict[int, dict[str, Tensor]] = self._optimizer.state_dict()["state"]
        parts |= {f"moments.{number}": state for number, state in moments.items()}
        return {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}


def answer_loss(logits: Tensor, target: Tensor, band_weight: float) -> Tensor:
    """Cross-entropy of the classes drawn, pixels near a border weigh more.

    logits (K, H, W), target (H, W) of place among the K classes or -1 -> scalar.
    """
    per_pixel = F.cross_entropy(
        logits[None], target[None], reduction="none", ignore_index=NOBODY_DREW
    )
    weights = 1 + (band_weight - 1) * near_border(target)[None]
    weights = weights * (target != NOBODY_DREW)
    return (weights * per_pixel).sum() / weights.sum().clamp(min=1)  # a crop may show none drawn


def near_border(target: Tensor) -> Tensor:
    """1 within `EDGE_BAND_PX` of another class, else 0. (H, W) -> (H, W).

    Not `scores.edge_band`: a class that nobody drew ends at an edge like any other, while a pixel
    whose truth is unknown has no edge.

    Example:
        >>> near_border(torch.tensor([[0, 0, 0, 0, 0, 1]])).tolist()
        [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    """
    labels = target[None, None].float()
    size = 2 * EDGE_BAND_PX + 1
    highest = F.max_pool2d(labels, size, stride=1, padding=EDGE_BAND_PX)
    lowest = -F.max_pool2d(-labels, size, stride=1, padding=EDGE_BAND_PX)
    return (highest != lowest)[0, 0].float()


def held_out_scores(
    network: PriorNetwork, samples: Sequence[PriorSample], previous_share: float
) -> dict[str, list[float]]:
    """Measure a prior alone, without the classifier's share, on samples it was not trained on.

    Args:
        network: In evaluation mode.
        samples: At least one.
        previous_share: Weight of the answer before.

    Returns:
        Means over the samples, one value for each stage of drawing.
    """
    rows = [_stage_scores(network, sample, previous_share) for sample in tqdm(samples, "held out")]
    means = np.mean(rows, axis=0).round(4)
    return dict(zip(_MEASURED, means.T.tolist(), strict=True))


def _stage_scores(
    network: PriorNetwork, sample: PriorSample, previous_share: float
) -> list[list[float]]:
    """One row of `_MEASURED` for each stage of one sample."""
    rows, before, known = [], None, []
    image = sample.image.astype(np.float32) / FULL_SCALE
    for scribbles, belief in zip(sample.scribbles, sample.beliefs, strict=True):
        beliefs = belief.astype(np.float32) / FULL_SCALE
        classifier = score(enlarge(beliefs).argmax(axis=0), sample.label_map, ())
        if before is not None:
            beliefs = steadied(beliefs, before, known, previous_share)
        answer = refine(network, image, scribbles, beliefs)
        before, known = shrink(answer), drawn_classes(scribbles).tolist()
        prior = score(answer.argmax(axis=0), sample.label_map, ())
        rows.append([
            classifier.accuracy, classifier.edge_band_accuracy,
            prior.accuracy, prior.edge_band_accuracy,
        ])  # fmt: skip
    return rows
