"""Which pixels belong to an instance, and what is said of those that nobody labeled."""

from __future__ import annotations

import numpy as np
import pytest
from drawings import measured

from backend.arrays import UNLABELED


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(50, 70), slice(35, 45)),  # within the gate
        (slice(50, 70), slice(50, 55)),  # beside it
    ],
)
def test_pixels_without_a_label_are_told(rows, columns):
    """A hole counts as the gate's, but nobody has said so."""
    labels = np.ones((100, 100), dtype=np.uint8)
    labels[40:80, 30:50] = 2
    area = {"id": "a", "kind": "area", "of": "gate"}
    assert "unlabeled" not in measured(labels, area)["a", 0, "", ""].flags
    labels[rows, columns] = UNLABELED
    row = measured(labels, area)["a", 0, "", ""]
    assert row.value == pytest.approx(800, abs=1)
    assert "unlabeled" in row.flags
    assert row.status == "flagged"


def test_what_the_border_cuts_is_not_called_absent():
    """Whoever looks for it is to know that a wider picture would show it."""
    labels = np.ones((100, 100), dtype=np.uint8)
    labels[40:80, 30:50] = 2
    labels[40:80, 90:] = 2
    gates = {"gate": {"materials": ["gate"], "expect": {"min": 3}}}
    rows = measured(labels, {"id": "a", "kind": "area", "of": "gate"}, structures=gates)
    assert rows["a", 0, "", ""].value == pytest.approx(800, abs=1)
    absent = {instance: (row.status, row.flags) for (_, instance, *_), row in rows.items()}
    del absent[0]
    assert absent == {1: ("missing", ("at_border",)), 2: ("missing", ("at_border",))}
