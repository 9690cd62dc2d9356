"""Another pixel size for what was measured."""

from contextlib import closing

import pytest
from cd_runs import gate_recipe, gate_run, gates

from backend.metrology.database import open_database, write_run
from scripts.rescale_cds import main


@pytest.fixture
def path(tmp_path):
    """A database of three images; the third cannot be rescaled."""
    path = tmp_path / "cds.db"
    placed = {"structures": {"gate": {"materials": ["gate"], "min_area_nm2": 150.0}}}
    with closing(open_database(path)) as database:
        write_run(database, gate_run(0), gates(40.0, 41.0))
        write_run(database, gate_run(1), gates(42.0))
        write_run(database, gate_run(2, recipe=gate_recipe(name="other", **placed)), gates(42.0))
    return path


def latest(path):
    """Width of the first gate of each image, from its newest run: nm and px."""
    query = (
        "SELECT image, value, value_px FROM measurement_latest "
        "WHERE measurement = 'gate_mcd' AND instance = 0"
    )
    with closing(open_database(path)) as database:
        return {image: (nm, px) for image, nm, px in database.execute(query).fetchall()}


def test_a_factor_changes_nm_only(path, capsys):
    """Of the image named; its old rows stay, the newest run is the rescaled one."""
    before = latest(path)
    given = [
        "--database",
        str(path),
        "gate_0.tif",
        "--factor",
        "1.05",
        "--calibration-note",
        "lattice",
    ]
    assert main(given) == 0
    assert "1 of 1 runs rescaled" in capsys.readouterr().out
    after = latest(path)
    assert after["gate_0.tif"][0] == pytest.approx(1.05 * before["gate_0.tif"][0], rel=1e-9)
    assert after["gate_0.tif"][1] == before["gate_0.tif"][1]
    assert after["gate_1.tif"] == before["gate_1.tif"]
    with closing(open_database(path)) as database:
        assert database.table("runs").count == 4


def test_one_pixel_size_for_all(path, capsys):
    """What has to be measured again is told, the others are rescaled."""
    assert (
        main(["--database", str(path), "--all", "--nm-per-px", "0.25", "--calibration-note", "n"])
        == 1
    )
    told = capsys.readouterr()
    assert "2 of 3 runs rescaled" in told.out
    assert "measure the image again" in told.err
    assert latest(path)["gate_1.tif"][0] == pytest.approx(42 * 0.25)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["gate_9.tif", "--factor", "1.1"], "no image gate_9.tif was measured"),
        (["--factor", "1.1"], "name images, or give --all"),
    ],
)
def test_mistakes_are_told(path, capsys, given, told):
    """And nothing is changed."""
    assert main(["--database", str(path), "--calibration-note", "n", *given]) == 2
    assert told in capsys.readouterr().err


def test_a_database_must_exist(tmp_path, capsys):
    """None is made by a misspelled name."""
    path = tmp_path / "no.db"
    assert main(["--database", str(path), "--all", "--factor", "2", "--calibration-note", "n"]) == 2
    assert "measure something into it first" in capsys.readouterr().err
    assert not path.exists()


def test_the_scale_asked_for_last_counts(path, capsys):
    """Though a run with it was there already; and no factor is applied twice."""
    asked = [
        "--database",
        str(path),
        "gate_0.tif",
        "--calibration-note",
        "n",
        "--calibration-source",
        "lattice",
    ]
    before = latest(path)
    assert main([*asked, "--nm-per-px", "0.21"]) == 0
    first = latest(path)
    assert main([*asked, "--nm-per-px", "0.3"]) == 0
    assert latest(path) != first != before
    assert main([*asked, "--nm-per-px", "0.21"]) == 0
    assert latest(path) == first
    assert main([*asked, "--factor", "1.05"]) == 1
    assert "was rescaled before: give its pixel size" in capsys.readouterr().err
    assert latest(path) == first


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--calibration-note", "n"], "either --nm-per-px or --factor"),
        (["--calibration-note", "n", "--factor", "2", "--nm-per-px", "1"], "either"),
        (["--factor", "2"], "say where it is known from"),
    ],
)
def test_one_size_and_a_reason_are_asked_for(path, capsys, given, told):
    """Who corrects a scale says by what."""
    with pytest.raises(SystemExit):
        main(["--database", str(path), "--all", *given])
    assert told in capsys.readouterr().err


def test_picometres_are_no_nanometres(path, capsys):
    """A slip of units is refused as when measuring."""
    given = ["--all", "--nm-per-px", "210", "--calibration-note", "n"]
    assert main(["--database", str(path), *given]) == 1
    assert "210 nm is outside" in capsys.readouterr().err
