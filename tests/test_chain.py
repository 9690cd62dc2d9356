"""The whole chain of the README: native files → Label Studio → CDs, then new images → CDs.

Each step is the command that a user types. The microscope's files are synthetic, so every CD is
held against what is true, in nanometres of the pixel size in their tags.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import closing

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter.brush import mask2rle
from native_gate import write_native
from synthetic_cds import RECIPE

from backend.annotation.label_config import FINISHED_CHOICE, SEG, STATUS, write_label_config
from backend.annotation.projects import ensure_project
from backend.microscope.synthetic import make_image
from backend.trials.processes import free_port
from backend.trials.team import Person
from scripts.connect import main as connect
from scripts.export_ground_truth import main as export
from scripts.import_images import main as import_images
from scripts.measure_cds import main as measure
from scripts.report_cds import main as report
from scripts.train_segmentation import main as train

pytestmark = pytest.mark.timeout(600)

SIDE_PX = 256
LENGTHS = {"gate_tcd", "gate_mcd", "gate_bcd", "gate_h", "gate_pitch", "gate_space"}
PERFECT, GUIDED, NEW = (make_image("gate", "A", seed, (SIDE_PX, SIDE_PX)) for seed in (0, 2, 4))
IMAGES = {"perfect": PERFECT, "guided": GUIDED, "new": NEW}


def submit_exact_masks(client, task_id, image):
    """Paint every material exactly, as Label Studio's own converter encodes masks."""
    rows, columns = image.label_map.shape
    height = rows + bar_rows()
    results = []
    for index, material in enumerate(image.materials):
        mask = np.zeros((height, columns), np.uint8)
        mask[:rows] = 255 * (image.label_map == index)
        mask[rows:] = 255 * (index == 0)  # whoever paints the lowest material, paints on
        results.append({
            "id": f"mask{index}", "from_name": SEG, "to_name": "image", "type": "brushlabels",
            "origin": "manual", "original_width": columns, "original_height": height,
            "value": {"format": "rle", "rle": mask2rle(mask), "brushlabels": [material]},
        })  # fmt: skip
    results.append({"id": "tick", "from_name": STATUS, "to_name": "image", "type": "choices",
                    "value": {"choices": [FINISHED_CHOICE]}})  # fmt: skip
    client.sdk.annotations.create(id=task_id, result=results)


def write_short_recipe(folder):
    """Write the shipped gate recipe without what is not compared here: its figures take long."""
    kept = LENGTHS | {"gox_t"}
    lines = [line for line in RECIPE.read_text("utf-8").splitlines()
             if "- {id: " not in line or line.split("{id: ")[1].split(",")[0] in kept]  # fmt: skip
    path = folder / "gate.yaml"
    path.write_text("\n".join(line for line in lines if "gate_swa" not in line), encoding="utf-8")
    return path


def bar_rows():
    """How many rows of data bar the native files have."""
    return round(SIDE_PX * 0.06)


@pytest.fixture(scope="module")
def chain(workplace, demo_folder, tmp_path_factory):
    """Everything up to CDs of finished ground truth, by project and by dataset."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABEL_STUDIO_URL", workplace.url)
        patch.setenv("LABEL_STUDIO_API_KEY", workplace.keys.token)
        patch.setenv("MODEL_DIR", str(demo_folder / "backend"))
        patch.setenv("BASIC_AUTH_USER", workplace.backend.user)
        patch.setenv("BASIC_AUTH_PASS", workplace.backend.password)
        yield walk(workplace, folder)


def walk(workplace, folder):
    """Import, connect, annotate, export and measure; return the folder of all that came of it."""
    client = workplace.client
    files = {name: write_native(image, folder / f"{name}.tif", second)
             for second, (name, image) in enumerate(IMAGES.items())}  # fmt: skip
    config = write_label_config(PERFECT.materials)
    project, _ = ensure_project(client, "The chain", config)
    given = [str(files["perfect"]), str(files["guided"]), "--out", str(folder / "imported")]
    assert import_images([*given, "--project", str(project)]) == 0
    assert connect([str(project), "--backend-url", workplace.backend.url]) == 0
    first, second = (task["id"] for task in client.tasks(project))
    submit_exact_masks(client, first, PERFECT)
    person = Person(client, project, GUIDED.materials, enough=0.97, max_asks=3)
    bar = ((0, bar_rows()), (0, 0))
    person.finish(second, np.pad(GUIDED.label_map, bar, constant_values=255))
    assert export([str(project), "--out", str(folder / "dataset")]) == 0
    recipe = write_short_recipe(folder)
    common = ["--originals", str(folder / "imported"), "--recipe", str(recipe)]
    common += ["--database", str(folder / "cds.db"), "--processes", "1"]
    assert measure(["--project", str(project), *common, "--overlay", str(folder / "drawn")]) == 0
    assert measure(["--dataset", str(folder / "dataset"), *common]) == 0
    return Namespace(folder=folder, files=files, recipe=recipe, database=folder / "cds.db")


def rows_of(chain, source, name):
    """The lengths of an image: (measurement, instance), value, u and the label's value."""
    query = """SELECT measurement, instance, value, u_value, value_label, status, edge_method
        FROM measurement_report WHERE source = ? AND image LIKE ? || '%' AND value IS NOT NULL
        AND side = '' AND quantity IN ('', 'mean')"""
    with closing(sqlite3.connect(chain.database)) as database:
        found = database.execute(query, (source, name)).fetchall()
    return {(row[0], row[1]): row[2:] for row in found if row[0] in LENGTHS}


