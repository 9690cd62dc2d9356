"""The CD database takes each run whole, keeps history, and answers the same to the same."""

import json
import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from cd_runs import MODEL, SCALE, gate_image, gate_recipe, gate_run, gates, lost, width

from backend.metrology.database import open_database, record_overlays, write_run
from backend.metrology.records import RowError, RunSource, path_beside
from backend.metrology.results import Measured

TIME = {"created_at", "last_run_at", "duration_s"}
TABLES = ("images", "calibrations", "recipes", "models", "runs", "measurements",
          "measurement_stats", "edges")  # fmt: skip


@pytest.fixture
def database(tmp_path):
    """An empty CD database."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        yield database


def content(database):
    """All rows of all tables, without the times."""
    return {
        table: sorted(
            (tuple((key, row[key]) for key in row if key not in TIME) for row in rows), key=str
        )
        for table in TABLES
        for rows in [database.table(table).rows]
    }


def counts(database):
    """How many rows each table has."""
    return {table: database.table(table).count for table in TABLES}


def test_a_run_is_stored_with_all_it_stands_on(database):
    """Two gates: widths, angles and areas, their statistics, and an edge."""
    run_id = write_run(database, gate_run(), gates(40.0, 41.0), duration_s=1.5)

    assert counts(database) == {
        "images": 1, "calibrations": 1, "recipes": 1, "models": 0, "runs": 1, "measurements": 6,
        "measurement_stats": 3, "edges": 1,
    }  # fmt: skip
    run = database.table("runs").get(run_id)
    assert (run["status"], run["tilt_deg"], run["duration_s"]) == ("ok", 1.5, 1.5)
    assert run["name"] == "gate_0.tif · gate 1 · labels"


def test_same_run_again_gives_the_same_rows(database):
    """But for the times: the first is kept, the last is new."""
    run_id = write_run(database, gate_run(), gates(40.0, 41.0), duration_s=1.5)
    before, run = content(database), database.table("runs").get(run_id)

    assert write_run(database, gate_run(), gates(40.0, 41.0), duration_s=2.5) == run_id

    assert content(database) == before
    again = database.table("runs").get(run_id)
    assert again["created_at"] == run["created_at"]
    assert again["last_run_at"] > run["last_run_at"]


def test_two_databases_agree(tmp_path):
    """Ids follow from the inputs, not from the database."""
    found = []
    for name in ("a.db", "b.db"):
        with closing(open_database(tmp_path / name)) as database:
            write_run(database, gate_run(), gates(40.0))
            found.append(content(database))

    assert found[0] == found[1]


def test_rows_of_lost_gates_go(database):
    """When fewer are found the second time, the first time's are not left over."""
    write_run(database, gate_run(), gates(40.0, 41.0, 42.0))

    write_run(database, gate_run(), gates(40.0))

    assert database.table("measurements").count == 3
    (stats,) = database.table("measurement_stats").rows_where("measurement = 'gate_mcd'")
    assert stats["n"] == 1


@pytest.mark.parametrize(
    "other",
    [
        gate_run(1), gate_run(dataset="HAADF"), gate_run(calibration=replace(SCALE, detail="x")),
        gate_run(calibration=replace(SCALE, rel_uncertainty=0.01)), gate_run(calibration=None),
        gate_run(model=MODEL), gate_run(model=replace(MODEL, version="4")),
        replace(gate_run(), source=RunSource("a" * 64)), replace(gate_run(), engine_version="2"),
        gate_run(recipe=gate_recipe(roi_fraction=(0, 0, 1, 0.9))),
    ],
)  # fmt: skip
def test_any_other_input_is_another_run(database, other):
    """History stays."""
    write_run(database, gate_run(), gates(40.0))

    write_run(database, other, gates(40.0))

    assert database.table("runs").count == 2
    assert database.table("measurements").count == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"source": RunSource(model=replace(MODEL, prior_sha256="c" * 64))},
        {"model_errors": (RowError("gate_mcd", "", "", "", 1.5),)},
    ],
)
def test_what_a_model_run_stands_on_is_in_its_name(database, changes):
    """Another prior gives other labels, a model's error that is known by now another u_value."""
    write_run(database, gate_run(model=MODEL), gates(40.0))
    other = replace(gate_run(model=MODEL), **changes)

    assert write_run(database, other, gates(40.0)) == write_run(database, other, gates(40.0))

    assert database.table("runs").count == 2
    assert database.table("measurements").count == 6


