"""A round: a network is tried out before it is kept, and what was rolled back stays away."""

from dataclasses import replace

import pytest
import torch
from ground_truth_folder import MATERIALS, training_image

from backend.learning import cross_validation, networks
from backend.learning.cross_validation import Fold, SharedTraining
from backend.learning.publication import judge, publish
from backend.learning.registry import ModelCard, Registry
from backend.learning.segmentation_data import CropSettings, TrainingData
from backend.learning.segmentation_training import Hardware, Settings
from backend.learning.training_round import _ious_of_new, _try_out, train_version
from tests.test_train_segmentation import Quick

CPU = Hardware("cpu", 1)
SETTINGS = Settings(steps=1, validations=1, folds=2, crops=CropSettings(128))
DATA = TrainingData(MATERIALS, tuple(training_image(seed, side=64) for seed in range(2)))


@pytest.fixture
def registry(tmp_path):
    """In a folder that does not exist yet."""
    return Registry(tmp_path / "models")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Train nothing: what becomes of a network is told apart from how it learned."""

    def train(job, *_):
        job.folder.mkdir(parents=True, exist_ok=True)
        return Quick(job)

    monkeypatch.setattr(cross_validation, "train", train)


def test_rolled_back_model_does_not_come_back(registry, tmp_path):
    """*Start Training* after a rollback: nothing is trained, nothing published, and why is said."""
    card = train_version(DATA, SETTINGS, CPU, registry)
    assert publish(registry, card.version).publish
    registry.roll_back()

    again = train_version(DATA, SETTINGS, CPU, registry)
    verdict = publish(registry, again.version)

    assert (again, registry.published()) == (card, None)
    assert not verdict.publish
    assert verdict.sentence == (
        "v0001 does not pass the gate: it was rolled back; train again when more is finished or "
        "corrected; `scripts/models.py publish` does it anyway with --force"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

    (registry.folder / card.name / "weights.safetensors").write_bytes(b"")
    verdict = publish(registry, train_version(DATA, SETTINGS, CPU, registry).version)
    assert not verdict.publish
    assert "v0002 does not pass the gate: it learned what v0001 had" in verdict.sentence


def test_model_of_one_image_is_followed_by_one_of_two(registry):
    """It held nothing out, but the second image is new to it."""
    first = train_version(replace(DATA, images=DATA.images[:1]), SETTINGS, CPU, registry)
    publish(registry, first.version)
    second = train_version(DATA, SETTINGS, CPU, registry)
    assert (first.metrics, list(second.parent_iou)) == ({}, ["image 1"])
    assert "(1 that both know)" in judge(registry, second).sentence


def spoil(network):
    """Make its weights what a training that diverged leaves."""
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)


def test_broken_network_is_not_kept(registry, tmp_path, monkeypatch):
    """Weights that are no numbers: a sentence; the last training begins anew, the folds do not."""
    train = cross_validation.train

    def diverge(job, *arguments):
        trained = train(job, *arguments)
        if not job.held_out:
            spoil(trained.network)
        return trained

    monkeypatch.setattr(cross_validation, "train", diverge)
    with pytest.raises(ValueError, match="gave no numbers for image 0; nothing was added"):
        train_version(DATA, SETTINGS, CPU, registry)
    assert registry.versions() == []
    (work,) = (tmp_path / "models-training").iterdir()
    assert sorted(path.name for path in work.iterdir()) == ["fold-0", "fold-1"]


def trained(network, iou):
    """A training whose folds have this mean IoU on each image."""
    scores = {image.name: {"mean_iou": iou} for image in DATA.images}
    fold = Fold("fold 1", scores, [[1]], 1, (), 1.0)
    return SharedTraining(network, (fold,), (), (), 1.0, 1, {})


def test_network_far_below_its_folds_is_not_kept():
    """It diverged, or learned too short: its own images it should know better than they did."""
    torch.manual_seed(0)
    network = networks.SharedNetwork(3, "random").eval()
    _try_out(trained(network, 0.2), DATA)
    with pytest.raises(ValueError, match=r"mean IoU 0\.\d+ on images that it learned, .* 0\.900"):
        _try_out(trained(network, 0.9), DATA)


def test_answers_that_are_no_numbers_are_found_without_folds():
    """One image holds nothing out."""
    network = networks.SharedNetwork(3, "random").eval()
    alone = replace(DATA, images=DATA.images[:1])
    training = replace(trained(network, 0.9), by_image=())
    _try_out(training, alone)
    spoil(network)
    with pytest.raises(ValueError, match="gave no numbers for image 0"):
        _try_out(training, alone)


def learned(*seeds, materials=MATERIALS):
    """The card of a model of these images."""
    images = [training_image(seed) for seed in seeds]
    names = {image.name: image.sha256 for image in images}
    pictures = tuple(image.picture_sha256 for image in images)
    return ModelCard("now", materials, None, names, {}, pictures=pictures)


@pytest.mark.parametrize(
    ("card", "measured"),
    [
        (learned(0), ["image 1"]),
        (learned(0, 5), ["image 1"]),
        (learned(0, 1), []),
        (learned(5), []),
        (learned(0, 5, 6), []),
        (replace(learned(0), pictures=()), []),
        (learned(0, materials=MATERIALS[::-1]), []),
    ],
    ids=["new", "one gone", "none new", "others", "mostly others", "unknown", "materials"],
)
def test_published_model_is_tried_on_what_is_new_to_it(registry, card, measured):
    """Unless it learned mostly other images, of another project perhaps."""
    parent = registry.add(networks.SharedNetwork(3, "random"), card)
    found = _ious_of_new(parent, registry, DATA)
    assert list(found) == measured
    assert all(0 <= iou <= 1 for iou in found.values())


def test_truncated_parent_is_tried_on_nothing(registry):
    """The gate compares by its card."""
    parent = registry.add(networks.SharedNetwork(3, "random"), learned(0))
    (registry.folder / "v0001" / "weights.safetensors").write_bytes(b"")
    assert _ious_of_new(parent, registry, DATA) == {}
