"""The benchmark of measuring: both tiers, both recipes, rows in a database."""

from measured import read_table

from scripts.benchmark_measuring import main


def test_both_recipes_are_measured_by_both_tiers(capsys):
    """The whole command, on a small image: four medians."""
    assert main(["--sizes", "256", "--repeat", "1"]) == 0

    table = read_table(capsys.readouterr().out)
    assert {what for _, what in table} == {
        f"{recipe}, {tier}"
        for recipe in ("shipped recipe", "12-row recipe")
        for tier in ("label", "gray")
    }
    assert all(milliseconds > 0 for milliseconds in table.values())
    assert [where for where, what in table if what.startswith("12")] == ["256 px, 12 rows"] * 2


def test_image_too_small_ends_in_a_sentence(capsys):
    """No traceback for a user's mistake."""
    assert main(["--sizes", "8"]) == 2

    assert capsys.readouterr().err.startswith("shape is (8, 8): both sides need at least")


def test_a_batch_tells_its_speed_and_its_memory(capsys):
    """By the script, in a process of its own that starts others."""
    given = ["--sizes", "128", "--images", "2", "--processes", "2"]
    assert main(given) == 0

    table = read_table(capsys.readouterr().out)
    assert {where for where, _ in table} == {"2 images, 2 processes"}
    for (_, what), value in table.items():
        assert value > (0 if what == "images a second" else 50)
