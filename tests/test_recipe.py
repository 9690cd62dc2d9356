"""Recipes: both examples are read, and what contradicts itself is refused."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from backend.metrology.recipe import At, Recipe, Site, StructureRule, Sweep

RECIPES = Path(__file__).parents[1] / "backend" / "metrology" / "recipes"


def load(name: str) -> Recipe:
    """Read one of the package's recipes."""
    return Recipe.model_validate(yaml.safe_load((RECIPES / f"{name}.yaml").read_text("utf-8")))


def test_both_examples_are_recipes():
    """What the package ships is valid."""
    gate, active = load("dram_gate"), load("dram_active")
    assert gate.rule("gate_bow").at.sweep.fractions()[-1] == 0.9
    assert active.structures["active"].cut.level_of == "trench"
    assert gate.frame.between == ("si", "ox")


def test_an_unknown_measurement_has_no_rule():
    """A misspelled id is not silently another."""
    with pytest.raises(KeyError):
        load("dram_gate").rule("gate_mdc")


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (At, {"fraction": 0.5, "offset_nm": 2}),
        (At, {}),
        (At, {"fraction": 1.5}),
        (At, {"fraction": 0.5, "bnad": 0.1}),
        (Sweep, {"from": 0.5, "to": 0.5, "step": 0.1}),
        (Site, {"structure": "gate", "part": "base", "inset_nm": 1, "inset_px": 1}),
        (Site, {"structure": "gate", "part": "base", "between_fractions": [0.6, 0.4]}),
        (StructureRule, {"materials": []}),
        (StructureRule, {"materials": ["a"], "base": "cut"}),
        (StructureRule, {"materials": ["a"], "expect": {"min": 3, "max": 2}}),
    ],
)
def test_contradictions_are_refused(part, content):
    """Nothing is guessed where a recipe says two things, or none."""
    with pytest.raises(ValidationError):
        part.model_validate(content)


def test_a_length_is_given_in_nm_or_px():
    """Nanometres need a calibrated image, pixels do not."""
    assert At.model_validate({"offset_nm": 2}).length_px("offset", 0.5) == 4
    assert At.model_validate({"offset_px": 2}).length_px("offset", None) == 2
    assert At.model_validate({"fraction": 0.5}).length_px("offset", 0.5) is None
    with pytest.raises(ValueError, match="offset_px"):
        At.model_validate({"offset_nm": 2}).length_px("offset", None)


def test_an_area_is_given_in_nm2_or_px2():
    """Areas scale by the square."""
    rule = StructureRule.model_validate({"materials": ["a"], "min_area_nm2": 8})
    assert rule.min_area_px(2) == 2
    with pytest.raises(ValueError, match="min_area_px2"):
        rule.min_area_px(None)
    assert StructureRule.model_validate({"materials": ["a"]}).min_area_px(None) == 0
