"""Keeps the guides of open tasks in memory, as many as fit; the others are let go, oldest first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from backend.learning.guide import Guide


class GuideCache:
    """Guides by task, below a limit of bytes.

    The one used last is kept however large it is: its annotator is about to ask again. Guides grow
    while they learn, so `keep` is called again after a training.
    """

    def __init__(self, max_bytes: float, let_go: Callable[[str, Guide], None]) -> None:
        """Start empty.

        Args:
            max_bytes: What all guides may hold together.
            let_go: Called with the key and the guide that leaves, so that nothing is lost.
        """
        self._max_bytes = max_bytes
        self._let_go = let_go
        self._guides: OrderedDict[str, Guide] = OrderedDict()  # the one used last is at the end

    def __len__(self) -> int:
        """How many guides are in memory."""
        return len(self._guides)

    def get(self, key: str) -> Guide | None:
        """Return the guide of a task, if it is in memory."""
        if key in self._guides:
            self._guides.move_to_end(key)
        return self._guides.get(key)

    def keep(self, key: str, guide: Guide) -> None:
        """Take a guide in, or count anew one that has grown."""
        self._guides[key] = guide
        self._guides.move_to_end(key)
        while len(self._guides) > 1 and self._nbytes > self._max_bytes:
            self._let_go(*self._guides.popitem(last=False))

    def drop(self, key: str) -> None:
        """Forget a guide, and what it has learned."""
        self._guides.pop(key, None)

    def release(self, key: str) -> None:
        """Let the guide of a task go, if it is in memory: nobody is about to ask it."""
        guide = self._guides.pop(key, None)
        if guide is not None:
            self._let_go(key, guide)

    def items(self) -> list[tuple[str, Guide]]:
        """All guides with their tasks."""
        return list(self._guides.items())

    def close(self) -> None:
        """Let all guides go."""
        while self._guides:
            self._let_go(*self._guides.popitem(last=False))

    @property
    def _nbytes(self) -> int:
        return sum(guide.nbytes for guide in self._guides.values())