def test_description_of_a_recipe_may_change(database):
    """It does not change what is measured."""
    first = write_run(database, gate_run(), gates(40.0))

    recipe = gate_recipe(description="now with words")
    assert write_run(database, gate_run(recipe=recipe), gates(40.0)) == first

    (row,) = database.table("recipes").rows
    assert json.loads(row["definition"])["description"] == "now with words"


def test_what_nobody_knows_this_time_is_kept(database):
    """A second run without lot and metadata does not wipe those of the first."""
    write_run(database, gate_run(), gates(40.0))

    write_run(database, gate_run(lot=None, metadata={}, wafer="W2"), gates(40.0))

    (image,) = database.table("images").rows
    assert (image["lot"], image["wafer"], image["metadata"]) == ("L1", "W2", '{"hv":200}')


def test_calibrations_that_were_not_used_are_kept(database):
    """The run tells which one was."""
    other = replace(SCALE, nm_per_px_x=0.3, nm_per_px_y=0.3, source="scale_bar")

    run_id = write_run(database, replace(gate_run(), other_calibrations=(other,)), gates(40.0))

    used = database.table("runs").get(run_id)["calibration_id"]
    sources = {row["id"]: row["source"] for row in database.table("calibrations").rows}
    assert (len(sources), sources[used]) == (2, "manual")


def test_a_failure_leaves_the_old_run_whole(database):
    """A mode that the database does not know is refused, after the run was begun."""
    write_run(database, gate_run(), gates(40.0))
    before = content(database)
    bad = Measured("ok", (replace(width(), method="guess"),))

    with pytest.raises(ValueError, match=r"gate_0.tif: the run does not fit .* edge_method"):
        write_run(database, gate_run(), bad)

    assert content(database) == before


def test_a_locked_database_is_told(tmp_path):
    """Another program keeps it for itself: the run is not stored, and the old state is whole."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database, closing(sqlite3.connect(path)) as other:
        database.execute("PRAGMA busy_timeout=50")
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(OSError, match=r"gate_0.tif: the run was not stored: .* locked"):
            write_run(database, gate_run(), gates(40.0))

        other.rollback()
        write_run(database, gate_run(), gates(40.0))
        assert database.table("runs").count == 1


def test_verdicts_survive_a_second_run(database):
    """A review finds its measurement again; that of a lost one is an orphan."""
    run_id = write_run(database, gate_run(), gates(40.0, 41.0))
    rows = database.query("select id from measurements where kind = 'width' order by instance")
    ids = [row["id"] for row in rows]
    for number, one in enumerate(ids):
        database.table("reviews").insert(
            {"id": str(number), "run_id": run_id, "measurement_id": one, "reviewer": "me",
             "verdict": "good", "created_at": "now"}
        )  # fmt: skip

    write_run(database, gate_run(), gates(40.0))

    assert [row["id"] for row in database.view("orphan_reviews").rows] == ["1"]
    assert database.table("reviews").count == 2


def test_report_names_what_a_value_stands_on(database):
    """One row for each CD, readable on its own."""
    write_run(database, gate_run(), gates(40.0))
    write_run(database, gate_run(1, calibration=None, model=MODEL), gates(40.0))

    rows = list(database.query("select * from measurement_report where kind = 'width'"))

    names = ("image", "recipe", "source", "model", "calibration", "value", "value_px", "status")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("gate_0.tif", "gate", "ground_truth", None, "0.2 nm/px, manual", 8, 40, "ok"),
        ("gate_1.tif", "gate", "inference", "segmentation", None, None, 40, "flagged"),
    ]


def test_latest_is_the_newest_run_of_a_recipe_name(database):
    """Of both sources its own; a later version of the recipe takes the place of an earlier."""
    write_run(database, gate_run(), gates(40.0))
    write_run(database, gate_run(model=MODEL), gates(43.0))
    write_run(database, gate_run(recipe=gate_recipe(version=2)), gates(41.0))

    rows = list(database.query("select * from measurement_latest where kind = 'width'"))

    assert {(row["source"], row["value_px"]) for row in rows} == {
        ("ground_truth", 41), ("inference", 43),
    }  # fmt: skip


def test_first_run_repeated_is_the_newest(database):
    """What counts is when it was last measured."""
    write_run(database, gate_run(), gates(40.0))
    write_run(database, gate_run(recipe=gate_recipe(version=2)), gates(41.0))
    write_run(database, gate_run(), gates(40.0))

    (row,) = database.query("select * from measurement_latest where kind = 'width'")
    assert row["value_px"] == 40


def test_labels_and_model_are_paired_by_position(database):
    """The model misses the first gate: its first is the label's second."""
    write_run(database, gate_run(), gates(40.0, 41.0, 42.0))
    found = [replace(width(i, value), instance=i - 1) for i, value in ((1, 41.5), (2, 43.0))]
    write_run(database, gate_run(model=MODEL), Measured("review", tuple(found)))

    rows = list(database.query("select * from label_vs_model order by instance"))

    assert [(row["instance"], row["model_instance"], row["delta_px"]) for row in rows] == [
        (1, 0, 0.5), (2, 1, 1.0),
    ]  # fmt: skip
    assert [row["delta"] for row in rows] == pytest.approx([0.1, 0.2])


