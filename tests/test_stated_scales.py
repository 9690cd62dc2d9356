"""What a user said of an image's scale stays until a user says something else."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from cd_runs import SCALE, gate_image, gate_run, gates
from synthetic_cds import write_gates, write_recipe

from backend.batch.cd_batch import Batch, check_batch, make_setup, store_all
from backend.batch.measurables import dataset_measurables
from backend.metrology.database import open_database, stated_scales, write_run
from backend.metrology.recipe_file import load_recipe
from backend.metrology.rescaling import rescale
from backend.metrology.stated_scales import CORRECTED_BY, Evidence, StatedScale, weigh
from backend.microscope.calibration import Calibration
from scripts.rescale_cds import main as rescale_images

FILE = Calibration(0.2, 0.2, "metadata", detail="PixelWidth")
LATTICE = Calibration(0.21, 0.21, "lattice", 0.002, detail="Si 111", created_by="measure_cds.py")
CORRECTION = replace(LATTICE, created_by=CORRECTED_BY)
MANUAL = Calibration(0.2, 0.2, "manual", detail="certificate 7", created_by="measure_cds.py")
IMAGE = gate_image().id


@pytest.fixture
def database(tmp_path):
    """An empty CD database."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        yield database


def measured(database, calibration, **changes):
    """Store a run with the scale of the file; its id."""
    return write_run(database, replace(gate_run(calibration=calibration), **changes), gates(40.0))


def weighed(database, *found, told=None):
    """The scale that the image gets."""
    return weigh(Evidence(IMAGE, found, told, stated_scales(database).get(IMAGE)))


def test_without_a_user_the_best_source_counts(database):
    """Also after it was measured: what a file says is no statement of a user."""
    measured(database, FILE)
    assert weighed(database, FILE).calibration == FILE
    assert stated_scales(database) == {}


def test_a_correction_counts_before_the_file(database):
    """It is told whose it is, and is no conflict: who corrected it had seen the other."""
    rescale(database, measured(database, FILE), CORRECTION)
    scale = weighed(database, FILE)
    assert scale.calibration == CORRECTION
    assert scale.flags == ("corrected_scale",)
    assert scale.found == (CORRECTION, FILE)
    assert "0.21 nm as stated on 20" in scale.note
    assert "(lattice: Si 111), not 0.2 nm (metadata)" in scale.note
    assert not scale.is_stated  # it was before


def test_what_turns_up_later_is_a_conflict(database):
    """Nobody has seen it beside the correction; correcting again settles it."""
    rescale(database, measured(database, FILE), CORRECTION)
    later = Calibration(0.25, 0.25, "manual", detail="pixel_size_nm of task 3")
    run = replace(gate_run(calibration=CORRECTION), other_calibrations=(FILE, later))
    for _ in range(2):
        assert "scale_conflict" in weighed(database, FILE, later).flags
        run_id = write_run(database, run, gates(40.0))
    rescale(database, run_id, CORRECTION)
    assert weighed(database, FILE, later).flags == ("corrected_scale",)


def test_the_newest_statement_counts(database):
    """A lattice told while measuring, after a correction; then that one stays."""
    rescale(database, measured(database, FILE), CORRECTION)
    newer = Calibration(0.22, 0.22, "lattice", detail="Si 220", created_by="measure_cds.py")
    scale = weighed(database, FILE, told=newer)
    assert (scale.calibration, scale.is_stated) == (newer, True)
    assert scale.flags == ("scale_conflict",)

    measured(database, newer, is_stated=True)
    again = weighed(database, FILE)
    assert (again.calibration, again.flags) == (newer, ("scale_conflict",))
    assert rescale(database, measured(database, newer), CORRECTION)
    assert weighed(database, FILE).calibration == CORRECTION


@pytest.mark.parametrize("source", ["manual", "scale_bar"])
@pytest.mark.parametrize("before", [None, LATTICE, CORRECTION, MANUAL])
def test_a_plain_scale_yields_whatever_was_stated_before(database, source, before):
    """The same command gives the same nanometres; what overrules the file goes on doing so."""
    if before is CORRECTION:
        rescale(database, measured(database, FILE), CORRECTION)
    elif before:
        measured(database, before, is_stated=True)
    told = replace(LATTICE, source=source, detail="certificate 8", nm_per_px_x=0.25)

    scale = weighed(database, FILE, told=told)

    assert scale.calibration == (before if before in (LATTICE, CORRECTION) else FILE)
    assert not scale.is_stated
    assert told in scale.found
    assert "scale_conflict" in scale.flags
    assert "lattice, a pitch or rescale_cds.py overrules it" in scale.note or before in (
        LATTICE, CORRECTION,
    )  # fmt: skip


