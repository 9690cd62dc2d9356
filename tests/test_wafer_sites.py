"""Lots, wafers and sites come from a table: all of it, or a sentence and nothing."""

from contextlib import closing

import pytest
from cd_runs import gate_run, gates

from backend.metrology.control_charts import image_means
from backend.metrology.database import open_database, write_run
from scripts.set_wafer_sites import main

GOOD = "image,lot,wafer,die_x,die_y,site\ngate_0.tif,L7,12,-3,4,center\ngate_1.tif,L8,,,,\n"


@pytest.fixture
def tell(tmp_path):
    """Run the script on a database of two images of lot L1, with a table of this text."""
    path = tmp_path / "cds.db"
    with closing(open_database(path)) as database:
        for number in (0, 1):
            write_run(database, gate_run(number, site="edge"), gates(40.0 + number))

    def run(text):
        (tmp_path / "sites.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main([str(tmp_path / "sites.csv"), "--database", str(path)])
        with closing(open_database(path)) as database:
            query = "select lot, wafer, die_x, die_y, site from images order by name"
            rows = database.execute(query).fetchall()
            means = next(iter(image_means(database).values())).means
        return code, rows, [one.lot for one in means]

    return run


def test_places_are_told_and_charts_go_by_them(tell):
    """An empty cell leaves what is known; a spreadsheet's mark of UTF-8 is no part of a name."""
    code, rows, lots = tell(b"\xef\xbb\xbf" + GOOD.encode())

    assert code == 0
    assert rows == [("L7", "12", -3, 4, "center"), ("L8", None, None, None, "edge")]
    assert lots == ["L7", "L8"]


def test_measuring_again_keeps_them(tell, tmp_path):
    """Microscopes do not know them."""
    tell(GOOD.replace("gate_1.tif,L8,,,,\n", ""))
    with closing(open_database(tmp_path / "cds.db")) as database:
        write_run(database, gate_run(0, lot=None, site=None), gates(41.0))
        assert database.execute("select lot from images where wafer = '12'").fetchone() == ("L7",)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "it needs image, and some of lot"),
        ("image\ngate_0.tif\n", "it needs image, and some of lot"),
        ("image,lots\ngate_0.tif,L2\n", "has the columns image, lots: it needs"),
        ("image,lot\ngate_0.tif,L2\ngate_9.tif,L2\n", "no image gate_9.tif was measured"),
        ("image,lot\ngate_0.tif,L2\ngate_0.tif,L3\n", "line 3: name one image in each row"),
        ("image,lot\ngate_0.tif,L2,L3\n", "line 2: name one image in each row"),
        ("image,die_x\ngate_0.tif,1.5\n", "line 2: die_x '1.5' is no whole number"),
        (b"image,lot\ngate_0.tif,\xff\n", "is no CSV file in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0", "sites.csv"),
    ],
)
def test_a_table_that_does_not_fit_changes_nothing(tell, capsys, table, told):
    """It says what is wrong, and where."""
    code, rows, _ = tell(table)

    assert code == 2
    assert told in capsys.readouterr().err
    assert {row[0] for row in rows} == {"L1"}


def test_images_of_one_name_are_told_apart(tell, tmp_path, capsys):
    """By their ids."""
    with closing(open_database(tmp_path / "cds.db")) as database:
        write_run(database, gate_run(2, name="gate_0.tif"), gates(40.0))
        ids = [row["id"] for row in database.query("select id from images where name='gate_0.tif'")]

    assert tell(GOOD)[0] == 2
    assert (
        f"2 images are called gate_0.tif: give the id of one, {ids[0]}" in capsys.readouterr().err
    )
    assert tell(GOOD.replace("gate_0.tif", ids[1]))[0] == 0
