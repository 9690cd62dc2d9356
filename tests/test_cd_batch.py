"""A batch tells what became of each image."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from synthetic_cds import write_gates, write_recipe

from backend.batch import cd_batch
from backend.batch.cd_batch import Batch, check_batch, store_all
from backend.batch.measurables import dataset_measurables
from backend.batch.measuring import Setup
from backend.metrology.database import open_database
from backend.metrology.overlay import save_overlays
from backend.metrology.recipe_file import load_recipe


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    """Two gates, the second a file that is no image, and how to measure them."""
    folder = tmp_path_factory.mktemp("gates")
    write_gates(folder)
    (good,) = dataset_measurables(folder)
    damaged = folder / "damaged.tif"
    damaged.write_bytes(b"II*\0")
    setup = Setup(load_recipe(write_recipe(folder)), folder / "cds.db")
    return [replace(good, name="damaged", image=damaged), good], setup


def test_what_can_be_measured_is_stored(gates, tmp_path):
    """The other one is told with its reason, and leaves no row."""
    measurables, setup = gates
    batch = Batch(setup, tmp_path / "drawn", processes=1)
    with ThreadPoolExecutor(1) as executor, closing(open_database(setup.database)) as database:
        bad, good = store_all(measurables, batch, executor, database)
        assert database.table("runs").count == 1
    assert (bad.name, bad.status, good.status) == ("damaged", "failed", "ok")
    assert len(bad.notes) == 1
    assert any(line.startswith("gate_mcd: ") and line.endswith("n 2") for line in good.values)
    assert len(list((tmp_path / "drawn").iterdir())) == 2


def test_drawings_that_cannot_be_noted_end_no_batch(gates, tmp_path, monkeypatch):
    """Another program locks the database once the run is stored: it is told, the batch goes on."""
    measurables, setup = gates
    path = tmp_path / "cds.db"
    batch = Batch(replace(setup, database=path), tmp_path / "drawn", processes=1)
    with (
        ThreadPoolExecutor(1) as executor,
        closing(open_database(path)) as database,
        closing(sqlite3.connect(path)) as other,
    ):
        database.execute("PRAGMA busy_timeout=50")

        def draw_while_locked(*given):
            other.execute("BEGIN IMMEDIATE")
            try:
                return save_overlays(*given)
            finally:
                other.rollback()

        monkeypatch.setattr(cd_batch, "save_overlays", draw_while_locked)
        good, bad = store_all(measurables[::-1], batch, executor, database)
        assert database.table("runs").count == 1
    assert (good.status, bad.status) == ("failed", "failed")
    assert (
        "is stored, but where its drawings lie was not noted: database is locked" in (good.notes[0])
    )


def test_a_measurement_without_value_is_told(gates):
    """Two gates where four are expected: a row each, and a word on the screen."""
    measurables, setup = gates
    text = {"gate": replace_expect(setup.recipe.structures["gate"], 4)}
    recipe = setup.recipe.model_copy(update={"structures": text})
    with ThreadPoolExecutor(1) as executor:
        batch = Batch(replace(setup, recipe=recipe), processes=1)
        (told,) = store_all(measurables[1:], batch, executor, None)
    assert told.status == "review"
    assert "2 of gate_mcd" in told.notes[0]
    assert told.notes[-1].startswith("flags: unexpected_count:gate (fewer or more of the")


def replace_expect(rule, least):
    """A structure of which at least so many are expected."""
    return rule.model_copy(update={"expect": rule.expect.model_copy(update={"min": least})})


def test_check_tells_each_image_and_the_plan_once(gates):
    """Also what cannot be read."""
    measurables, setup = gates
    told = list(check_batch([*measurables, measurables[1]], setup))
    assert told[0].startswith("damaged: ")
    assert sum("512 x 512 px" in line for line in told) == 2
    assert sum("structure gate" in line for line in told) == 1
    assert sum(line == "  found in its labels: 2 gate" for line in told) == 2


def test_check_opens_the_labels(gates, tmp_path):
    """Classes that no legend knows are named; what wants a scale is not counted without one."""
    measurables, setup = gates
    good = measurables[1]
    label_map = np.array(Image.open(good.mask))
    label_map[:2, 0] = 7, 9
    Image.fromarray(label_map).save(tmp_path / "mask.png")
    *_, told = check_batch([replace(good, mask=tmp_path / "mask.png")], setup)
    assert told.startswith("  cannot be measured: ")
    assert "holds class 7, 9, and there are 4 materials" in told

    *_, told = check_batch([replace(good, image=good.picture)], setup)
    assert told == "  found in its labels: gate not known without a pixel size"
    assert not any("labels" in line for line in check_batch([replace(good, mask=None)], setup))
