"""The folds: no network is measured on what it has seen, and what is done is not done again."""

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from ground_truth_folder import MATERIALS, training_image
from PIL import Image

from backend.learning import cross_validation, networks
from backend.learning.cross_validation import (
    Fold,
    equipment_folds,
    image_folds,
    model_card,
    train_shared_model,
    work_folder,
)
from backend.learning.registry import ModelCard
from backend.learning.segmentation_data import NO_EQUIPMENT, CropSettings, TrainingData
from backend.learning.segmentation_training import Hardware, Measurement, Settings

CPU = Hardware("cpu", 1)
SETTINGS = Settings(steps=8, validations=4, folds=2, crops=CropSettings(128))
DATA = TrainingData(
    MATERIALS, tuple(training_image(seed, "AB"[seed > 2], side=64) for seed in range(5))
)


class Untrained:
    """What a training gives, without the time it takes: a network that knows nothing."""

    is_main, processes, seconds = True, 1, 2.0

    def __init__(self, job, settings):
        self.network = networks.SharedNetwork(job.classes, "random").eval()
        self.best_epoch = {"fold-0": 2, "fold-1": 4}.get(job.folder.name, job.epochs)
        steps = [settings.epoch_steps * (number + 1) for number in range(job.epochs)]
        self.curve = tuple(Measurement(step, 1.0, 1.0, 0.5) for step in steps)

    def in_main_process(self, compute):
        """Compute it here."""
        return compute()


@pytest.fixture(autouse=True)
def jobs(monkeypatch):
    """Collect the jobs; nothing is trained."""
    jobs = []

    def train(job, settings, _hardware, tell):
        jobs.append(job)
        tell(0.5)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "last.ckpt").touch()
        return Untrained(job, settings)

    monkeypatch.setattr(cross_validation, "train", train)
    return jobs


def names(images):
    """Names of images."""
    return {image.name for image in images}


def test_every_image_is_held_out_once():
    """Fold by fold, those of one equipment not all in one."""
    folds = image_folds(DATA.images, 2, seed=1)

    assert list(folds) == ["fold 1", "fold 2"]
    assert sorted(sum(map(list, folds.values()), [])) == [0, 1, 2, 3, 4]  # noqa: RUF017 - few
    for held_out in folds.values():
        assert {DATA.images[place].equipment for place in held_out} == {"A", "B"}
    assert image_folds(DATA.images, 2, seed=1) == folds
    assert len(image_folds(DATA.images, 9, seed=1)) == 5
    assert image_folds(DATA.images[:1], 3, seed=1) == {}


def test_every_equipment_is_held_out_once():
    """Unless there is only one."""
    assert equipment_folds(DATA.images) == {"A": [0, 1, 2], "B": [3, 4]}
    assert equipment_folds(DATA.images[:3]) == {}


def test_picture_of_two_tasks_is_held_out_as_one():
    """Else a network would be measured on what it has learned."""
    first, second, *others = DATA.images
    again = replace(second, name="again", equipment="B")
    images = [first, second, *others, again]
    for count in (2, 3, 5):
        folds = image_folds(images, count, seed=1)
        assert len(folds) == count
        assert sorted(chain(*folds.values())) == [0, 1, 2, 3, 4, 5]
        assert all((1 in held_out) == (5 in held_out) for held_out in folds.values())
    assert equipment_folds(images) == {"A": [0, 1, 2, 5], "B": [3, 4]}
    assert image_folds([second, again], 2, seed=1) == equipment_folds([second, again]) == {}


def test_images_of_unknown_equipment_are_no_equipment(jobs, tmp_path):
    """Nor is a network that learned them one that has seen none of the others."""
    nobody_knows = replace(DATA.images[0], equipment=NO_EQUIPMENT)
    data = replace(DATA, images=(nobody_knows, *DATA.images[1:]))

    training = train_shared_model(data, SETTINGS, CPU, tmp_path)

    assert [fold.name for fold in training.by_equipment] == ["A", "B"]
    for job in jobs[2:4]:
        assert names(job.images) | names(job.held_out) == names(DATA.images[1:])
    assert names(jobs[4].images) == names(DATA.images)

    jobs.clear()
    only_a = replace(data, images=data.images[:3])
    assert train_shared_model(only_a, SETTINGS, CPU, tmp_path / "a").by_equipment == ()
    assert len(jobs) == 3


def test_no_network_sees_what_it_is_measured_on(jobs, tmp_path):
    """The last one sees all images, for as long as the others needed on average."""
    training = train_shared_model(DATA, SETTINGS, CPU, tmp_path)

    *folds, final = jobs
    for job in folds:
        assert names(job.images) | names(job.held_out) == names(DATA.images)
        assert not names(job.images) & names(job.held_out)
    assert [len(job.held_out) for job in folds] == [3, 2, 3, 2]
    assert (names(final.images), final.held_out) == (names(DATA.images), [])
    assert ([job.epochs for job in folds], final.epochs) == ([4, 4, 4, 4], 3)
    assert len({job.seed for job in folds}) == 4
    assert [fold.name for fold in training.by_image] == ["fold 1", "fold 2"]
    assert [fold.name for fold in training.by_equipment] == ["A", "B"]
    assert training.seconds == 10
    assert not list(tmp_path.glob("fold*/*.ckpt"))


