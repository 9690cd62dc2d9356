"""The training of one network: it learns, ends early, goes on where it was stopped."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ground_truth_folder import training_image

from backend.learning import checkpoints, networks, segmentation_training
from backend.learning.inference import segment
from backend.learning.scores import score
from backend.learning.segmentation_data import CropSettings
from backend.learning.segmentation_training import (
    Hardware,
    Job,
    SegmentationTraining,
    Settings,
    train,
)

CPU = Hardware("cpu", 1)

QUICK = Settings(steps=6, validations=3, crops=CropSettings(128), validation_crops=4)


@pytest.fixture
def job(tmp_path):
    """Two images to learn from, one held out."""
    return Job(
        images=[training_image(seed) for seed in (1, 2)],
        held_out=[training_image(3)],
        classes=3,
        epochs=3,
        seed=1,
        folder=tmp_path / "work",
    )


def accuracy(network, image):
    """Of the label map, as a backend would make it."""
    label_map = segment(network, image.gray.astype(np.float32)).label_map
    return score(label_map, image.truth, ()).accuracy


def same_weights(first, second):
    """Tell whether two networks are equal to the bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(mine, yours) for mine, yours in pairs)


def test_network_is_good_after_few_steps(job):
    """Each image is normalized by its own statistics: there are none that lag behind."""
    settings = replace(QUICK, steps=30)

    trained = train(job, settings, CPU)

    assert accuracy(trained.network, job.held_out[0]) > 0.95
    assert [point.step for point in trained.curve] == [10, 20, 30]
    assert trained.curve[-1].loss < trained.curve[0].loss
    ious = [point.held_out_iou for point in trained.curve]
    assert trained.best_epoch == 1 + int(np.argmax(ious))
    assert (trained.is_main, trained.processes) == (True, 1)
    assert trained.in_main_process(lambda: 3) == 3


def test_network_is_as_any_other(job):
    """The names of its weights are those that others load, and it holds no dropout any more."""
    network = train(replace(job, held_out=(), epochs=1), QUICK, CPU).network

    assert list(network.state_dict()) == list(networks.SharedNetwork(3, "random").state_dict())
    assert not network.unet.encoder._forward_hooks
    assert not network.training


class KilledError(Exception):
    """Stands for a kill."""


def test_stopped_training_becomes_what_it_would_have_been(job, monkeypatch):
    """To the bit: crops, dropout, schedule, moments and what was best go on."""
    whole = train(replace(job, folder=job.folder / "whole"), QUICK, CPU)

    def kill(self):
        if self.current_epoch == 2:
            raise KilledError
        begin(self)

    begin = SegmentationTraining.on_train_epoch_start
    monkeypatch.setattr(SegmentationTraining, "on_train_epoch_start", kill)
    with pytest.raises(KilledError):
        train(job, QUICK, CPU)
    monkeypatch.setattr(SegmentationTraining, "on_train_epoch_start", begin)
    resumed = train(job, QUICK, CPU)

    assert resumed.curve == whole.curve
    assert resumed.best_epoch == whole.best_epoch
    assert same_weights(resumed.network, whole.network)


def test_finished_training_is_not_repeated(job, monkeypatch):
    """Killed before its result was kept, it only hands it out again."""
    first = train(job, QUICK, CPU)

    def step(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(SegmentationTraining, "training_step", step)
    assert same_weights(train(job, QUICK, CPU).network, first.network)


def test_training_ends_when_it_no_longer_helps(job):
    """The best epoch is kept, not the last one."""
    settings = replace(
        QUICK, encoder_learning_rate=0.0, decoder_learning_rate=0.0, weight_decay=0.0, patience=1
    )

    trained = train(job, settings, CPU)

    assert (len(trained.curve), trained.best_epoch) == (2, 1)


def test_progress_is_told(job):
    """Step by step, as long as they are fewer than a hundred."""
    told = []
    train(replace(job, held_out=(), epochs=1), replace(QUICK, steps=9), CPU, told.append)
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_checkpoints_are_forgotten(job):
    """Nothing else in the folder is."""
    train(job, replace(QUICK, steps=3), CPU)
    (job.folder / "fold.json").write_text("{}")

    checkpoints.forget(job.folder)

    assert [path.name for path in job.folder.iterdir()] == ["fold.json"]


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps(os.getcwd, 2)])
def test_damaged_checkpoint_is_named(job, content):
    """And nothing in it is run."""
    job.folder.mkdir()
    (job.folder / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read .*: remove .*begins anew"):
        train(job, QUICK, CPU)


def test_missing_hardware_is_named(job):
    """In Lightning's words."""
    with pytest.raises(ValueError, match="this machine cannot train so: "):
        train(job, QUICK, Hardware("cuda", 8))


def test_batch_without_truth_has_a_loss(job):
    """It teaches nothing, and breaks nothing."""
    module = SegmentationTraining(job, QUICK)
    batch = torch.zeros(2, 1, 128, 128), torch.full((2, 128, 128), 255)
    loss, logits = module._loss(batch)
    assert loss.item() == 0
    assert logits.shape == (2, 3, 128, 128)


def test_better_logits_cost_less(job):
    """Cross-entropy and dice agree on that."""
    module = SegmentationTraining(job, QUICK)
    target = torch.randint(0, 3, (1, 64, 64))
    right = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    costs = []
    for strength in (0, 1, 5):
        module.network.unet.forward = lambda _, strength=strength: strength * right
        costs.append(module._loss((torch.zeros(1, 1, 64, 64), target))[0].item())
    assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize(("steps", "epochs", "epoch_steps"), [(1, 1, 1), (5, 3, 2), (7, 3, 3)])
def test_steps_are_shared_among_epochs(job, steps, epochs, epoch_steps):
    """Rounded up; the schedule works for any number."""
    settings = replace(QUICK, steps=steps)
    assert (settings.epochs, settings.epoch_steps) == (epochs, epoch_steps)
    module = SegmentationTraining(replace(job, epochs=settings.epochs), settings)
    schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    assert schedule.total_steps >= epochs * epoch_steps


def test_native_precision_only(monkeypatch, job):
    """The network computes inside `mixed_precision`, which knows where that helps."""
    used = []
    precision = networks.mixed_precision
    monkeypatch.setattr(
        segmentation_training.networks,
        "mixed_precision",
        lambda device: used.append(device.type) or precision(device),
    )
    SegmentationTraining(job, QUICK)._loss(
        (torch.zeros(1, 1, 128, 128), torch.zeros(1, 128, 128).long())
    )
    assert used == ["cpu"]
