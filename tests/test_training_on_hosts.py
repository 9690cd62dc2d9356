"""The shared model trained by two processes that were started apart, as on two hosts."""

import json
import os
import subprocess
import sys

import pytest
from ground_truth_folder import write_dataset

from backend.trials.processes import free_port

TRAINING = """
import hashlib, json, sys
from pathlib import Path
from backend.learning import segmentation_training
from backend.learning.segmentation_data import CropSettings, read_training_data

drawn = []
class Noted(segmentation_training.EpochSampler):
    def __iter__(self):
        for index in super().__iter__():
            drawn.append(index)
            yield index
segmentation_training.EpochSampler = Noted

folder = Path(sys.argv[1])
data = read_training_data(folder / "dataset")
settings = segmentation_training.Settings(steps=2, folds=2, crops=CropSettings(128), batch_size=2)
job = segmentation_training.Job(data.images, (), len(data.materials), 1, 1, folder / "work")
hardware = segmentation_training.Hardware("cpu", 1, 2, "ddp")
trained = segmentation_training.train(job, settings, hardware)
weights = hashlib.sha256()
for name, tensor in sorted(trained.network.state_dict().items()):
    weights.update(name.encode() + tensor.numpy().tobytes())
kept = trained.in_main_process(lambda: "the first")
print(json.dumps({"main": trained.is_main, "processes": trained.processes, "drawn": drawn,
                  "weights": weights.hexdigest(), "kept": kept}))
"""


@pytest.fixture
def runs(tmp_path):
    """What each of the two processes tells."""
    write_dataset(tmp_path / "dataset", 3)
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    started = [
        subprocess.Popen(  # noqa: S603 - ours
            command,
            env={**os.environ, **rendezvous, "NODE_RANK": str(host), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def test_two_hosts_share_the_work_and_end_with_one_model(runs):
    """Each drew crops that the other did not; both have the same weights; the first keeps them."""
    first, second = runs
    assert [run["processes"] for run in runs] == [2, 2]
    assert [run["main"] for run in runs] == [True, False]
    assert len(first["drawn"]) == len(second["drawn"]) > 0
    crops = [set(run["drawn"]) for run in runs]
    assert crops[0].isdisjoint(crops[1])
    assert first["weights"] == second["weights"]
    assert [run["kept"] for run in runs] == ["the first", "the first"]
