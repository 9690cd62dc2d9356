"""What a guide remembers from one turn to the next, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.learning.prior import drawn_classes, enlarge, shrink

KeptCells: TypeAlias = NDArray[np.float16]
"""Probabilities as they are kept, (C, h, w)."""

RIM_PX = 2
"""Strokes come back from Label Studio with other rims once they are submitted."""

_ANSWERS = ("answer", "answer_before")


@dataclass
class GuideState:
    """Strokes and answers of one image; all arrays are padded as the image is.

    Answers are kept as they go to disk, by cells and in half precision: what later answers are made
    from is then the same after a restart, to the last bit.
    """

    scribbles: LabelMap  # (H, W)
    inference: Probabilities  # (C, H, W), what classifier and prior say
    answer: KeptCells  # (C, h, w), the network's opinion included
    answer_before: KeptCells  # (C, h, w), before the newest strokes; even where none counts
    known: frozenset[int] = frozenset()  # the classes that were drawn by then
    opinion: Probabilities | None = None  # (C, H, W), of the network, once it counts
    opinion_steps: int = 0  # the network had trained when it was asked
    before_steps: int = 0  # the same of the opinion in `answer_before`

    @classmethod
    def blank(cls, classes: int, shape: tuple[int, ...]) -> GuideState:
        """Nothing is drawn, and all classes are equally likely."""
        even = np.full((classes, *shape), 1 / classes, np.float32)
        cells = to_cells(even)
        return cls(np.full(shape, UNLABELED, np.uint8), even, cells, cells)

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays; answers that are the same array count once."""
        answers = (getattr(self, name) for name in _ANSWERS)
        arrays = (self.scribbles, self.inference, self.opinion, *answers)
        return sum({id(a): a.nbytes for a in arrays if a is not None}.values())

    def take(self, scribbles: LabelMap) -> bool:
        """Take the strokes of a turn; tell whether some of those before are gone.

        The answer before counts until strokes are erased or painted over: it may be wrong because
        of them. Taking the same strokes again does not make the present answer the one before.
        """
        erased = holds_more(self.scribbles, scribbles)
        drawn = drawn_classes(self.scribbles)
        if erased:
            blank = GuideState.blank(len(self.answer), scribbles.shape)
            self.answer = self.answer_before = blank.answer
            self.known, self.before_steps = frozenset(), 0
        elif holds_more(scribbles, self.scribbles):
            self.answer_before, self.known = self.answer, frozenset(drawn.tolist())
            self.before_steps = self.opinion_steps
        if erased or len(drawn_classes(scribbles)) > len(drawn):
            self.opinion, self.opinion_steps = None, 0  # it has not heard of the new class
        self.scribbles = scribbles
        return erased

    def tensors(self) -> dict[str, Tensor]:
        """Strokes and answers for the disk: answers by cells, in half precision."""
        arrays = {"inference": to_cells(self.inference), "scribbles": self.scribbles}
        arrays |= {name: getattr(self, name) for name in _ANSWERS}
        known = torch.tensor(sorted(self.known), dtype=torch.uint8)
        return {"known": known, **{name: torch.tensor(a) for name, a in arrays.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; the network's opinion is not among them.

        Raises:
            ValueError: They are of another image or number of classes, or of another version.
        """
        expected = self.tensors()
        for name in expected:
            if name not in tensors or tensors[name].dtype != expected[name].dtype:
                raise ValueError(f"'{name}' is missing: it was written by another version")
            if name != "known" and tensors[name].shape != expected[name].shape:
                raise ValueError(
                    f"'{name}' has the shape {tuple(tensors[name].shape)} and not "
                    f"{tuple(expected[name].shape)}: it is of another image or other materials"
                )
        self.scribbles = tensors["scribbles"].numpy()
        self.known = frozenset(tensors["known"].tolist())
        self.inference = to_pixels(tensors["inference"].numpy())
        for name in _ANSWERS:
            setattr(self, name, tensors[name].numpy())


def to_cells(probabilities: Probabilities) -> KeptCells:
    """As they are kept: the mean of each cell in half precision. (C, H, W) -> (C, h, w)."""
    return shrink(probabilities).astype(np.float16)


def to_pixels(cells: KeptCells) -> Probabilities:
    """From what `to_cells` gave, smoothly. (C, h, w) -> (C, H, W)."""
    return enlarge(cells.astype(np.float32))


def holds_more(strokes: LabelMap, others: LabelMap) -> bool:
    """Tell whether there are strokes that are not among the others, rims of `RIM_PX` aside.

    Example:
        >>> strokes = np.full((20, 20), UNLABELED, np.uint8)
        >>> strokes[5:15, 5:15] = 1
        >>> slimmer, half = strokes.copy(), strokes.copy()
        >>> slimmer[5], half[5:10] = UNLABELED, UNLABELED
        >>> holds_more(strokes, slimmer), holds_more(strokes, half), holds_more(half, strokes)
        (False, True, False)
    """
    missing = (strokes != UNLABELED) & (strokes != others)
    for label in np.unique(strokes[missing]):
        common = (strokes == label) & (others == label)
        rim = ndi.binary_dilation(common, iterations=RIM_PX)
        if (missing & (strokes == label) & ~rim).any():
            return True
    return False
