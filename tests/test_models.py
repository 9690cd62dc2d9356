"""The command that lists, shows, publishes and rolls back shared models."""

import json
from dataclasses import replace

import pytest

from backend.learning import networks
from backend.learning.registry import ModelCard, Registry
from scripts import models

CARD = ModelCard(
    created="2026-11-25T10:00:00+00:00",
    materials=("Si", "Oxide"),
    parent=None,
    images={"a": "hash"},
    metrics={"image_iou": {"a": 0.9}, "mean_iou": 0.9},
)


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command on a registry of three versions; what it says and how it ends."""
    registry = Registry(tmp_path / "models")
    network = networks.SharedNetwork(2, "random")
    worse = {"image_iou": {"a": 0.8}, "mean_iou": 0.8}
    for changes in ({}, {"parent": 1, "metrics": worse}, {"metrics": {}}):
        registry.add(network, replace(CARD, **changes))

    def command(*arguments):
        code = models.main(["--registry", str(tmp_path / "models"), *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return command


def test_list_shows_all_and_marks_what_serves(run):
    """One that was not measured has no IoU."""
    run("publish", "2")

    code, said = run("list")

    assert code == 0
    assert said.splitlines() == [
        "version  date        images  mean IoU  materials",
        "v0001    2026-11-25  1       0.9000    Si, Oxide",
        "v0002    2026-11-25  1       0.8000    Si, Oxide  published",
        "v0003    2026-11-25  1                 Si, Oxide",
    ]


def test_show_gives_the_card_with_its_lineage(run):
    """As JSON."""
    code, said = run("show", "v0002")

    shown = json.loads(said)
    assert (code, shown["version"], shown["metrics"]["mean_iou"]) == (0, 2, 0.8)
    assert [step["name"] for step in shown["lineage"]] == ["v0002", "v0001"]


def test_publish_goes_through_the_gate(run):
    """Past it with --force; rollback undoes it."""
    code, said = run("publish", "1")
    assert (code, said.splitlines()[-1]) == (0, "v0001 is published")
    code, said = run("publish", "2")
    assert (code, "it is worse" in said) == (1, True)
    assert run("list")[1].splitlines()[1].endswith("published")
    code, said = run("publish", "2", "--force")
    assert (code, "it is worse" in said) == (0, True)
    assert said.splitlines()[-1] == "v0002 is published"
    assert run("rollback") == (0, "v0001 serves again\n")
    assert [line.split("  ")[-1] for line in run("list")[1].splitlines()[1:3]] == [
        "published", "rolled back",
    ]  # fmt: skip
    assert run("rollback") == (0, "no shared model serves now\n")


def test_damaged_versions_are_listed(run, tmp_path):
    """Also the one that serves."""
    run("publish", "1")
    for version in ("v0001", "v0002"):
        (tmp_path / "models" / version / "model.json").write_text("{")

    code, said = run("list")

    assert code == 0
    assert said.splitlines()[1:] == [
        "v0001                                  cannot be read  published",
        "v0002                                  cannot be read",
        "v0003    2026-11-25  1                 Si, Oxide",
    ]
    code, said = run("publish", "3", "--force")
    assert (code, said.splitlines()[-1]) == (0, "v0003 is published")

    weights = tmp_path / "models" / "v0003" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run("list")[1].splitlines()[-1].endswith("  published, its weights are damaged")


@pytest.mark.parametrize("command", [("show", "7"), ("publish", "7", "--force"), ("rollback",)])
def test_mistakes_are_sentences(run, command):
    """Exit code 2, and no traceback."""
    code, said = run(*command)
    assert (code, len(said.splitlines())) == (2, 1)


def test_file_that_cannot_be_written_is_named(run, monkeypatch):
    """Exit code 1."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Registry, "publish", full)
    sentence = "No space left on device: free some space and start it again, what is done is kept"
    assert run("publish", "1") == (1, f"{sentence}\n")


def test_version_must_be_a_number(run, capsys):
    """As everywhere."""
    with pytest.raises(SystemExit, match="2"):
        run("show", "newest")
    assert "'newest' is no version: give a number" in capsys.readouterr().err
