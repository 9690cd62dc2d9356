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
