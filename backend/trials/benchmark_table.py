"""What the benchmarks measure and show: seconds of a block, and a table with the goals."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import httpx

from backend.files import in_words
from backend.trials.processes import ServerError


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    where: str  # e.g. "512 px"
    what: str
    value: float
    unit: str
    goal: float = math.inf  # largest value wanted

    def cells(self) -> tuple[str, str, str, str]:
        """Write the row as text."""
        verdict = "met" if self.value <= self.goal else "missed"
        goal = "" if math.isinf(self.goal) else f"{self.goal:g} {self.unit}: {verdict}"
        return self.where, self.what, f"{self.value:.2f} {self.unit}", goal


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Put the seconds that the block takes into `times`."""
    start = time.perf_counter()
    yield
    times[name] = time.perf_counter() - start


def medians(runs: Sequence[dict[str, float]]) -> list[tuple[str, float]]:
    """Take the median of each value over the runs."""
    return [(name, median(run[name] for run in runs)) for name in runs[0]]


def print_table(measure: Callable[[], Sequence[Row]]) -> int:
    """Measure and print the table, or say why not.

    Returns:
        Exit code: 0 if it worked, 1 if a server or the system failed, 2 after a mistake.
    """
    try:
        rows = measure()
    except (ValueError, OSError, ServerError, httpx.HTTPError) as error:
        sys.stderr.write(f"{in_words(error)}\n")
        return 2 if isinstance(error, ValueError) else 1
    sys.stdout.write(f"{format_table(rows)}\n")
    return 0


def format_table(rows: Sequence[Row]) -> str:
    """Write the rows as a Markdown table with columns of even width."""
    head, *lines = ("where", "what", "measured", "goal, at most"), *(row.cells() for row in rows)
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    padded = (map(str.ljust, cells, widths) for cells in (head, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