def test_a_file_that_turns_up_later_counts_before_a_plain_scale(database):
    """As it would have, had both been there at once."""
    measured(database, MANUAL, is_stated=True)
    scale = weighed(database, FILE)
    assert (scale.calibration, scale.found, scale.flags) == (FILE, (FILE, MANUAL), ())
    wide = replace(MANUAL, nm_per_px_x=0.3, nm_per_px_y=0.3)
    measured(database, wide, is_stated=True)
    assert weighed(database, FILE).flags == ("scale_conflict",)


def test_a_statement_repeated_is_the_same(database):
    """Measuring twice by the same command gives the same flags; a correction stays one."""
    first = weighed(database, FILE, told=LATTICE)
    assert (first.calibration, first.is_stated) == (LATTICE, True)
    measured(database, LATTICE, is_stated=True, other_calibrations=(FILE,))
    second = weighed(database, FILE, told=LATTICE)
    assert (second.flags, second.is_stated) == (first.flags, False) == (("scale_conflict",), False)

    rescale(database, measured(database, FILE), CORRECTION)
    assert weighed(database, FILE, told=LATTICE).calibration == CORRECTION


def test_a_statement_that_loses_against_the_file_is_none(database):
    """A manual scale does not overrule metadata, now or later."""
    manual = replace(LATTICE, source="manual")
    scale = weighed(database, FILE, told=manual)
    assert (scale.calibration, scale.is_stated) == (FILE, False)
    measured(database, FILE, other_calibrations=(manual,))
    assert weighed(database, FILE).calibration == FILE


def test_a_statement_needs_no_file(database):
    """A picture without a scale keeps what was told once."""
    manual = replace(LATTICE, source="manual")
    assert weighed(database, told=manual).is_stated
    measured(database, manual, is_stated=True)
    assert weighed(database).calibration == manual


def test_a_correction_of_the_correction(database):
    """The scale asked for last counts, though it was stated before another."""
    first = measured(database, FILE)
    for size in (0.21, 0.3, 0.21):
        rescale(database, first, replace(CORRECTION, nm_per_px_x=size, nm_per_px_y=size))
        assert weighed(database, FILE).calibration.nm_per_px == pytest.approx(size)


def test_older_databases_know_who_stated_what(tmp_path):
    """Scales that scripts had stored of users, and that runs stand on; the newest of them."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database:
        measured(database, FILE, other_calibrations=(replace(LATTICE, source="manual"),))
        for scale in (CORRECTION, replace(LATTICE, nm_per_px_x=0.3, nm_per_px_y=0.3), SCALE):
            measured(database, scale)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE calibrations DROP COLUMN stated_at")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm003_stated_scales'")
    with closing(open_database(path)) as database:
        assert weighed(database, FILE).calibration.nm_per_px == pytest.approx(0.3)
        stated = database.table("calibrations").count_where("stated_at IS NOT NULL")
        assert stated == 2


def test_a_stated_scale_is_known_by_who_stored_it():
    """Only that of the script that corrects settles conflicts."""
    assert StatedScale(CORRECTION, "2026").is_correction
    assert not StatedScale(LATTICE, "2026").is_correction


@pytest.fixture
def folder(tmp_path):
    """A gate with its own pixel size, and a recipe that places by nanometres."""
    write_gates(tmp_path, side=256)
    write_recipe(tmp_path)
    return tmp_path


def measure_folder(folder):
    """Measure it into the database, and tell what became of it."""
    setup = make_setup(load_recipe(folder / "gate.yaml"), folder / "cds.db", None)
    with ThreadPoolExecutor(1) as executor, closing(open_database(setup.database)) as database:
        (told,) = store_all(dataset_measurables(folder), Batch(setup), executor, database)
    return setup, told


def newest(folder):
    """Scale and status of the newest run."""
    query = ("SELECT nm_per_px_x, run_status, run_flags, count(*) FROM measurement_latest "
             "GROUP BY run_id")  # fmt: skip
    with closing(open_database(folder / "cds.db")) as database:
        ((size, *rest),) = database.execute(query).fetchall()
    return (round(size, 6), *rest)


def test_measuring_again_keeps_the_corrected_scale(folder, capsys):
    """Also where the recipe asks for measuring again; the run and the screen say whose it is."""
    measure_folder(folder)
    old = newest(folder)
    given = [
        "--database",
        str(folder / "cds.db"),
        "--all",
        "--factor",
        "1.2",
        "--calibration-note",
        "Si",
    ]
    assert rescale_images(given) == 1
    assert "it will be with this scale" in capsys.readouterr().err
    assert newest(folder) == old

    setup, told = measure_folder(folder)
    new = newest(folder)
    assert new[:2] == (round(1.2 * old[0], 6), old[1])
    assert '"corrected_scale"' in new[2]
    assert "nm as stated on" in told.notes[-1]
    checked = "\n".join(check_batch(dataset_measurables(folder), setup))
    assert "nm (manual)" in checked
    assert told.notes[-1] in checked
    measure_folder(folder)
    assert newest(folder) == new
