"""Trains one network of the shared model on crops: base weights in, a segmentation network out.

Lightning runs the loop: on a CPU, on one or several GPUs, in one or several processes, and on from
where it was stopped. Its checkpoints are kept in a work folder only while a training goes on.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from backend.arrays import UNLABELED
from backend.learning import checkpoints, networks
from backend.learning.scores import class_ious, confusion_matrix
from backend.learning.segmentation_data import (
    Crops,
    CropSettings,
    EpochSampler,
    TrainingImage,
    half_size,
)
from backend.memory import keep_freed_memory

Batch: TypeAlias = tuple[Tensor, Tensor]  # images (N, 1, S, S) in -1..1, targets (N, S, S)
Tell: TypeAlias = Callable[[float], None]
"""Is told how far a training is, 0 to 1."""
T = TypeVar("T")

_MIN_STEPS, _STEPS_AN_IMAGE = 90, 10
_RISE = 0.2
"""Share of the steps in which the learning rate rises."""
_GPU_WORKERS = 4
"""Processes that cut crops: a GPU would wait for one. On a CPU they would take its cores away."""


@dataclass(frozen=True)
class Settings:
    """How the shared model learns."""

    steps: int = _MIN_STEPS
    """Of each training at most, see `steps_for`; it ends earlier where they no longer help."""
    validations: int = 6
    """How often a training of `steps` steps is measured, and can be gone on with if stopped."""
    patience: int = 3
    """Validations without an improvement after which a training ends."""
    folds: int = 3
    """Parts of the images, each held out once."""
    crops: CropSettings = field(default_factory=CropSettings)
    batch_size: int = 4
    """Crops a step, in each process; they pass one by one, each with its own statistics."""
    validation_crops: int = 12
    encoder_learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-3
    """Higher, since it begins at random: mean IoU .674 after 60 steps, .633 with 2e-3 for both."""
    weight_decay: float = 1e-2
    dropout: float = 0.1
    """Of the deepest features."""
    seed: int = 1

    @staticmethod
    def steps_for(images: int) -> int:
        """How many steps so many images need."""
        return max(_MIN_STEPS, _STEPS_AN_IMAGE * images)

    @property
    def epoch_steps(self) -> int:
        """Steps from one validation to the next; an epoch, in Lightning's words."""
        return math.ceil(self.steps / self.validations)

    @property
    def epochs(self) -> int:
        """Epochs that make up `steps`, rounded up."""
        return math.ceil(self.steps / self.epoch_steps)


@dataclass(frozen=True)
class Hardware:
    """What to train on, as Lightning's Trainer takes it."""

    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    strategy: str = "auto"


@dataclass(frozen=True)
class Job:
    """One training."""

    images: Sequence[TrainingImage]
    held_out: Sequence[TrainingImage]  # what to measure on; none: the training does not end early
    classes: int
    epochs: int
    seed: int
    folder: Path  # for checkpoints


@dataclass(frozen=True)
class Measurement:
    """Where a training was at the end of an epoch."""

    step: int
    loss: float  # mean of the epoch
    held_out_loss: float | None
    held_out_iou: float | None  # mean of the classes


@dataclass(frozen=True)
class Trained:
    """What a training gave."""

    network: networks.SharedNetwork  # at its best epoch, in evaluation mode
    best_epoch: int
    curve: tuple[Measurement, ...]
    seconds: float
    _trainer: Trainer

    @property
    def is_main(self) -> bool:
        """Is this the process that writes results? Its network is the one that counts."""
        return self._trainer.is_global_zero

    @property
    def processes(self) -> int:
        """How many took part; each took a batch a step."""
        return self._trainer.world_size

    def in_main_process(self, compute: Callable[[], T]) -> T:
        """Compute something in one of the processes, and tell all."""
        value = compute() if self.is_main else None
        return cast(T, self._trainer.strategy.broadcast(value))


def nobody(_share: float) -> None:
    """Take no notice of how far a training is."""


def is_main(hardware: Hardware) -> bool:
    """Is this the process that will write results? Told before a training, unlike `Trained`.

    Raises:
        ValueError: The hardware does not exist.
    """
    return _trainer_on(hardware).is_global_zero


