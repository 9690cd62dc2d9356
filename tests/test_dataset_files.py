"""A dataset on disk can be used at any moment, and what is written again repairs it."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_studio_stand_in import HALVES, png, two_halves
from PIL import Image

from backend.annotation.dataset_files import Dataset, Legend, Provenance
from backend.errors import InvalidDatasetError
from backend.learning.labeled_images import folder_images

LEGEND = Legend(("Si", "Oxide"), ("#ff0000", "#00ff00"))
FLIPPED = HALVES[::-1]
OTHER_IMAGE = png(255 - two_halves())


def provenance(task=3, **changes):
    """Say where a mask comes from."""
    return replace(
        Provenance(
            label_studio="127.0.0.1",
            project=1,
            task=task,
            annotation=30,
            updated_at="2026-11-22T08:40:30Z",
            annotator="2",
            annotator_title="",
            chosen="the only finished one",
            other_annotations=(),
            agreement=None,
            materials=("Si", "Oxide"),
            share_by_origin={"accepted": 1.0},
            overlap_px=0,
            pixel_size_nm=None,
            equipment=None,
            notices=(),
        ),
        **changes,
    )


@pytest.fixture
def folder(tmp_path):
    """A dataset of one image."""
    dataset = Dataset(tmp_path / "set", LEGEND)
    dataset.put(provenance(), png(two_halves()), HALVES)
    dataset.save()
    return tmp_path / "set"


def test_mask_is_a_palette_of_the_colors(folder):
    """Any viewer shows the materials; the pixel values are the classes, 255 is white."""
    dataset = Dataset(folder, LEGEND)
    partly = np.where(np.arange(64) < 32, 255, HALVES).astype(np.uint8)

    dataset.put(provenance(), png(two_halves()), partly)

    with Image.open(folder / "masks" / "project-1-task-3.png") as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask) == partly).all()
        shown = np.asarray(mask.convert("RGB"))
    assert [shown[row, column].tolist() for row, column in ((0, 63), (63, 63), (0, 0))] == [
        [255, 0, 0],
        [0, 255, 0],
        [255, 255, 255],
    ]


def test_legend_names_the_classes(folder):
    """In the order of their index."""
    assert json.loads((folder / "legend.json").read_text()) == {
        "materials": ["Si", "Oxide"],
        "ignore_index": 255,
        "colors": {"Si": "#ff0000", "Oxide": "#00ff00"},
    }


def test_manifest_holds_the_hashes_of_the_files(folder):
    """So a copy can be checked."""
    (entry,) = json.loads((folder / "manifest.json").read_text())["images"]

    for part, key in (("images", "image_sha256"), ("masks", "mask_sha256")):
        content = (folder / part / "project-1-task-3.png").read_bytes()
        assert entry[key] == hashlib.sha256(content).hexdigest()


def test_colors_stay_those_of_the_first_export(folder):
    """New colors of the project would rewrite all masks."""
    dataset = Dataset(folder, replace(LEGEND, colors=("#0000ff", "#123456")))

    assert dataset.legend == LEGEND
    assert dataset.put(provenance(), png(two_halves()), HALVES) == "kept"


def test_other_materials_are_refused(folder):
    """The same index would mean another class; another order does as well."""
    for materials in (("Oxide", "Si"), ("Si", "Oxide", "Metal")):
        legend = Legend(materials, LEGEND.colors)
        with pytest.raises(InvalidDatasetError, match="has the materials Si, Oxide, the project"):
            Dataset(folder, legend)


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"half")])
def test_damaged_file_is_repaired(folder, part, damage):
    """By putting the same again."""
    path = folder / part / "project-1-task-3.png"
    content = path.read_bytes()
    damage(path)

    assert Dataset(folder, LEGEND).put(provenance(), png(two_halves()), HALVES) == "updated"
    assert path.read_bytes() == content


def test_day_of_export_changes_with_the_content_only(folder):
    """It tells since when the entry is what it is."""
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"exported_at": "20', '"exported_at": "19'))
    dataset = Dataset(folder, LEGEND)

    assert dataset.put(provenance(), png(two_halves()), HALVES) == "kept"
    assert dataset.entries[0]["exported_at"].startswith("19")
    assert dataset.put(provenance(notices=("new",)), png(two_halves()), HALVES) == "updated"
    assert dataset.entries[0]["exported_at"].startswith("20")


def test_dropped_images_go_with_the_sweep(folder):
    """And so do files a killed export left, but nothing of other projects or of the user."""
    dataset = Dataset(folder, LEGEND)
    dataset.put(provenance(4), png(two_halves()), HALVES)
    for name in ("project-1-task-5.png", "tmpx.part", "project-2-task-5.png", "mine.png"):
        (folder / "masks" / name).write_bytes(b"")
    dataset.drop(dataset.entries_of(1)[3])

    dataset.save()
    dataset.sweep(1)

    assert sorted(path.name for path in (folder / "images").iterdir()) == ["project-1-task-4.png"]
    assert sorted(path.name for path in (folder / "masks").iterdir()) == [
        "mine.png",
        "project-1-task-4.png",
        "project-2-task-5.png",
    ]


class KilledError(BaseException):
    """Ends the process, as a kill would."""


STEPS = ("pathlib.Path.replace", "pathlib.Path.unlink", "os.fsync")


def kill_at(monkeypatch, step, number):
    """Let the nth call of a step end everything; return how often it was called."""
    calls = []
    module, _, name = step.rpartition(".")
    owner = Path if module == "pathlib.Path" else __import__(module)
    original = getattr(owner, name)

    def call(*arguments, **options):
        if isinstance(arguments[0], Path) and arguments[0].suffix == ".part" and name == "unlink":
            return original(*arguments, **options)  # only tidies up
        calls.append(arguments)
        if len(calls) > number:
            raise KilledError
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return calls


def write_again(folder):
    """Add an image, replace another with its mask, and drop a third."""
    dataset = Dataset(folder, LEGEND)
    dataset.put(provenance(4), png(two_halves()), HALVES)
    dataset.put(provenance(3), png(two_halves()[:48]), HALVES[:48])
    dataset.drop(dataset.entries_of(1)[2])
    dataset.save()
    dataset.sweep(1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", range(7))
def test_kill_at_any_moment_leaves_a_usable_dataset(folder, monkeypatch, step, number):
    """Each image has its own mask, and writing again repairs the rest."""
    dataset = Dataset(folder, LEGEND)
    dataset.put(provenance(2), OTHER_IMAGE, FLIPPED)
    dataset.save()
    kill_at(monkeypatch, step, number)
    with suppress(KilledError):
        write_again(folder)
    monkeypatch.undo()

    images = {one.name[-1]: one for one in folder_images(folder, 9)}
    assert {"2", "3", "4"} >= set(images)
    for one in images.values():
        assert one.image.shape == one.truth.shape
    json.loads((folder / "manifest.json").read_text())

    dataset = Dataset(folder, LEGEND)
    if 2 in dataset.entries_of(1):
        write_again(folder)
    else:  # it was killed behind the manifest: only the sweep is missing
        dataset.sweep(1)
    assert [one.name[-1] for one in folder_images(folder, 9)] == ["3", "4"]
    assert [entry["task"] for entry in Dataset(folder, LEGEND).entries] == [3, 4]
    assert {path.suffix for path in folder.rglob("*.*")} == {".json", ".png"}


def test_files_may_be_read_by_those_who_may_read_the_folder(folder):
    """A dataset is there for others too."""
    (folder / "images").chmod(0o750)

    Dataset(folder, LEGEND).put(provenance(), OTHER_IMAGE, HALVES)

    assert (folder / "images" / "project-1-task-3.png").stat().st_mode & 0o777 == 0o640


def test_foreign_folder_is_left_alone(tmp_path):
    """It has images, and nobody knows what their masks mean."""
    (tmp_path / "images").mkdir()

    with pytest.raises(InvalidDatasetError, match=r"no legend.json, so it is no dataset"):
        Dataset(tmp_path, LEGEND)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("legend.json", "{", "legend.json is damaged"),
        ("legend.json", "[]", "it holds a list"),
        ("legend.json", '{"materials": ["Si"], "colors": {}}', "it lacks materials or colors"),
        ("legend.json", '{"materials": 3}', "it lacks materials or colors"),
        ("manifest.json", "", "manifest.json is damaged"),
        ("manifest.json", "{}", "an entry lacks"),
        ("manifest.json", '{"images": [{"name": "a"}]}', "an entry lacks"),
        ("manifest.json", '{"images": [3]}', "an entry lacks"),
    ],
)
def test_damaged_dataset_is_refused(folder, name, content, sentence):
    """Nothing is guessed, and nothing overwritten."""
    (folder / name).write_text(content)

    with pytest.raises(InvalidDatasetError, match=sentence):
        Dataset(folder, LEGEND)
