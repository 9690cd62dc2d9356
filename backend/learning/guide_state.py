"""What a guide remembers from one turn to the next, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage as ndi
from torch import Tensor

from backend.arrays import UNLABELED, LabelMap, Probabilities
from backend.learning.prior import drawn_classes, enlarge, shrink

RIM_PX = 2
"""Strokes come back from Label Studio with other rims once they are submitted."""

_MAPS = ("inference", "answer", "answer_before")


@dataclass
class GuideState:
    """Strokes and answers of one image; all arrays are padded as the image is."""

    scribbles: LabelMap  # (H, W)
    inference: Probabilities  # (C, H, W), what classifier and prior say
    answer: Probabilities  # (C, H, W), the network's opinion included
    answer_before: Probabilities  # (C, H, W), before the newest strokes; even where none counts
    known: frozenset[int] = frozenset()  # the classes that were drawn by then
    opinion: Probabilities | None = None  # (C, H, W), of the network, once it counts

    @classmethod
    def blank(cls, classes: int, shape: tuple[int, ...]) -> GuideState:
        """Nothing is drawn, and all classes are equally likely."""
        even = np.full((classes, *shape), 1 / classes, np.float32)
        return cls(np.full(shape, UNLABELED, np.uint8), even, even, even)

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays; answers that are the same array count once."""
        arrays = (self.scribbles, self.opinion, *(getattr(self, name) for name in _MAPS))
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
            self.known = frozenset()
        elif holds_more(scribbles, self.scribbles):
            self.answer_before, self.known = self.answer, frozenset(drawn.tolist())
        if erased or len(drawn_classes(scribbles)) > len(drawn):
            self.opinion = None  # it has not heard of the new class
        self.scribbles = scribbles
        return erased

    def tensors(self) -> dict[str, Tensor]:
        """Strokes and answers for the disk: answers by cells, in half precision."""
        answers = {name: torch.from_numpy(shrink(getattr(self, name))).half() for name in _MAPS}
        known = torch.tensor(sorted(self.known), dtype=torch.uint8)
        return {"scribbles": torch.from_numpy(self.scribbles), "known": known, **answers}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from `tensors`; the network's opinion is not among them.

        Raises:
            ValueError: They are of another image or number of classes, or of another version.
        """
        expected = self.tensors()
        for name in ("scribbles", *_MAPS, "known"):
            if name not in tensors or tensors[name].dtype != expected[name].dtype:
                raise ValueError(f"'{name}' is missing: it was written by another version")
            if name != "known" and tensors[name].shape != expected[name].shape:
                raise ValueError(
                    f"'{name}' has the shape {tuple(tensors[name].shape)} and not "
                    f"{tuple(expected[name].shape)}: it is of another image or other materials"
                )
        self.scribbles = tensors["scribbles"].numpy()
        self.known = frozenset(tensors["known"].tolist())
        for name in _MAPS:
            setattr(self, name, enlarge(tensors[name].float().numpy()))


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
