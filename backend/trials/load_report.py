"""What the runs of a load test came to, side by side, with the goals."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from backend.trials.load_records import Records, Sample
from backend.trials.load_watch import PROBE

WARM_UP = 1 / 3
"""Share of a run after which memory should not grow any more."""
END = 0.1
"""Share of a run at its end, and after the warm-up, whose mean memory is compared."""


@dataclass(frozen=True)
class Line:
    """One quantity of all runs."""

    what: str
    goal: float  # largest value wanted; infinite: none
    digits: int
    values: Sequence[float]

    def cells(self) -> list[str]:
        """Write it as text; what misses the goal is bold."""
        goal = "" if math.isinf(self.goal) else f"{self.goal:g}"
        return [self.what, goal, *(self._cell(value) for value in self.values)]

    def _cell(self, value: float) -> str:
        if math.isnan(value):
            return ""
        text = f"{value:.{self.digits}f}"
        return f"**{text}**" if value > self.goal else text


def report(runs: Mapping[int, Records]) -> str:
    """Write a Markdown table, a column for each number of annotators."""
    each = [_figures(records, annotators) for annotators, records in runs.items()]
    lines = [
        Line(what, goal, digits, [figures[what] for figures in each])
        for what, (goal, digits) in _ROWS.items()
    ]
    rows = [["annotators at once", "goal", *map(str, runs)], *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def holds(records: Records) -> bool:
    """Whether nothing failed and no stroke was lost."""
    figures = _figures(records, 1)
    return figures["errors"] == figures["strokes lost"] == 0


_NONE = math.inf
_ROWS: dict[str, tuple[float, int]] = {  # the goal, and digits behind the point
    "minutes": (_NONE, 1),
    "tasks finished": (_NONE, 0),
    "answers": (_NONE, 0),
    "answer, median s": (_NONE, 1),
    "answer, p95 s": (10, 1),
    "answer, max s": (_NONE, 1),
    "after its strokes were saved, median s": (_NONE, 1),
    "after its strokes were saved, p95 s": (_NONE, 1),
    "answers that say: ask again": (0, 0),
    "strokes": (_NONE, 0),
    "strokes lost": (0, 0),
    "requests": (_NONE, 0),
    "errors": (0, 0),
    "slowest annotator's mean / the median one's": (1.5, 2),
    "/health, median ms": (_NONE, 0),
    "/health, p95 ms": (100, 0),
    "/health, max ms": (100, 0),
    "backend, MB at the end": (_NONE, 0),
    "backend, growth after the warm-up, MB": (_NONE, 0),
    "Label Studio, MB at the end": (_NONE, 0),
    "processor: backend, %": (_NONE, 0),
    "processor: Label Studio, %": (_NONE, 0),
    "processor: the players, %": (_NONE, 0),
    "processor: other programs, %": (_NONE, 0),
}


def _figures(records: Records, annotators: int) -> dict[str, float]:
    answers = records.answers
    seconds = [answer.seconds for answer in answers]
    worked_s = [answer.seconds - answer.late_s for answer in answers]
    probes_ms = [1000 * one.seconds for one in records.requests if one.who == PROBE]
    backend, label_studio = _of(records, "backend"), _of(records, "Label Studio")
    refused = sum(not 200 <= one.status < 400 for one in records.requests)  # noqa: PLR2004 - HTTP
    return {
        "minutes": records.samples[-1].at_s / 60 if records.samples else math.nan,
        "tasks finished": len(records.finished),
        "answers": len(answers),
        "answer, median s": _percentile(seconds, 50),
        "answer, p95 s": _percentile(seconds, 95),
        "answer, max s": _percentile(seconds, 100),
        "after its strokes were saved, median s": _percentile(worked_s, 50),
        "after its strokes were saved, p95 s": _percentile(worked_s, 95),
        "answers that say: ask again": sum(answer.put_off for answer in answers),
        "strokes": sum(_last_of_each_task(records)),
        "strokes lost": sum(answer.lost for answer in answers),
        "requests": len(records.requests),
        "errors": max(len(records.errors), refused),  # a refusal is told as an error, too
        "slowest annotator's mean / the median one's": _unfairness(records, annotators),
        "/health, median ms": _percentile(probes_ms, 50),
        "/health, p95 ms": _percentile(probes_ms, 95),
        "/health, max ms": _percentile(probes_ms, 100),
        "backend, MB at the end": _mean_mb(backend, 1 - END),
        "backend, growth after the warm-up, MB": _mean_mb(backend, 1 - END)
        - _mean_mb(backend, WARM_UP),
        "Label Studio, MB at the end": _mean_mb(label_studio, 1 - END),
        **_shares(records),
    }


def _last_of_each_task(records: Records) -> Iterable[int]:
    return {answer.task: answer.strokes for answer in records.answers}.values()


def _unfairness(records: Records, annotators: int) -> float:
    """Mean wait of the slowest annotator, as a multiple of the median annotator's."""
    waits: dict[str, list[float]] = {}
    for answer in records.answers:
        waits.setdefault(answer.who, []).append(answer.seconds - answer.late_s)
    means = [fmean(one) for one in waits.values()]
    return max(means) / median(means) if means and annotators > 1 else math.nan


def _of(records: Records, server: str) -> list[Sample]:
    return [sample for sample in records.samples if sample.server == server]


def _mean_mb(samples: Sequence[Sample], begin: float) -> float:
    """Mean memory over a tenth of the run that begins after this share of it."""
    if not samples:
        return math.nan
    first = min(int(begin * len(samples)), len(samples) - 1)
    chosen = samples[first : max(first + 1, first + round(END * len(samples)))]
    return fmean(sample.rss_mb for sample in chosen)


def _shares(records: Records) -> dict[str, float]:
    """Processor time of each in percent of what all cores have."""
    used = {"backend": 0.0, "Label Studio": 0.0, "players": 0.0, "machine": 0.0}
    seconds = 0.0
    for server in used:
        if samples := _of(records, server):
            used[server] = samples[-1].cpu_s - samples[0].cpu_s
            seconds = max(seconds, samples[-1].at_s - samples[0].at_s)
    others = used.pop("machine") - sum(used.values())
    full = seconds * (os.cpu_count() or 1)
    named = {f"processor: {name}": value for name, value in used.items()}
    named = {name.replace("players", "the players"): value for name, value in named.items()}
    named["processor: other programs"] = max(0.0, others)
    return {f"{name}, %": 100 * value / full if full else math.nan for name, value in named.items()}


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else math.nan
