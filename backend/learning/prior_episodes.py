"""What one step of the prior's training sees: a sample drawn on, stage by stage.

As in a guide, the network starts each stage from the classifier's belief and from the answer to the
stage before, here its own alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.arrays import UNLABELED, CellProbabilities
from backend.learning.pixel_classifier import CELL_PX
from backend.learning.prior import (
    class_planes,
    drawn_classes,
    enlarge,
    half_size,
    shrink,
    steadied,
)
from backend.learning.prior_samples import PriorSample

FULL_SCALE = np.float32(255)
NOBODY_DREW = -1

_INVERTED_SHARE = 0.3


class Episode:
    """One sample as it is drawn on, mirrored and inverted at random."""

    def __init__(
        self,
        sample: PriorSample,
        rng: np.random.Generator,
        previous_share: float,
        crop: Crop | None,
    ) -> None:
        """Show a crop of the sample or, without one, all of it at half the size."""
        axes = [axis for axis in (-2, -1) if rng.random() < 0.5]  # noqa: PLR2004 - every other
        image = np.flip(sample.image, axes).astype(np.float32) / FULL_SCALE
        self._image = 1 - image if rng.random() < _INVERTED_SHARE else image
        self._scribbles = np.flip(sample.scribbles, axes).copy()
        self._beliefs = np.flip(sample.beliefs, axes).astype(np.float32) / FULL_SCALE
        self._label_map = np.flip(sample.label_map, axes).copy()
        self._previous_share = previous_share
        self._crop = crop
        self._stage = 0
        self._before: CellProbabilities | None = None

    @property
    def over(self) -> bool:
        """All stages have been seen."""
        return self._stage == len(self._scribbles)

    def planes(self) -> tuple[Tensor, Tensor]:
        """What the network sees of the K classes drawn at this stage, as from `class_planes`."""
        beliefs = self._beliefs[self._stage]
        if self._before is not None:
            known = drawn_classes(self._scribbles[self._stage - 1]).tolist()
            beliefs = steadied(beliefs, self._before, known, self._previous_share)
        full, cells = class_planes(self._image, self._scribbles[self._stage], beliefs)
        return self._crop.planes(full, cells) if self._crop else half_size(full, cells)

    def target(self) -> Tensor:
        """Place of each pixel's class among those drawn, `NOBODY_DREW` for others. (H, W)."""
        drawn = drawn_classes(self._scribbles[self._stage])
        places = np.full(UNLABELED + 1, NOBODY_DREW, np.int64)
        places[drawn] = np.arange(len(drawn))
        target = torch.from_numpy(places[self._label_map])
        return self._crop.target(target) if self._crop else target[::2, ::2].contiguous()

    def advance(self, answer: Tensor) -> None:
        """Take the network's answer (K, H, W) to this stage, and go on to the next."""
        drawn = drawn_classes(self._scribbles[self._stage])
        self._before = np.zeros(self._beliefs.shape[1:], np.float32)
        if self._crop:
            rows, columns = self._crop.cells  # what lies around is not looked at again
            self._before[drawn, rows, columns] = self._crop.answer(answer).numpy()
        else:
            self._before[drawn] = enlarge(shrink(answer.numpy()))
        self._stage += 1


@dataclass(frozen=True)
class Crop:
    """A square of a sample, enlarged."""

    cells: tuple[slice, slice]
    """Rows and columns of the sample in cells."""
    side_px: int
    """Of the enlarged square."""

    @classmethod
    def anywhere(
        cls, shape: tuple[int, int], side_px: int, max_zoom: float, rng: np.random.Generator
    ) -> Crop:
        """Choose a square of a sample of `shape` in pixels; half of them are not enlarged."""
        zoom = max(1.0, rng.uniform(2 - max_zoom, max_zoom))
        side = round(min(side_px, *shape) / zoom / CELL_PX)
        starts = [int(rng.integers(length // CELL_PX - side + 1)) for length in shape]
        rows, columns = (slice(start, start + side) for start in starts)
        return cls((rows, columns), min(side_px, *shape))

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the sample in pixels."""
        rows, columns = (slice(s.start * CELL_PX, s.stop * CELL_PX) for s in self.cells)
        return rows, columns

    def planes(self, full: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The square of `class_planes`; strokes keep hard borders."""
        rows, columns = self.pixels
        full = full[..., rows, columns]
        rows, columns = self.cells
        cells = cells[..., rows, columns]
        image = _resized(full[:, :1], self.side_px)
        strokes = F.interpolate(full[:, 1:], (self.side_px, self.side_px), mode="nearest-exact")
        return torch.cat([image, strokes], dim=1), _resized(cells, self.side_px // CELL_PX)

    def target(self, target: Tensor) -> Tensor:
        """The square of a map of classes, (H, W) -> (side, side); enlarged borders stay smooth."""
        classes, places = torch.unique(target[self.pixels], return_inverse=True)
        shares = F.one_hot(places).permute(2, 0, 1)[None].float()
        return classes[_resized(shares, self.side_px)[0].argmax(dim=0)]

    def answer(self, answer: Tensor) -> Tensor:
        """An answer to the square, (K, side, side), on the cells of the sample. (K, h, w)."""
        rows, columns = self.cells
        size = rows.stop - rows.start, columns.stop - columns.start
        return F.interpolate(answer[None], size, mode="area")[0]


def _resized(planes: Tensor, side: int) -> Tensor:
    """(N, C, h, w) -> (N, C, side, side)."""
    return F.interpolate(planes, (side, side), mode="bilinear")
