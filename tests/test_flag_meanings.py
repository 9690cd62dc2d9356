"""Every flag that measuring can set is explained."""

import re
from pathlib import Path

import pytest

from backend.metrology.flag_meanings import MEANINGS, meaning
from backend.metrology.image_rows import NOTES
from backend.metrology.results import REVIEWED

METROLOGY = Path(__file__).parents[1] / "backend" / "metrology"
RAISED = re.compile(r'(?:UnmeasurableError\(|flags=\(|flags, |flags\.append\(f?)"([a-z_]+)')


def test_notes_and_what_is_reviewed_are_explained():
    """They are what a reader meets first."""
    assert NOTES | set(REVIEWED) <= set(MEANINGS)


@pytest.mark.parametrize("path", sorted(METROLOGY.glob("*.py")), ids=lambda path: path.stem)
def test_flags_set_in_the_code_are_explained(path):
    """As far as they stand there as text."""
    flags = set(RAISED.findall(path.read_text(encoding="utf-8")))
    assert [flag for flag in flags if not meaning(flag)] == []


def test_an_unknown_flag_has_no_meaning():
    """Rather than a wrong one."""
    assert meaning("something_new") == ""