def true_cds(image):
    """What is true, in nm."""
    return {(cd.measurement, cd.instance): cd.value for cd in image.truth
            if cd.measurement in LENGTHS and cd.quantity == "value"}  # fmt: skip


def test_masks_of_label_studio_give_true_cds_in_nanometres(chain):
    """Drawn exactly, encoded by Label Studio: no half pixel is lost or won on the way."""
    rows, truth = rows_of(chain, "ground_truth", "perfect"), true_cds(PERFECT)
    assert rows.keys() == truth.keys()
    pixel_nm = PERFECT.nm_per_px_x
    errors = {key: (rows[key][2] - truth[key]) / pixel_nm for key in truth}  # of the label tier
    assert max(map(abs, errors.values())) < 0.6, errors
    widths = [error for (name, _), error in errors.items() if name != "gate_pitch"]
    assert abs(np.mean(widths)) < 0.2, errors
    for key, (value, u_value, *_) in rows.items():
        assert abs(value - truth[key]) < 3 * u_value, key


def test_scribbles_that_became_ground_truth_give_cds(chain):
    """Within three pixels of the truth: the guide's edges are not exact, and a person took them."""
    rows, truth = rows_of(chain, "ground_truth", "guided"), true_cds(GUIDED)
    widths = [key for key in truth if key[0] == "gate_mcd"]
    assert widths
    for key in widths:
        assert abs(rows[key][0] - truth[key]) < 3 * GUIDED.nm_per_px_x


def test_by_project_and_by_dataset_the_same_is_measured(chain):
    """One run an image: labels, originals, scale and recipe are the same."""
    with closing(sqlite3.connect(chain.database)) as database:
        runs = database.execute("SELECT name, flags FROM runs").fetchall()
        scales = database.execute(
            "SELECT DISTINCT detail, nm_per_px_x FROM calibrations JOIN runs"
            " ON calibrations.id = runs.calibration_id"
        ).fetchall()
        (when,) = database.execute("SELECT min(acquired_at) FROM images").fetchone()
    assert len(runs) == 2
    assert {detail for detail, _ in scales} == {"FEI tag, [Scan] PixelWidth"}
    assert all(size == pytest.approx(PERFECT.nm_per_px_x, rel=1e-6) for _, size in scales)
    assert when == "2025-11-30T10:22:00"
    assert len(list((chain.folder / "drawn").glob("*.svg"))) == 2


def test_new_images_are_measured_without_annotation(chain):
    """A shared model of the two finished images, hardly trained, measures a third: unverified."""
    registry = chain.folder / "models"
    trained = ["--registry", str(registry), "--publish", "--steps", "3", "--folds", "2"]
    assert train([str(chain.folder / "dataset"), *trained, "--crop", "128"]) == 0
    images = [str(chain.files["new"]), str(chain.files["perfect"])]
    measured = ["--registry", str(registry), "--recipe", str(chain.recipe), "--processes", "1"]
    assert measure([*images, *measured, "--database", str(chain.database)]) in (0, 1)
    query = "SELECT images.name, runs.status, runs.flags FROM runs JOIN images ON images.id ="
    query += " image_id WHERE source = 'inference' ORDER BY images.name"
    with closing(sqlite3.connect(chain.database)) as database:
        runs = database.execute(query).fetchall()
        of_rows = "SELECT flags FROM measurement_report WHERE source = 'inference' AND value > 0"
        flags = {flags for (flags,) in database.execute(of_rows)}
    assert [(name, "trained_on" in told) for name, _, told in runs] == [
        ("new", False), ("perfect", True)]  # fmt: skip
    assert all("unverified" in told for told in flags)


def test_the_report_and_datasette_show_it(chain):
    """With the command that the report prints; every page of it answers."""
    out = chain.folder / "report"
    given = ["--database", str(chain.database), "--out", str(out), "--xlsx"]
    assert report([*given, "--browse"]) == 0
    page = (out / "index.html").read_text()
    assert "gate_mcd" in page
    assert (out / "cds.xlsx").stat().st_size > 0
    port = free_port()
    command = [sys.executable, "-m", "datasette", "-p", str(port), "-i", str(out / "browse/cds.db")]
    command += ["-m", str(out / "browse" / "datasette.yaml")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        try:
            check_pages(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def check_pages(url):
    """Open the tables, the views and the canned queries, as a reader does."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for _ in range(300):
            try:
                tables = client.get("/cds.json").json()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        queries = {one["name"] for one in tables["queries"]}
        names = {one["name"] for one in (*tables["tables"], *tables["views"])} | queries
        assert {"measurement_report", "label_vs_model_bias", "control_chart"} <= names
        for name in names:
            asked = {"measurement": "gate_mcd"} if name in queries else {}
            answer = client.get(f"/cds/{name}", params=asked)
            assert answer.status_code == httpx.codes.OK, name
