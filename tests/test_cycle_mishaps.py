"""The cycle on a bad day: killed in every stage, on a full disk, with damaged files.

Each time the sentence at `/training` says what is wrong, the published model stays, nothing is
half-written, and the next training goes on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from label_studio_stand_in import (
    HALVES,
    TICK,
    LabelStudioStandIn,
    masks,
    png,
    submitted,
    two_halves,
)

from backend.learning import networks
from backend.learning.registry import Registry
from backend.state.store import GuideStore
from backend.work import cycle
from backend.work.training_process import TrainingProcess
from tests.test_registry import CARD

DIES = """
import os, signal, sys
from pkgutil import resolve_name
from backend.work import cycle

holder, name, calls = resolve_name(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = getattr(holder, name)

def dying(*arguments, **options):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

setattr(holder, name, dying)
sys.exit(cycle.main(["1"]))
"""
WAITS = """
import sys, time
from pathlib import Path

while Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""
SMALL_DISK_KB = 2_000  # holds the ground truth, but no checkpoint


@pytest.fixture
def label_studio(loopback):
    """A Label Studio with two finished tasks of two pictures, which are two folds."""
    stand_in = LabelStudioStandIn(loopback)
    for number in (3, 4):
        annotation, picture = submitted(10 * number, *masks(HALVES), TICK), png(two_halves(number))
        stand_in.set_task(number, annotation, image=picture)
    return stand_in


@pytest.fixture
def set_up(label_studio, monkeypatch):
    """Make a folder the state folder of a backend whose trainings are short."""

    def set_up(folder):
        variables = {
            "LABEL_STUDIO_URL": label_studio.server.url, "LABEL_STUDIO_API_KEY": "0" * 40,
            "MODEL_DIR": str(folder), "TRAIN_STEPS": "2", "TRAIN_FOLDS": "2",
            "TRAIN_CROP_PX": "128", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        GuideStore(folder).close()
        return folder

    return set_up


@pytest.fixture
def folder(set_up, tmp_path):
    """The state folder of a backend."""
    return set_up(tmp_path)


@pytest.fixture
def small_disk(set_up, tmp_path):
    """The state folder of a backend, on a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_KB}k", "tmpfs", str(place)]
    with suppress(FileNotFoundError):
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:  # noqa: S603 - ours
            yield set_up(place)
            subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607 - ours
            return
    pytest.skip("only the administrator can mount a disk")


@pytest.fixture
def training(small_disk):
    """What starts trainings on the small disk; the last one is stopped in the end."""
    training = TrainingProcess(small_disk)
    yield training
    training.close()


def wait_for(condition):
    """Wait for another process, which imports a lot."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def fill(folder):
    """Leave no room on the disk of a folder."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def publish_one(folder, **changes):
    """Publish a model as the first version; return its card."""
    registry = Registry(folder / "models")
    torch.manual_seed(0)
    card = replace(CARD, **changes)
    network = networks.SharedNetwork(len(card.materials), "random")
    return registry.publish(registry.add(network, card).version)


def names_in(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def told(folder):
    """What `/training` tells after a restart of the backend."""
    return TrainingProcess(folder).status


@pytest.mark.parametrize(
    ("holder", "name", "calls"),
    [
        ("backend.annotation.dataset_files", "write_atomically", 5),
        ("backend.learning.checkpoints", "write_atomically", 2),
        ("backend.learning.registry", "_appear", 1),
        ("backend.work.cycle", "publish", 1),
    ],
    ids=["export", "training", "keeping", "publication"],
)
def test_killed_cycle_goes_on(folder, holder, name, calls):
    """In the middle of any stage; there is one version in the end, and nothing else is left."""
    command = [sys.executable, "-c", DIES, holder, name, str(calls)]
    killed = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - ours
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    registry = Registry(folder / "models")
    assert registry.published() is None
    assert (told(folder).state, told(folder).project) == ("failed", 1)
    assert "start it again, it goes on where it was" in told(folder).sentence
    for aside in registry.folder.glob(".aside-*"):
        os.utime(aside, (0, 0))  # long ago

    assert cycle.main(["1"]) == 0

    assert told(folder).state == "published"
    assert [card.version for card in registry.cards()] == [registry.published().version] == [1]
    (dataset,) = (folder / "ground-truth").iterdir()
    entries = json.loads((dataset / "manifest.json").read_text())["images"]
    names = [entry["name"] for entry in entries]
    assert names == ["project-1-task-3", "project-1-task-4"]
    for part in ("images", "masks"):
        assert names_in(dataset / part) == [f"{name}.png" for name in names]
    kept = [name for name in names_in(registry.folder) if not name.endswith(".lock")]
    assert kept == ["published.json", "v0001"]
    assert not list(folder.glob("models-training/*"))


def test_full_disk_is_told_and_room_is_enough_to_go_on(training, small_disk):
    """Of a real training: the published model stays, no version appears."""
    assert training.start(1, lambda: None)
    wait_for(lambda: training.status.state == "failed")
    assert "best.ckpt: No space left on device: free some space" in training.status.sentence
    assert Registry(small_disk / "models").cards() == []
    assert not list(small_disk.rglob("*.part"))

    bigger = ["mount", "-o", "remount,size=1g", str(small_disk)]
    subprocess.run(bigger, check=True)  # noqa: S603 - ours
    wait_for(lambda: training.start(1, lambda: None))  # once the process of before is gone
    wait_for(lambda: training.status.state == "published")


@pytest.mark.parametrize("stage", ["export", "publish"])
def test_disk_that_is_full_to_the_last_byte_keeps_everything(small_disk, monkeypatch, stage):
    """Not even the status can be written then: who started the training tells it."""
    bigger = ["mount", "-o", "remount,size=64m", str(small_disk)]
    subprocess.run(bigger, check=True)  # noqa: S603 - ours
    present = publish_one(small_disk)
    real = getattr(cycle, stage)

    def on_full_disk(*arguments):
        fill(small_disk)
        return real(*arguments)

    monkeypatch.setattr(cycle, stage, on_full_disk)
    monkeypatch.setattr(cycle, "train_version", lambda *_: present)
    assert cycle.main(["1"]) == 1
    assert Registry(small_disk / "models").published() == present
    assert not list(small_disk.rglob("*.part"))


def test_training_that_cannot_start_on_a_full_disk_is_told(small_disk):
    """At once, and forgotten when it starts."""
    fill(small_disk)
    training = TrainingProcess(small_disk, [sys.executable, "-c", "pass"])
    with pytest.raises(OSError, match="No space left"):
        training.start(1, lambda: None)
    assert (training.status.state, training.status.project) == ("failed", 1)
    assert "training.json: No space left on device: free some space" in training.status.sentence
    (small_disk / "filler").unlink()
    assert training.start(1, lambda: None)
    wait_for(lambda: "ended with code 0" in training.status.sentence)


def test_end_that_cannot_be_written_is_told(small_disk):
    """By the process that waited for it."""
    (small_disk / "wait").touch()
    training = TrainingProcess(small_disk, [sys.executable, "-c", WAITS, str(small_disk / "wait")])
    assert training.start(1, lambda: None)
    fill(small_disk)
    (small_disk / "wait").unlink()
    wait_for(lambda: training.status.state == "failed" and "code 0" in training.status.sentence)
    assert "No space left on device: free some space" in training.status.sentence
    training.close()


def test_model_of_other_materials_stays(folder):
    """Until somebody decides; guides and predictions of its projects depend on it."""
    present = publish_one(folder, materials=("Si", "Metal"))

    assert cycle.main(["1"]) == 0

    status = told(folder)
    assert status.state == "not published"
    assert "its materials are Si, Oxide, those of the published v0001 Si, Metal" in status.sentence
    assert Registry(folder / "models").published() == present


def test_truncated_published_model_is_told(folder):
    """Training goes on without it; its card still tells how good it was."""
    present = publish_one(folder)
    weights = folder / "models" / present.name / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    assert cycle.main(["1"]) == 0

    assert told(folder).state == "not published"
    assert "it cannot be compared with the published v0001" in told(folder).sentence
