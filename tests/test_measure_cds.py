"""The script that measures: from folders to rows, overlays and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from label_studio_stand_in import HALVES, TICK, LabelStudioStandIn, masks, submitted
from synthetic_cds import write_gates, write_recipe

from scripts.measure_cds import main

HALVES_RECIPE = """\
schema: tem-cd-recipe/1
name: halves
version: 1
materials: {si: Si, ox: Oxide}
frame: {align: none}
structures:
  half: {materials: [si], border: keep_flagged}
measurements:
  - {id: half_area, kind: area, of: half}
"""


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    """A folder of two gate images and their recipe."""
    folder = tmp_path_factory.mktemp("gates")
    write_gates(folder, seeds=(0, 1))
    write_recipe(folder)
    return folder


def measure(gates, database, *arguments):
    """Run the script on a recipe and a database."""
    given = ["--recipe", str(gates / "gate.yaml"), "--database", str(database)]
    return main([*map(str, arguments), *given])


def rows(database, query):
    """What a query finds."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_a_dataset_becomes_rows_and_overlays(gates, tmp_path, capsys):
    """Twice the same: the same runs with the same rows."""
    database = tmp_path / "cds.db"
    arguments = ["--dataset", gates, "--overlay", tmp_path / "drawn"]
    assert measure(gates, database, *arguments) == 0
    assert "2 ok, 0 review, 0 failed" in capsys.readouterr().out
    query = "SELECT id, value, u_value, status FROM measurements ORDER BY id"
    first = rows(database, query)
    assert measure(gates, database, *arguments) == 0
    assert rows(database, query) == first
    widths = "SELECT value, u_value, u_scale FROM measurements WHERE measurement = 'gate_mcd'"
    for value, u_value, u_scale in rows(database, widths):
        assert 10 < value < 60
        assert 0 < u_value < 1
        assert u_scale == pytest.approx(0.05 * value)
    assert len(rows(database, "SELECT * FROM runs WHERE overlay_png IS NOT NULL")) == 2
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2


def test_a_dry_run_tells_and_stores_nothing(gates, tmp_path, capsys):
    """A failed image is told, the others are measured."""
    folder = tmp_path / "some"
    shutil.copytree(gates, folder)
    (folder / "masks" / "gate_A_1.png").unlink()
    code = measure(gates, tmp_path / "cds.db", "--dataset", folder, "--dry-run", "--processes", 1)
    out = capsys.readouterr().out
    assert code == 1
    assert "1 ok, 0 review, 1 failed" in out
    assert "gate_mcd: " in out
    assert "gate_A_1.png has no mask" in out or "has no mask that can be read" in out
    assert not (tmp_path / "cds.db").exists()


