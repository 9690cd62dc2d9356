"""The command that trains the shared model: a version with its report, or one clear sentence."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ground_truth_folder import MATERIALS, write_dataset
from PIL import Image

from backend import learning
from backend.files import take_lock, write_atomically
from backend.learning import checkpoints, cross_validation, networks, segmentation_training
from backend.learning.registry import Registry
from scripts import train_segmentation

SCRIPT = Path(train_segmentation.__file__)
SMALL = ["--accelerator", "cpu", "--crop", "128", "--folds", "2"]


@pytest.fixture
def dataset(tmp_path):
    """Three images of three materials, taken by two microscopes."""
    return write_dataset(tmp_path / "dataset", 3, equipment="AAB")


@pytest.fixture
def registry(tmp_path):
    """In a folder that does not exist yet."""
    return Registry(tmp_path / "models")


@pytest.fixture
def run(tmp_path, dataset, capsys):
    """Run the command; how it ends and what it says."""

    def command(*arguments, folder=dataset, models=tmp_path / "models"):
        code = train_segmentation.main([str(folder), "--registry", str(models), *SMALL, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def leftovers(tmp_path):
    """Names beside the dataset."""
    return sorted(path.name for path in tmp_path.iterdir() if path.name != "dataset")


def test_model_is_trained_measured_and_published(run, registry, tmp_path):
    """The version holds weights, card and report, and no file of the training is left."""
    code, said, _ = run("--steps", "2", "--publish")

    assert code == 0
    card = registry.published()
    assert (card.version, card.materials, card.parent) == (1, MATERIALS, None)
    assert card.metrics["image_iou"].keys() == card.images.keys() == {
        "image 0", "image 1", "image 2",
    }  # fmt: skip
    assert card.metrics["equipment"].keys() == {"A", "B"}
    assert [row["name"] for row in card.metrics["folds"]] == ["fold 1", "fold 2"]
    assert registry.load(card)
    lines = said.splitlines()
    assert any(line.startswith("v0001: 3 images, 3 materials, ") for line in lines)
    assert any(line.startswith("equipment B, by a network that had seen none") for line in lines)
    assert lines[-2:] == [
        "v0001 may be published: nothing is published yet", "v0001 is published",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "models" / "v0001").rglob("*.*")) == [
        "confusion.png", "curves.png", "materials.png", "model.json", "overlays.png",
        "weights.safetensors",
    ]  # fmt: skip
    assert leftovers(tmp_path) == ["models"]


class Quick:
    """A training that takes no time; how right it is depends on `right_share`."""

    is_main, processes, seconds, best_epoch = True, 1, 1.0, 1
    curve = (segmentation_training.Measurement(2, 1.0, 1.0, 0.5),)

    def __init__(self, job):
        self.network = networks.SharedNetwork(job.classes, "random").eval()

    def in_main_process(self, compute):
        """Compute it here."""
        return compute()


@pytest.fixture
def quick(monkeypatch):
    """Train nothing."""

    def train(job, *_):
        job.folder.mkdir(parents=True, exist_ok=True)
        return Quick(job)

    monkeypatch.setattr(cross_validation, "train", train)


@pytest.mark.usefixtures("quick")
def test_worse_model_is_kept_and_not_published(run, registry, monkeypatch):
    """The published one goes on serving; the sentence says why."""
    run("--publish")
    figures = cross_validation.metrics

    def worse(*arguments):
        measured = figures(*arguments)
        return {**measured, "image_iou": dict.fromkeys(measured["image_iou"], -1.0)}

    monkeypatch.setattr(cross_validation, "metrics", worse)
    code, said, _ = run("--publish")

    assert code == 0
    assert "v0002 does not pass the gate: it is worse" in said
    assert said.splitlines()[-1] == "v0002 is kept, and not published"
    assert [card.version for card in registry.cards()] == [1, 2]
    assert (registry.published().version, registry.card(2).parent) == (1, 1)


@pytest.mark.usefixtures("quick")
def test_verdict_is_told_without_publishing(run, registry):
    """`scripts/models.py` can publish it later."""
    code, said, _ = run()
    assert (code, registry.published()) == (0, None)
    assert said.splitlines()[-1] == "v0001 may be published: nothing is published yet"


@pytest.mark.usefixtures("quick")
def test_one_image_trains_with_a_warning(run, registry, dataset):
    """Nothing is claimed about how good it is."""
    for path in (dataset / "images").glob("image [12].png"):
        path.unlink()
    code, said, _ = run()
    assert code == 0
    assert "with one image there is none to measure on: nobody knows how good it is" in said
    assert registry.card(1).metrics == {}


def break_dataset(folder, how):
    """Damage a good dataset in one way."""
    mask = folder / "masks" / "image 1.png"
    if how == "size":
        Image.fromarray(np.zeros((40, 80), np.uint8)).save(mask)
    elif how == "class":
        Image.fromarray(np.full((80, 80), 3, np.uint8)).save(mask)
    elif how == "empty":
        shutil.rmtree(folder / "images")
    else:
        (folder / "legend.json").write_text("materials: Si")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("size", "shape (40, 80) (height, width), its image (80, 80)"),
        ("class", "holds the classes [3]: give 1 or more, from 0 to 2"),
        ("empty", "holds no images"),
        ("legend", "legend.json is no JSON"),
    ],
)
def test_bad_ground_truth_is_one_sentence(run, registry, dataset, tmp_path, how, words):
    """Exit code 2, nothing written, and the published model serves on."""
    run("--publish")
    before = sorted((tmp_path / "models").rglob("*"))
    break_dataset(dataset, how)

    code, said, error = run("--publish")

    assert (code, said, len(error.splitlines())) == (2, "", 1)
    assert words in error
    assert sorted((tmp_path / "models").rglob("*")) == before
    assert registry.published().version == 1
    assert leftovers(tmp_path) == ["models"]


def test_bad_dataset_makes_no_registry(run, tmp_path):
    """Not even an empty folder."""
    assert run(folder=tmp_path / "nowhere")[0] == 2
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_registry_that_cannot_be_written_is_found_at_once(run, tmp_path):
    """Before hours are spent."""
    (tmp_path / "file").touch()
    code, _, error = run(models=tmp_path / "file" / "models")
    assert code == 2
    assert "Not a directory" in error


@pytest.mark.usefixtures("quick")
def test_damaged_registry_is_found_at_once(run, tmp_path):
    """Exit code 2."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "published.json").write_text("{")
    code, _, error = run()
    assert code == 2
    assert "published.json cannot be read" in error


def test_full_disk_is_one_sentence(run, registry, monkeypatch, tmp_path):
    """Exit code 1; no version appears, and the same command can go on later."""

    def full(path, content):
        if path.suffix == ".ckpt":
            raise OSError(28, "No space left on device")
        write_atomically(path, content)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    code, _, error = run("--steps", "1")
    sentence = "No space left on device: free some space and start it again, what is done is kept"
    assert (code, error.splitlines()[-1]) == (1, sentence)
    assert registry.cards() == []
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["training.lock"]


@pytest.mark.usefixtures("quick")
def test_second_training_on_a_registry_is_refused(run, registry):
    """It may be one of a backend; the two would write over each other's checkpoints."""
    with take_lock(registry.folder / "training.lock"):
        code, _, error = run()
    assert (code, error) == (2, f"a training runs already on {registry.folder}: wait for its end\n")
    assert registry.cards() == []
    assert run()[0] == 0


@pytest.mark.parametrize("host", [0, 1])
def test_one_process_of_a_training_locks_its_registry(monkeypatch, host):
    """The second host helps the first, and must not find it locked."""
    monkeypatch.setenv("NODE_RANK", str(host))
    hardware = segmentation_training.Hardware("cpu", 1, 2, "ddp")
    assert segmentation_training.is_main(hardware) == (host == 0)


@pytest.mark.usefixtures("quick")
def test_another_training_under_way_is_left_alone(run, tmp_path):
    """Only the folder of this one is removed."""
    other = tmp_path / "models-training" / "other"
    other.mkdir(parents=True)
    assert run()[0] == 0
    assert list((tmp_path / "models-training").iterdir()) == [other]


@pytest.mark.usefixtures("quick")
def test_missing_extra_is_named(run, monkeypatch):
    """With the command that installs it."""
    monkeypatch.delattr(learning, "segmentation_report", raising=False)
    monkeypatch.delitem(sys.modules, "backend.learning.segmentation_report", raising=False)
    monkeypatch.delitem(sys.modules, "backend.learning.training_round", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, error = run()
    assert code == 1
    assert "matplotlib is missing: pip install 'tem-guide[train]'" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds", "1"], "1 is too few: give 2 or more"),
        (["--steps", "0"], "0 is too few: give 1 or more"),
        (["--crop", "100"], "100 is not 128 or another multiple of 64"),
        (["--devices", "0"], "0 is too few"),
    ],
)
def test_impossible_settings_are_refused(run, capsys, arguments, words):
    """By the parser."""
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_more_images_get_more_steps(run, registry, monkeypatch):
    """Unless a number is given."""
    monkeypatch.setattr(segmentation_training, "_STEPS_AN_IMAGE", 50)
    run()
    run("--steps", "7")
    assert [card.training["steps"] for card in registry.cards()] == [150, 7]


