"""Recipes are checked before anything is measured."""

from pathlib import Path

import pytest

from scripts.check_recipe import main

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"


def test_the_plan_is_told(capsys):
    """Of each recipe, in pixels of the images to come."""
    names = ("dram_gate", "dram_active")
    assert main([*(str(RECIPES / f"{name}.yaml") for name in names), "--nm-per-px", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "dram_gate, version" in out
    assert "measurement gate_bcd: width, 4 px (2 nm) from the base" in out
    assert "structure trench" in out


def test_mistakes_of_all_recipes_are_told(tmp_path, capsys):
    """A wrong one does not hide the next."""
    text = (RECIPES / "dram_gate.yaml").read_text("utf-8")
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(text.replace("kind: height", "kind: hieght"))
    assert main([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), "--labels", "Si"]) == 2
    told = capsys.readouterr().err
    assert told.count("there is no kind hieght (did you mean height?)") == 2
    assert told.count("the project has no label 'Oxide'") == 2


def test_shipped_schema_is_the_present_one(tmp_path):
    """Write it anew with --schema after a change of the recipe's keys."""
    assert main(["--schema", str(tmp_path / "schema.json")]) == 0
    shipped = (RECIPES / "recipe.schema.json").read_text("utf-8")
    assert shipped == (tmp_path / "schema.json").read_text("utf-8")


def test_something_must_be_named():
    """Else nothing would have been checked, with a 0."""
    with pytest.raises(SystemExit):
        main([])


def test_recipe_that_is_not_there_is_named(capsys):
    """Without a number that only programmers know."""
    assert main(["nope.yaml"]) == 2
    assert capsys.readouterr().err == "nope.yaml: No such file or directory\n"