def test_each_is_paired_once(database):
    """Stacked sheets lie within each other's reach: the nearest belong together."""
    sheets = [
        replace(width(0, 40.0 + i), instance=i, center=(100.0 + 10 * i, 50.0)) for i in (0, 1, 2)
    ]
    moved = [replace(one, center=(one.center[0] + 2, 50.0)) for one in sheets]
    write_run(database, gate_run(), Measured("ok", tuple(sheets)))
    write_run(database, gate_run(model=MODEL), Measured("ok", tuple(moved)))

    rows = list(database.query("select * from label_vs_model order by instance"))

    assert [(row["instance"], row["model_instance"]) for row in rows] == [(0, 0), (1, 1), (2, 2)]


def test_a_merged_gate_has_no_partner(database):
    """One found in the place of two lies too far from both."""
    write_run(database, gate_run(), gates(40.0, 41.0))
    merged = width(0, 140.0, center=(150.0, 150.0), reach_px=70.0)
    write_run(database, gate_run(model=MODEL), Measured("ok", (merged,)))

    assert database.view("label_vs_model").count == 0


def test_other_scales_are_not_compared(database):
    """A difference of scales is none of edges; nor has what failed a difference."""
    write_run(database, gate_run(), gates(40.0))
    other = replace(SCALE, nm_per_px_x=0.21, nm_per_px_y=0.21)
    write_run(database, gate_run(calibration=other, model=MODEL), gates(40.0))
    write_run(database, gate_run(model=replace(MODEL, version="4")), Measured("failed", (lost(),)))

    assert database.view("label_vs_model").count == 0


def test_limits_of_the_recipe_are_checked(database):
    """Widths of 7.4, 8 and 9 nm against 7.5 to 8.5; the angle has only a lower limit."""
    measured = gates(37.0, 40.0, 45.0)
    write_run(database, gate_run(), replace(measured, cds=(*measured.cds, lost(3))))

    rows = list(database.query("select * from spec_check where kind = 'width' order by instance"))
    angles = list(database.query("select * from spec_check where measurement = 'gate_swa'"))

    assert [row["verdict"] for row in rows] == ["low", "inside", "high", "not measured"]
    assert {(row["target"], row["lsl"], row["usl"]) for row in rows} == {(8.0, 7.5, 8.5)}
    assert {(row["lsl"], row["usl"], row["verdict"]) for row in angles} == {(86, None, "inside")}


def test_limits_are_not_those_of_the_thinnest_place(database):
    """They are of a film's mean; its own scatter is no thickness."""
    film = {"id": "gate_mcd", "kind": "thickness", "film": "ox", "between": ("si", "gate"),
            "site": {"structure": "gate", "part": "base"}, "target_nm": 8.0}  # fmt: skip
    cds = [width(kind="thickness", quantity=name) for name in ("mean", "min", "max", "std")]
    recipe = gate_recipe(measurements=[film])

    write_run(database, gate_run(recipe=recipe), Measured("ok", tuple(cds)))

    assert [row["quantity"] for row in database.view("spec_check").rows] == ["mean"]