def test_killed_training_goes_on(run, registry, dataset, tmp_path, monkeypatch):
    """SIGKILL in the second fold: what is done is not done again, and a whole version appears."""
    arguments = ["--registry", str(tmp_path / "models"), *SMALL, "--steps", "6"]
    command = [sys.executable, str(SCRIPT), str(dataset), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        wait_for(tmp_path / "models-training", "*/fold-1/last.ckpt")
        process.send_signal(signal.SIGKILL)
    assert registry.cards() == []
    (work,) = (tmp_path / "models-training").iterdir()
    first_fold = json.loads((work / "fold-0" / "fold.json").read_text())
    trained = []
    train = cross_validation.train

    def remember(job, *arguments):
        trained.append((job.folder.name, (job.folder / "last.ckpt").exists()))
        return train(job, *arguments)

    monkeypatch.setattr(cross_validation, "train", remember)
    assert run("--steps", "6")[0] == 0

    assert trained == [("fold-1", True), ("fold-2", False), ("fold-3", False), ("final", False)]
    (card,) = registry.cards()
    assert card.metrics["folds"][0]["seconds"] == round(first_fold["seconds"], 1)
    assert leftovers(tmp_path) == ["models"]


def wait_for(folder, pattern, seconds=300):
    """Wait until a file appears."""
    end = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert time.monotonic() < end, f"no {pattern} in {folder}"
        time.sleep(0.02)


def test_two_processes_train_together(dataset, registry, tmp_path):
    """As on two GPUs, but on the CPU; one of them keeps the model."""
    (dataset / "manifest.json").unlink()
    arguments = ["--registry", str(tmp_path / "models"), *SMALL, "--steps", "2", "--devices", "2"]
    command = [sys.executable, str(SCRIPT), str(dataset), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert run.returncode == 0, run.stderr
    (card,) = registry.cards()
    assert card.training["processes"] == 2
    assert card.metrics["image_iou"].keys() == {"image 0", "image 1", "image 2"}
    assert run.stdout.count("may be published") == 1
    assert leftovers(tmp_path) == ["models"]
