"""What a kind of measurement comes in is said in one place."""

from typing import get_args

import pytest

from backend.metrology.kinds import plan_of
from backend.metrology.recipe import Recipe, Rule
from backend.metrology.recipe_checks import unit_of
from backend.metrology.results import IN_NM, LENGTH_POWERS, Unit, unit_of_kind

KINDS = sorted(kind for rule in get_args(get_args(Rule)[0])
               for kind in get_args(rule.model_fields["kind"].annotation))  # fmt: skip


def test_every_unit_has_its_nanometres():
    """A power and a unit of the database each."""
    assert set(LENGTH_POWERS) == set(IN_NM) == set(get_args(Unit))


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_in_the_unit_of_the_value(kind):
    """Of lengths in nm, of areas in their squares, angles and ratios as they are."""
    expected = {"area": "nm^2", "sidewall_angle": "deg", "tilt": "deg", "ratio": "ratio"}
    assert unit_of(kind) == expected.get(kind, "nm") == IN_NM[unit_of_kind(kind)]


def test_a_plan_reports_in_that_unit():
    """What is checked by the recipe is what is measured."""
    rules = [{"id": kind, "kind": kind, "of": "gate"} for kind in ("height", "tilt", "area")]
    data = {
        "schema": "tem-cd-recipe/1", "name": "r", "version": 1, "materials": {"gate": "Gate"},
        "structures": {"gate": {"materials": ["gate"]}}, "measurements": rules,
    }  # fmt: skip
    units = [plan_of(rule).unit for rule in Recipe.model_validate(data).measurements]
    assert units == ["px", "deg", "px^2"]
