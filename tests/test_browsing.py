"""A real Datasette reads the copy: its pages, its facets, its canned queries."""

import json
import subprocess
import sys
import time
from contextlib import closing

import httpx
import pytest
import yaml
from cd_runs import MODEL, gate_run, gates, lost

from backend.metrology.browsing import datasette_metadata, write_snapshot
from backend.metrology.database import open_database, write_run
from backend.metrology.results import Measured
from backend.trials.processes import free_port


def fill(database):
    """Two images, the second also measured by a model; a gate is too wide, one is lost."""
    write_run(database, gate_run(0), gates(40.0, 45.0))
    write_run(database, gate_run(1), Measured("review", (*gates(42.0).cds, lost(1))))
    write_run(database, gate_run(1, model=MODEL), gates(43.0))


@pytest.fixture(scope="module")
def datasette(tmp_path_factory):
    """Start Datasette on a copy of a database that is not called `cds`."""
    folder = tmp_path_factory.mktemp("browse")
    path = folder / "my cds.db"
    with closing(open_database(path)) as database:
        fill(database)
        copy, metadata = write_snapshot(database, path, folder / "out")
    port = free_port()
    command = [sys.executable, "-m", "datasette", "-i", str(copy), "-m", str(metadata)]
    with subprocess.Popen([*command, "-p", str(port)], stderr=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", follow_redirects=True, trust_env=False
        )
        try:
            yield wait_for(client)
        finally:
            client.close()
            process.terminate()


def wait_for(client):
    """Wait until it answers; return the client below the page of the database."""
    for _ in range(600):
        try:
            (database,) = client.get("/-/databases.json").json()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            assert database["is_mutable"] is False
            client.base_url = client.base_url.join("/my~20cds/")
            return client
    raise TimeoutError("Datasette does not answer")


def test_control_chart_query_is_in_the_order_of_acquisition(datasette):
    """Means of the drawn labels, an image a row; the model's come after."""
    rows = datasette.get("control_chart.json?measurement=gate_mcd&_shape=array").json()

    assert [(row["source"], row["image"], row["n"]) for row in rows] == [
        ("ground_truth", "gate_0.tif", 2), ("ground_truth", "gate_1.tif", 1),
        ("inference", "gate_1.tif", 1),
    ]  # fmt: skip
    assert [row["mean"] for row in rows] == pytest.approx([8.5, 8.4, 8.6])
    assert {row["ordered_by"] for row in rows} == {"acquisition"}


def test_violations_query_shows_what_is_outside(datasette):
    """9 nm of 8.5, a lost gate, and 8.6 nm of the model."""
    rows = datasette.get("spec_violations.json?_shape=array").json()

    assert [(row["image"], row["verdict"]) for row in rows] == [
        ("gate_0.tif", "high"), ("gate_1.tif", "high"), ("gate_1.tif", "not measured"),
    ]  # fmt: skip


def test_bias_query_compares_with_the_model(datasette):
    """1 px wider, 0.2 nm."""
    rows = datasette.get("label_vs_model_bias.json?_shape=array").json()

    (row,) = [row for row in rows if row["measurement"] == "gate_mcd"]
    assert (row["pairs"], row["bias_px"]) == (1, 1)
    assert row["bias"] == pytest.approx(0.2)


def test_report_is_faceted_and_described(datasette):
    """How many of each measurement, source and status; what a column means."""
    answer = datasette.get("measurement_report.json").json()
    facets = {
        name: {one["value"]: one["count"] for one in facet["results"]}
        for name, facet in answer["facet_results"].items()
    }
    page = datasette.get("measurement_report").text

    assert facets["measurement"] == {"gate_mcd": 5, "gate_swa": 4, "gate_area": 4}
    assert facets["source"] == {"ground_truth": 10, "inference": 3}
    assert facets["status"] == {"ok": 12, "missing": 1}
    assert "Standard uncertainty (1 sigma) of the value" in page


def test_runs_link_to_what_they_stand_on(datasette):
    """Names, not ids, of image and recipe."""
    page = datasette.get("runs").text

    assert "gate_0.tif</a>" in page
    assert "0.2 nm/px, manual</a>" in page


def test_all_columns_described_exist(tmp_path):
    """A description of a column that is gone would mislead."""
    tables = yaml.safe_load(datasette_metadata("x"))["databases"]["x"]["tables"]
    with closing(open_database(tmp_path / "cds.db")) as database:
        for name, described in tables.items():
            columns = set(database[name].columns_dict)
            told = set(described.get("columns", {})) | set(described.get("facets", []))
            if name != "measurements":  # which shares the words of the report
                assert told <= columns, name


def test_copy_does_not_replace_the_database(tmp_path):
    """Writing it into the same folder is refused; a second copy takes the place of the first."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database:
        fill(database)
        with pytest.raises(ValueError, match="holds the database itself"):
            write_snapshot(database, path, tmp_path)
        first, _ = write_snapshot(database, path, tmp_path / "out")
        write_run(database, gate_run(5), gates(40.0))
        second, metadata = write_snapshot(database, path, tmp_path / "out")

    assert first == second
    with closing(open_database(second)) as copy:
        assert copy.table("runs").count == 4
    assert json.loads(json.dumps(yaml.safe_load(metadata.read_text("utf-8"))))["title"]