def test_killed_run_goes_on_at_its_fold(jobs, tmp_path):
    """Folds that are done are read back as they were."""
    first = train_shared_model(DATA, SETTINGS, CPU, tmp_path)
    (tmp_path / "fold-2" / "fold.json").unlink()
    jobs.clear()

    again = train_shared_model(DATA, SETTINGS, CPU, tmp_path)

    assert [job.folder.name for job in jobs] == ["fold-2", "final"]
    assert again.by_image == first.by_image


def test_progress_is_that_of_all_trainings(tmp_path):
    """Two folds, two equipments, and the last one."""
    told = []
    train_shared_model(DATA, SETTINGS, CPU, tmp_path, told.append)
    assert told == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_answers_are_those_of_the_folds(tmp_path):
    """In files, so that memory does not grow with the images."""
    training = train_shared_model(DATA, SETTINGS, CPU, tmp_path)

    assert set(training.answers) == names(DATA.images)
    with Image.open(training.answers["image 3"]) as file:
        assert np.asarray(file).shape == (64, 64)


def test_card_tells_what_was_measured(tmp_path):
    """Means of images, IoU of materials, confusion, and a row for each fold and equipment."""
    training = train_shared_model(DATA, SETTINGS, CPU, tmp_path)
    parent = ModelCard("now", MATERIALS, None, {}, {}, version=4)

    card = model_card(training, DATA, SETTINGS, parent)

    assert (card.parent, card.materials) == (4, MATERIALS)
    assert card.images == {f"image {seed}": f"hash {seed}" for seed in range(5)}
    ious = card.metrics["image_iou"]
    assert ious.keys() == card.images.keys()
    assert card.metrics["mean_iou"] == pytest.approx(np.mean(list(ious.values())), abs=1e-4)
    confusion = np.array(card.metrics["confusion"])
    assert confusion.sum() == 5 * 64 * 64
    accuracy = np.diag(confusion).sum() / confusion.sum()
    assert card.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert list(card.metrics["material_iou"]) == list(MATERIALS)
    row = card.metrics["folds"][0]
    assert (row["name"], row["best_step"], row["steps"]) == ("fold 1", 4, 8)
    assert card.metrics["equipment"]["B"]["held_out"] == ["image 3", "image 4"]
    assert (card.training["final_steps"], card.training["processes"]) == (6, 1)
    assert json.loads(json.dumps(card.metrics, allow_nan=False)) == card.metrics
    assert card.metrics["note"].startswith("slightly optimistic")


def test_one_image_cannot_be_measured_on(jobs, tmp_path):
    """The network is trained for all steps, and nothing is claimed."""
    data = replace(DATA, images=DATA.images[:1])

    training = train_shared_model(data, SETTINGS, CPU, tmp_path)

    (final,) = jobs
    assert (final.epochs, training.by_image) == (4, ())
    assert model_card(training, data, SETTINGS, None).metrics == {}


def test_helping_process_gets_nothing(tmp_path, monkeypatch):
    """One process keeps the model."""
    monkeypatch.setattr(Untrained, "is_main", False)
    assert train_shared_model(DATA, SETTINGS, CPU, tmp_path) is None


@pytest.mark.parametrize("content", ["{", "{}", '{"curve": [3]}'])
def test_damaged_fold_is_named(tmp_path, content):
    """With what to do."""
    (tmp_path / "fold-0").mkdir()
    (tmp_path / "fold-0" / "fold.json").write_text(content)
    with pytest.raises(ValueError, match=r"fold-0/fold\.json cannot be read .* begins anew"):
        train_shared_model(DATA, SETTINGS, CPU, tmp_path)


def test_other_data_or_settings_get_another_folder(tmp_path):
    """What was measured on old masks must not be taken for new."""
    changed = replace(DATA.images[0], sha256="another mask")
    folders = {
        work_folder(tmp_path / "models", data, settings)
        for data, settings in (
            (DATA, SETTINGS),
            (DATA, replace(SETTINGS)),
            (DATA, replace(SETTINGS, seed=2)),
            (replace(DATA, materials=("a", "b", "c")), SETTINGS),
            (replace(DATA, images=(changed, *DATA.images[1:])), SETTINGS),
        )
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "models-training"}


def test_mean_leaves_out_what_does_not_exist():
    """An image of one material has no edges."""
    scores = {
        "a": {"mean_iou": 1.0, "accuracy": 1.0, "edge_band_accuracy": float("nan")},
        "b": {"mean_iou": 0.5, "accuracy": 1.0, "edge_band_accuracy": 0.5},
    }
    fold = Fold("fold 1", scores, [[1]], 1, (Measurement(1, 1.0, 1.0, 1.0),), 1.0)
    row = cross_validation._row(fold)
    assert (row["mean_iou"], row["edge_band_accuracy"]) == (0.75, 0.5)
