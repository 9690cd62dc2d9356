"""When a fit to the gray values gives way to the label."""

import pytest

from backend.metrology.image_rows import _disagree
from backend.metrology.readings import Reading


@pytest.mark.parametrize(
    ("unit", "gap", "gray_u", "label_u", "disagree"),
    [
        ("px", 0.9, 0.1, 0.1, False),  # a pixel is always allowed
        ("px", 1.1, 0.1, 5.0, True),  # however little the label knows
        ("px", 1.1, 0.6, 0.1, False),
        ("deg", 0.8, 0.1, 0.68, False),  # 1.2 sigma of the label: it may well be the label
        ("deg", 1.3, 0.1, 0.68, False),
        ("deg", 1.4, 0.1, 0.68, True),
        ("px^2", 9.0, 3.0, 4.0, False),  # 2 x 5
        ("px^2", 11.0, 3.0, 4.0, True),
    ],
)
def test_fit_gives_way_beyond_two_sigma(unit, gap, gray_u, label_u, disagree):
    """Of a length beyond two of its own and a pixel, of the others beyond two of both."""
    gray = Reading(80.0 + gap, gray_u, unit, "gray")
    assert _disagree(gray, Reading(80.0, label_u, unit, "label")) == disagree