def test_check_measures_nothing(gates, tmp_path, capsys):
    """It tells pixel size, flags and the plan."""
    assert measure(gates, tmp_path / "cds.db", "--dataset", gates, "--check") == 0
    out = capsys.readouterr().out
    assert "gate_A_0: 512 x 512 px, pixel 0.37974 nm (metadata), gray values linear" in out
    assert "measurement gate_mcd: width, at 0.5 of the height" in out
    assert not (tmp_path / "cds.db").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dataset", "{empty}"], "holds no images/*.png"),
        (["--labels", "{gates}/masks"], "there is no image"),
        (["{gates}/images", "--labels", "{gates}/masks"], "has no legend.json"),
        (["{gates}/images", "--dataset", "{gates}"], "images go with --labels or --registry"),
        (["{gates}/images", "--registry", "{empty}"], "no model is published"),
        (["--dataset", "{gates}", "--nm-per-px", "-1"], "cannot measure -1.0 nm"),
    ],
)
def test_mistakes_are_told(gates, tmp_path, capsys, arguments, told):
    """Before anything is measured; exit code 2."""
    given = [part.format(gates=gates, empty=tmp_path) for part in arguments]
    assert measure(gates, tmp_path / "cds.db", *given, "--check") == 2
    assert told in capsys.readouterr().err


def test_masks_of_a_model_are_not_taken_for_an_annotator_s(gates, tmp_path, capsys):
    """`predict_images.py` names its model in the legend."""
    masks = shutil.copytree(gates / "masks", tmp_path / "masks")
    legend = {"materials": ["Si", "Oxide", "Nitride", "Metal"], "model": "v0001"}
    (masks / "legend.json").write_text(json.dumps(legend))
    given = [gates / "originals", "--labels", masks, "--check"]
    assert measure(gates, tmp_path / "cds.db", *given) == 2
    assert "measure them with --registry" in capsys.readouterr().err
    del legend["model"]
    (masks / "legend.json").write_text(json.dumps(legend))
    assert measure(gates, tmp_path / "cds.db", *given) == 0
    assert "gate_A_1: 512 x 512 px, pixel" in capsys.readouterr().out


def test_a_recipe_for_other_labels_is_refused(gates, tmp_path, capsys):
    """All its mistakes are told, and nothing is measured."""
    recipe = gates / "other.yaml"
    recipe.write_text((gates / "gate.yaml").read_text().replace("gate: Metal", "gate: Metall"))
    given = ["--dataset", str(gates), "--recipe", str(recipe), "--database", str(tmp_path / "c.db")]
    assert main(given) == 2
    assert "the project has no label 'Metall' (did you mean Metal?)" in capsys.readouterr().err


def test_a_project_is_exported_beside_the_database(loopback, tmp_path, monkeypatch, capsys):
    """Its finished ground truth is then measured like any dataset; without one that is said."""
    monkeypatch.setenv("LABEL_STUDIO_URL", loopback.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    stand_in = LabelStudioStandIn(loopback)
    stand_in.set_task(3, submitted(30, *masks(HALVES), TICK))
    recipe = tmp_path / "halves.yaml"
    recipe.write_text(HALVES_RECIPE)
    given = ["--project", "1", "--recipe", str(recipe), "--database", str(tmp_path / "cds.db")]
    assert main([*given, "--nm-per-px", "0.5", "--processes", "1"]) == 0, capsys.readouterr()
    (row,) = rows(tmp_path / "cds.db", "SELECT value, unit, kind FROM measurements")
    assert row == (pytest.approx(64 * 32 * 0.25, rel=0.05), "nm^2", "area")
    run = rows(tmp_path / "cds.db", "SELECT annotation_id, source FROM runs")
    assert run == [(30, "ground_truth")]
    images = rows(tmp_path / "cds.db", "SELECT label_studio_task_id, path_rel FROM images")
    assert images == [(3, "project-1/images/project-1-task-3.png")]


def test_settings_that_are_missing_are_named(tmp_path, monkeypatch, capsys, gates):
    """As by the backend itself."""
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    assert measure(gates, tmp_path / "cds.db", "--project", 1) == 2
    assert "LABEL_STUDIO_API_KEY: set it in the environment" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_ctrl_c_keeps_what_was_measured(gates, tmp_path):
    """The terminal stops all processes at once: a sentence, no traceback, no half run."""
    folder = tmp_path / "many"
    shutil.copytree(gates, folder)
    for number in range(40):
        for part, suffix in (("images", "png"), ("masks", "png"), ("originals", "tif")):
            content = (gates / part / f"gate_A_0.{suffix}").read_bytes()
            own = bytes([number]) if part == "originals" else b""  # makes it another image
            (folder / part / f"many_{number:02}.{suffix}").write_bytes(content + own)
        shutil.copy(gates / "truth" / "gate_A_0.json", folder / "truth" / f"many_{number:02}.json")
    words = ["--dataset", folder, "--recipe", folder / "gate.yaml", "--database", folder / "cds.db"]
    command = [sys.executable, "scripts/measure_cds.py", *map(str, words)]
    run = subprocess.Popen(  # noqa: S603 - ours
        command, cwd=Path(__file__).parents[1], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(2):  # a line is told once an image is stored
        assert run.stdout.readline()
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)

    assert run.returncode == 130
    assert "what was stored stays" in errors
    assert "Traceback" not in errors
    assert 1 <= len(rows(folder / "cds.db", "SELECT DISTINCT run_id FROM measurements")) < 42
    lost = "SELECT id FROM runs WHERE id NOT IN (SELECT run_id FROM measurements)"
    assert rows(folder / "cds.db", lost) == []