def test_overlays_are_noted(database):
    """And kept when the run is written again."""
    run_id = write_run(database, gate_run(), gates(40.0))

    record_overlays(database, run_id, png="overlays/a.png", svg=None)
    write_run(database, gate_run(), gates(40.0))

    assert database.table("runs").get(run_id)["overlay_png"] == "overlays/a.png"


def test_paths_are_seen_from_the_database(tmp_path):
    """Both can move to another disk together."""
    assert path_beside(tmp_path / "a" / "cds.db", tmp_path / "b" / "c.tif") == "../b/c.tif"


def test_a_source_is_labels_or_a_model():
    """Neither tells whose labels were measured."""
    with pytest.raises(ValueError, match="give the hash of the labels"):
        RunSource()
    with pytest.raises(ValueError, match="either an annotation or a model"):
        RunSource(annotation_id=3, model=MODEL)


def test_numbers_that_are_none_do_not_get_in(database):
    """Of image and run as of measurements."""
    image = gate_run(voltage_kv=math.nan)
    run_id = write_run(database, image, replace(gates(40.0), tilt_deg=math.nan))

    assert database.table("runs").get(run_id)["tilt_deg"] is None
    assert database.table("images").get(gate_image().id)["voltage_kv"] is None


def test_no_database_is_made_by_looking(tmp_path):
    """A mistyped name is told, not turned into an empty report."""
    with pytest.raises(FileNotFoundError, match="there is no database"):
        open_database(tmp_path / "typo.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_newer_databases_are_refused(tmp_path):
    """Their rows may mean something else; nothing in them is changed."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database:
        row = {"migration_set": "tem_cd", "name": "m099_wafers", "applied_at": "2030"}
        database.table("_sqlite_migrations").insert(row)
    before = path.read_bytes()

    with pytest.raises(ValueError, match=r"cds.db: .* newer version \(m099_wafers\)"):
        open_database(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 99, b"SQLite format 3\0" + b"x" * 999])
def test_other_files_are_refused(tmp_path, content):
    """With a sentence, and left as they are."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"notes.txt is no CD database"):
        open_database(path)

    assert path.read_bytes() == content


def test_databases_of_others_are_refused(tmp_path):
    """A table `images` of something else is not touched."""
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table images (photo)")

    with pytest.raises(OSError, match=r"photos.db cannot be used .* images"):
        open_database(path)

    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master")]
    assert "runs" not in tables


def test_a_missing_folder_is_told(tmp_path):
    """SQLite's own words do not name the path."""
    with pytest.raises(OSError, match=r"cds.db cannot be opened: .* does its folder exist"):
        open_database(tmp_path / "no" / "cds.db")


def test_two_make_the_same_database(tmp_path):
    """SQLite refuses one of two that change a new database's journal at once, and does not wait."""
    start = Barrier(2)

    def make(number):
        start.wait(60)
        open_database(tmp_path / f"{number}.db").close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, (number for number in range(150) for _ in range(2))))


WRITER = """
import sys
from contextlib import closing
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cd_runs import gate_run, gates
from backend.metrology.database import open_database, write_run
print("ready", flush=True)
sys.stdin.readline()
for number in range(3):
    with closing(open_database(Path(sys.argv[2]))) as database:
        for image in (number, 10 * (int(sys.argv[3]) + 1) + number):
            write_run(database, gate_run(image), gates(40.0, 41.0))
"""


def test_processes_write_at_once(tmp_path):
    """Two that make the same database, write the same runs and some of their own."""
    path, here = tmp_path / "cds.db", Path(__file__).parent
    commands = [[sys.executable, "-c", WRITER, str(here), str(path), str(i)] for i in range(2)]
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen(one, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=here.parent)  # noqa: S603 - ours
        for one in commands
    ]
    with ThreadPoolExecutor(2) as pool:  # all start when the slowest has imported
        assert list(pool.map(lambda one: one.stdout.readline(), writers)) == ["ready\n"] * 2
        results = list(
            pool.map(lambda one: (*one.communicate("go\n", 60), one.returncode), writers)
        )

    assert results == [("", "", 0)] * 2
    with closing(open_database(path)) as database:
        expected = {"images": 9, "runs": 9, "measurements": 54, "measurement_stats": 27}
        assert {table: database.table(table).count for table in expected} == expected
        (check,) = database.query("pragma integrity_check")
        assert check == {"integrity_check": "ok"}
