"""What is measured lies on one grid."""

import numpy as np
import pytest

from backend.metrology.subject import Subject


@pytest.mark.parametrize("other", ["gray", "probabilities"])
def test_another_grid_is_refused(other):
    """A resized label would measure edges where they are not."""
    arrays = {"gray": np.zeros((8, 9)), "probabilities": np.zeros((1, 8, 9), np.float32)}
    with pytest.raises(ValueError, match="not of the same image"):
        Subject(np.zeros((8, 8), np.uint8), ("Si",), **{other: arrays[other]})