def train(job: Job, settings: Settings, hardware: Hardware, tell: Tell = nobody) -> Trained:
    """Train a network from base weights, or go on with this job where it was stopped.

    Raises:
        ValueError: The hardware does not exist, or a checkpoint is damaged.
        OSError: The folder cannot be written, or the base weights cannot be downloaded.
    """
    keep_freed_memory()
    module = SegmentationTraining(job, settings, tell)
    trainer = _trainer(job, settings, hardware)
    last = checkpoints.path_of(job.folder, checkpoints.LAST)
    held_out = _crops(job.held_out, settings, job.seed).plain(settings.validation_crops)
    with _quiet(), torch.random.fork_rng(devices=[]):
        trainer.fit(
            module,
            val_dataloaders=DataLoader(held_out) if job.held_out else None,
            ckpt_path=last if last.exists() else None,
        )
    best_epoch = len(module.curve)
    if job.held_out and trainer.is_global_zero:
        best = checkpoints.read(checkpoints.path_of(job.folder, checkpoints.BEST))
        module.load_state_dict(best["state_dict"])
        best_epoch = best["epoch"] + 1
    module.to(trainer.strategy.root_device)
    network = module.finish()
    return Trained(network, best_epoch, tuple(module.curve), module.seconds, trainer)


class SegmentationTraining(LightningModule):
    """A network while it learns."""

    def __init__(self, job: Job, settings: Settings, tell: Tell = nobody) -> None:
        """Build the network: always from base weights, so that no old mistake is handed on."""
        super().__init__()
        self._settings, self._job, self._tell = settings, job, tell
        self._steps = job.epochs * settings.epoch_steps
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            torch.manual_seed(job.seed)
            self.network = networks.SharedNetwork(job.classes, "imagenet")
        # On the deepest features, since they fit few images too well; fewer of the 16 channels
        # before the head would blur edges. As a hook it leaves the names of the weights alone.
        self.dropout = nn.Dropout2d(settings.dropout)
        self._hook = self.network.unet.encoder.register_forward_hook(self._drop)
        self.dice = DiceLoss("multiclass", ignore_index=UNLABELED)
        self._crops = _crops(job.images, settings, job.seed)
        self.curve: list[Measurement] = []
        self._losses: list[float] = []
        self._confusion = np.zeros((job.classes, job.classes), np.int64)
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been training, with what was before it was stopped."""
        return time.monotonic() - self._started_s

    def train_dataloader(self) -> DataLoader[Batch]:
        """Crops of this process, in an order that depends on the epoch only."""
        length = self._settings.epoch_steps * self._settings.batch_size
        trainer = self.trainer
        rank, processes = trainer.global_rank, trainer.world_size
        sampler = EpochSampler(length, rank, processes, trainer.current_epoch)
        workers = _GPU_WORKERS if self.device.type == "cuda" else 0
        return DataLoader(
            self._crops, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its learning rate rising and falling once."""
        settings = self._settings
        encoder = list(self.network.unet.encoder.parameters())
        known = set(encoder)
        others = [one for one in self.network.parameters() if one not in known]
        optimizer = torch.optim.AdamW(
            [{"params": encoder}, {"params": others}],
            weight_decay=settings.weight_decay,
            fused=True,  # in place: the default makes copies of all weights at each step
        )
        steps = max(3, self._steps)  # OneCycle divides by their parts
        rise = max(_RISE, 2 / steps)
        highest = [settings.encoder_learning_rate, settings.decoder_learning_rate]
        schedule = OneCycleLR(optimizer, highest, steps, pct_start=rise, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Begin a new mean."""
        self._losses = []

    def on_train_batch_start(self, _batch: Batch, number: int) -> None:
        """Seed dropout, so that a training that was stopped becomes what it would have been."""
        state = np.random.SeedSequence(
            (self._job.seed, self.current_epoch, number, self.global_rank)
        )
        torch.manual_seed(int(state.generate_state(1)[0]))

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        """The loss of a batch."""
        loss, _ = self._loss(batch)
        self._losses.append(loss.item())
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, _outputs: object, _batch: Batch, number: int) -> None:
        """Tell how far it is, by whole percents."""
        if (number + 1) % self._settings.batch_size:
            return  # within a step
        before, now = ((self.global_step - ago) * 100 // self._steps for ago in (1, 0))
        if now > before and self.trainer.is_global_zero:
            self._tell(self.global_step / self._steps)

    def on_validation_epoch_start(self) -> None:
        """Begin a new count."""
        self._confusion[:] = 0

    def validation_step(self, batch: Batch, _number: int) -> None:
        """Count what is right in a batch; all processes see the same ones."""
        loss, logits = self._loss(batch)
        label_map = logits.argmax(dim=1).cpu().numpy().astype(np.uint8)
        truth = batch[1].cpu().numpy().astype(np.uint8)
        self._confusion += confusion_matrix(label_map, truth, self._job.classes)
        self.log("held_out_loss", loss, on_epoch=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Join what was counted."""
        iou = float(np.nanmean(class_ious(self._confusion)))
        self.log("held_out_iou", iou, prog_bar=True, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Remember where the training is."""
        measured = self.trainer.callback_metrics
        loss, iou = (
            float(measured[name]) if name in measured else None
            for name in ("held_out_loss", "held_out_iou")
        )
        mean_loss = float(np.mean(self._losses))
        self.curve.append(Measurement(self.global_step, mean_loss, loss, iou))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not."""
        checkpoint["curve"] = [vars(measurement) for measurement in self.curve]
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.curve = [Measurement(**fields) for fields in checkpoint["curve"]]
        self._started_s = time.monotonic() - checkpoint["seconds"]

    def finish(self) -> networks.SharedNetwork:
        """Take the network out, ready for use."""
        self._hook.remove()
        return self.network.eval()

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy plus dice, and the logits; at half the size, where crops change quickly."""
        images, target = batch
        with networks.mixed_precision(self.device):
            logits = self.network.unet(images).float()
        known = (target != UNLABELED).sum().clamp(min=1)  # a batch may show nothing that is known
        entropy = F.cross_entropy(logits, target, ignore_index=UNLABELED, reduction="sum") / known
        return entropy + self.dice(logits, target), logits

    def _drop(self, _encoder: nn.Module, _images: object, features: list[Tensor]) -> list[Tensor]:
        return [*features[:-1], self.dropout(features[-1])]


def _crops(images: Sequence[TrainingImage], settings: Settings, seed: int) -> Crops:
    """Crops as the U-Net sees them."""
    crops = replace(settings.crops, side_px=settings.crops.side_px // 2)
    return Crops([half_size(image) for image in images], crops, seed)


def _trainer(job: Job, settings: Settings, hardware: Hardware) -> Trainer:
    last = checkpoints.keep(job.folder, checkpoints.LAST)
    callbacks: list[Callback] = [last]
    if job.held_out:
        best = checkpoints.keep(job.folder, checkpoints.BEST, "held_out_iou")
        ends = EarlyStopping("held_out_iou", mode="max", patience=settings.patience)
        callbacks = [ends, best, last]  # in this order: the last one writes what all remember
    return _trainer_on(
        hardware,
        plugins=[checkpoints.SafeCheckpoints()],
        callbacks=callbacks,
        max_epochs=job.epochs,
        accumulate_grad_batches=settings.batch_size,
        default_root_dir=job.folder,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # `EpochSampler` shares the crops out
    )


def _trainer_on(hardware: Hardware, **options: Any) -> Trainer:  # noqa: ANN401 - Lightning's own
    try:
        return Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=hardware.strategy,
            logger=False,
            **options,
        )
    except MisconfigurationException as error:
        raise ValueError(f"this machine cannot train so: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from advice about what is meant to be so."""
    with warnings.catch_warnings():
        for words in (
            ".*does not have many workers.*",
            ".*exists and is not empty.*",
            ".*have no `val_dataloader`.*",
            ".*LeafSpec.*",  # Lightning's own business with a newer PyTorch
        ):
            warnings.filterwarnings("ignore", words)
        yield
