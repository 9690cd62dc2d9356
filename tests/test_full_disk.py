"""A disk that is full, a folder that is read-only: said at each write, and work goes on."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress

import numpy as np
import pytest
from cd_runs import gate_run, gates
from kill_runs import Backend, check_database, check_state
from label_studio_stand_in import LabelStudioStandIn
from PIL import Image
from writers_to_kill import CARD, a_network

from backend.learning.inference import segment_files
from backend.learning.registry import Registry
from backend.metrology.database import open_database, write_run
from backend.state.feature_cache import FeatureCache

KINDS = ("labels.png", "uncertainty.png", "probabilities.npy")
CANNOT = "state folder cannot be written"


def mount(*arguments):
    """Mount, or unmount; tell whether that was possible."""
    command = [str(argument) for argument in arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - ours


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 MB; only root may have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not mount("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder):
        pytest.skip("only root may mount a disk")
    yield folder
    mount("umount", "-l", folder)


def fill(disk):
    """Leave no byte; return the file that takes all room."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    assert shutil.disk_usage(disk).free == 0
    return path


@pytest.fixture
def backend_on(warm, loopback):
    """Start a backend below a folder; its log lies there too."""
    started = []

    def start(folder, **environ):
        started.append(Backend(warm, LabelStudioStandIn(loopback), folder / "state"))
        started[-1].start(**environ)
        assert started[-1].wait_until_ready()
        return started[-1]

    yield start
    for backend in started:
        backend.process.kill()


def test_annotators_go_on_while_the_disk_is_full(backend_on, disk):
    """They are told, and once there is room all is written that could not be."""
    backend = backend_on(disk)
    backend.ask(11, 2)
    assert CANNOT not in backend.said
    filler = fill(disk)
    assert {*np.unique(backend.ask(11, 3))} == {0, 1}
    assert f"{CANNOT} (No space left on device)" in backend.said
    assert {*np.unique(backend.ask(12, 2))} == {0, 1}
    filler.unlink()
    backend.ask(11, 4)
    assert CANNOT not in backend.said
    backend.process.kill()
    assert check_state(backend) == 4


def test_annotators_go_on_while_the_folder_is_read_only(backend_on, tmp_path):
    """The database is open already; files cannot be replaced."""
    backend = backend_on(tmp_path, HEED_MODES="1")
    backend.ask(11, 2)
    folders = [path for path in backend.folder.rglob("*") if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    assert {*np.unique(backend.ask(11, 3))} == {0, 1}
    assert f"{CANNOT} (Permission denied)" in backend.said
    for path in folders:
        path.chmod(0o755)
    backend.ask(11, 4)
    assert CANNOT not in backend.said
    backend.process.kill()
    assert check_state(backend) == 3


def test_read_only_folder_is_told_at_the_start(warm, loopback, disk, tmp_path):
    """With a sentence, before anybody works."""
    (disk / "state").mkdir()
    assert mount("mount", "-o", "remount,ro", disk)
    backend = Backend(warm, LabelStudioStandIn(loopback), disk / "state")
    backend.start(log=tmp_path / "log")
    assert backend.process.wait() == 2
    told = (tmp_path / "log").read_text()
    assert "Read-only file system" in told
    assert "Traceback" not in told


def test_registry_on_a_full_disk_serves_what_it_had(disk):
    """Nothing is left of the version that had no room."""
    registry, network = Registry(disk / "models"), a_network()
    registry.publish(registry.add(network, CARD).version)
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left on device"):
        registry.add(network, CARD)
    assert [path.name for path in registry.folder.glob("v*")] == ["v0001"]
    assert list(registry.folder.glob(".aside-*")) == []
    assert registry.load(registry.published())
    filler.unlink()
    assert registry.publish(registry.add(network, CARD).version).version == 2


def test_cd_database_on_a_full_disk_keeps_whole_runs(disk):
    """The run that had no room is told, and fits when there is some."""
    with closing(open_database(disk / "cds.db")) as database:
        write_run(database, gate_run(0), gates(30.0))
        filler = fill(disk)
        written = 1
        with pytest.raises(OSError, match=r"gate_\d+.tif: the run was not stored: .*full"):  # noqa: PT012 - the journal has some room of its own
            while True:
                write_run(database, gate_run(written), gates(*range(30, 42)))
                written += 1
        filler.unlink()
        write_run(database, gate_run(written), gates(*range(30, 42)))
    check_database(disk / "cds.db")
    with closing(sqlite3.connect(disk / "cds.db")) as database:
        assert database.execute("select count(*) from runs").fetchone() == (written + 1,)


def test_features_that_do_not_fit_are_computed(disk, caplog):
    """Each time, with a sentence in the log."""
    fill(disk)
    features = FeatureCache(disk / "features", 1e9, lambda image: image[..., None]).features
    assert features(np.zeros((64, 64), np.float32)).shape == (64, 64, 1)
    assert "features of an image are not kept" in caplog.text


def test_probabilities_that_do_not_fit_are_told(disk, tmp_path):
    """A file that grew in memory alone would end the process where it has no room."""
    paths = [tmp_path / "large.png", tmp_path / "small.png"]
    for path, side in zip(paths, (640, 64), strict=True):
        Image.fromarray(np.eye(side, dtype=np.uint8) * 255).save(path)
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 2**20)
    colors = ("#ff0000", "#00ff00")
    told = dict(segment_files(a_network(), paths, disk / "out", colors, keep=True))
    assert "large.probabilities.npy: No space left on device: free some space" in told[paths[0]]
    assert told[paths[1]] == ""
    written = {path.name for path in (disk / "out").iterdir()}
    assert written == {f"small.{kind}" for kind in KINDS}
