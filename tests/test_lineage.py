"""A CD is followed to its labels, to the shared model, and to the ground truth that trained it."""

from contextlib import closing
from dataclasses import replace

import pytest
from cd_runs import MODEL, gate_run, gates

from backend.learning import networks
from backend.learning.registry import Registry
from backend.metrology.database import open_database, write_run
from scripts import models
from tests.test_registry import CARD

ORIGIN = {"label_studio": "ls.test", "project": 1, "task": 3, "annotation": 30,
          "annotator": "ann@example.com", "updated_at": "2026-11-22T08:40:30.5Z"}  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    """Two versions; the second one learned from a task and from a folder, and made labels."""
    registry = Registry(tmp_path / "models")
    network = networks.SharedNetwork(2, "random")
    registry.add(network, CARD)
    learned = replace(
        CARD,
        parent=1,
        images={"project-1-task-3": "ab" * 32, "mine": "cd" * 32},
        origins={"project-1-task-3": ORIGIN},
        metrics={"mean_iou": 0.9},
    )
    registry.add(networks.SharedNetwork(2, "random"), learned)
    return registry


@pytest.fixture
def cds(tmp_path, registry):
    """A database of three images: measured on drawn labels, by the second version, by another."""
    path = tmp_path / "cds.db"
    weights = registry.weights_sha256(registry.card(2))
    ours = replace(MODEL, version="v0002", weights_sha256=weights, prior_sha256="c" * 64)
    with closing(open_database(path)) as database:
        for number, model in enumerate((None, ours, MODEL)):
            write_run(database, gate_run(number, model=model), gates(40.0, 45.0))
    return path


@pytest.fixture
def follow(registry, cds, capsys):
    """Run the command; its exit code and the lines that it says."""

    def follow(wanted, database=cds):
        arguments = ["--registry", str(registry.folder), "lineage", wanted]
        code = models.main([*arguments, "--database", str(database)])
        captured = capsys.readouterr()
        return code, (captured.out + captured.err).splitlines()

    return follow


def test_cd_of_a_model_leads_to_annotations(follow, cds):
    """By its id: value, run, version, and whose annotations the version learned from."""
    with closing(open_database(cds)) as database:
        (cd,) = database.query(
            "SELECT id FROM measurement_report WHERE image = 'gate_1.tif'"
            " AND measurement = 'gate_mcd' AND instance = 1"
        )
    code, (run, value, labels, version, task, file) = follow(cd["id"])
    assert code == 0
    assert run.startswith("gate_1.tif by recipe gate 1: ")
    assert value == "  gate_mcd of gate 1: 9.00 nm ± 0.020, edges by gray"
    assert labels.startswith("  labels: shared model v0002, weights SHA-256 ")
    assert labels.endswith(", prior SHA-256 cccccccccccc")
    assert version == (
        "  v0002: trained on 2 images, 2026-11-25T10:00:00+00:00; mean IoU 0.9000 on images it had "
        "not seen; v0001 served before it"
    )
    assert task == (
        "    project-1-task-3: annotation 30 of task 3, project 1 on ls.test, by ann@example.com, "
        "2026-11-22T08:40:30.5Z, SHA-256 abababababab"
    )
    assert file == "    mine: from a folder, SHA-256 cdcdcdcdcdcd"


def test_cd_of_drawn_labels_leads_to_its_annotation(follow):
    """By the name of the image."""
    code, lines = follow("gate_0.tif")
    assert code == 0
    assert lines[1:] == ["  labels: annotation 12 by ann, SHA-256 000000000000"]


def test_weights_that_are_elsewhere_are_told(follow):
    """The number of a version alone could mean another registry's."""
    code, lines = follow("gate_2.tif")
    assert code == 0
    assert lines[1] == "  labels: shared model 3, weights SHA-256 bbbbbbbbbbbb"
    assert "has no version with these weights" in lines[2]


def test_unknown_name_is_a_mistake(follow, tmp_path):
    """As is a database that does not exist."""
    assert follow("gate_9.tif") == (2, ["the database has no measurement, run or image gate_9.tif"])
    code, (line,) = follow("gate_0.tif", tmp_path / "none.db")
    assert (code, "there is no database" in line) == (2, True)
