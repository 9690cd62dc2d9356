"""Names for the arrays that travel through the package, with their shapes and ranges."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

UNLABELED = 255
"""Value of a pixel nobody has drawn on; PyTorch's `ignore_index`."""

MAX_CLASSES = 254
"""Class indices are stored as uint8 beside `UNLABELED`."""

CellFeatures: TypeAlias = NDArray[np.float16]  # (h, w, D), what describes each cell of 2 x 2 px
CellProbabilities: TypeAlias = NDArray[np.float32]  # (C, h, w), summing to 1 over C
GrayImage: TypeAlias = NDArray[np.float32]  # (H, W), 0 black to 1 white
LabelMap: TypeAlias = NDArray[np.uint8]  # (H, W), class index or UNLABELED
Mask: TypeAlias = NDArray[np.bool_]  # (H, W)
Probabilities: TypeAlias = NDArray[np.float32]  # (C, H, W), summing to 1 over C
UncertaintyMap: TypeAlias = NDArray[np.float32]  # (H, W), 0 sure to 1 undecided
WeightMap: TypeAlias = NDArray[np.float64]  # (H, W), positive, summing to 1
